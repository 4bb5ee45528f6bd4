"""What every stopping rule of the table keeps to, whatever it looks at. A rule that is registered
later is tested without a line here."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import annotated_types
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticUndefined
from sweep.in_process import formula, machine, make_space

from ckconv_sweep.config.history import Epoch, Go, Stop, Verdict
from ckconv_sweep.config.stopping import RULES, NoScheduler, StoppingRule
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.search.rules import Curve, Curves

EPOCHS = 9
each_rule = pytest.mark.parametrize("name", RULES)
sweeps = st.integers(0, 10_000)


def soonest(name: str) -> StoppingRule:
    """A rule with the settings that let it judge as soon as it can."""
    chosen: dict[str, Any] = {}
    for setting, about in RULES[name].model_fields.items():
        least = [m.ge for m in about.metadata if isinstance(m, annotated_types.Ge)]
        if least and about.annotation is int:
            chosen[setting] = least[0]
        elif about.default is PydanticUndefined:
            chosen[setting] = 0.0
        elif isinstance(about.default, StoppingRule):
            chosen[setting] = soonest(about.default.name)
    return RULES[name](**chosen)


def verdict(rule: StoppingRule, curves: Curves, number: int, mode: str = "max") -> Verdict:
    answer: Verdict = RULES.maker(rule.name)(rule, curves, number, mode)
    return answer


@dataclass
class Sweep:
    """Trials of some epochs side by side, which obey a rule."""

    rule: StoppingRule
    seed: int
    sign: int = 1
    """-1: the same sweep, whose metric is better where it is less."""
    trials: int = 8
    curves: Curves = field(default_factory=lambda: Curves({}))

    def run(self) -> Any:
        """Goes through the epochs: yields a trial's number and what the rule answered."""
        draws, running = random.Random(self.seed), []
        mode = "max" if self.sign == 1 else "min"
        while len(self.curves) < self.trials or running:
            if len(self.curves) < self.trials and len(running) < 3:
                number = 2 * len(self.curves)
                running.append(number)
                self.curves[number] = Curve([])
            number = draws.choice(running)
            epoch = len(self.curves[number].values) + 1
            # Around zero, with ties.
            level = random.Random(number + self.seed).gauss(0.0, 1.0)
            value = round(level - 1 / epoch + draws.gauss(0.0, 0.3), 1)
            self.curves.add(number, self.sign * value)
            if epoch == EPOCHS:
                self.curves.complete(number)
                running.remove(number)
                continue
            answer = verdict(self.rule, self.curves, number, mode)
            yield number, answer
            if answer != Go():
                running.remove(number)


@each_rule
def test_it_ends_some_trials_of_a_sweep(name: str) -> None:
    ended = any(answer != Go() for _, answer in Sweep(soonest(name), seed=1, trials=24).run())
    assert ended == (RULES[name] is not NoScheduler)


@each_rule
@given(seed=sweeps)
def test_the_same_records_give_the_same_answer_in_whatever_order_they_came(
    name: str, seed: int
) -> None:
    """Also after a kill at any epoch: what was kept up to date answers as what is read anew."""
    sweep = Sweep(soonest(name), seed)
    draws = random.Random(seed)
    for number, answer in sweep.run():
        trials = [(n, Curve([*c.values], c.completed)) for n, c in sweep.curves.items()]
        draws.shuffle(trials)
        again = Curves(dict(trials))
        assert verdict(sweep.rule, again, number) == answer
        assert dict(again) == dict(sweep.curves) == dict(trials)  # and nothing is changed by it


@each_rule
@given(seed=sweeps)
def test_less_is_better_is_the_mirror_of_more_is_better(name: str, seed: int) -> None:
    rule = soonest(name)
    there, mirrored = ([*Sweep(rule, seed, sign=sign).run()] for sign in (1, -1))
    assert [(n, type(a)) for n, a in there] == [(n, type(a)) for n, a in mirrored]


@each_rule
@given(seed=sweeps)
def test_a_trial_without_a_rival_goes_on(name: str, seed: int) -> None:
    """The only trial, and the one that has the best value of all that reached its epoch."""
    rule = soonest(name)
    if not rule.needs_rivals:
        return
    sweep = Sweep(rule, seed)
    for number, _ in sweep.run():
        values = sweep.curves[number].values
        assert verdict(rule, Curves({number: Curve([*values])}), number) == Go()
        top = max(
            c.values[len(values) - 1] for c in sweep.curves.values() if len(c.values) >= len(values)
        )
        best = Curve([*values[:-1], top])
        assert verdict(rule, Curves({**sweep.curves, number: best}), number) == Go()


@each_rule
@pytest.mark.parametrize("sign", [1, -1])
def test_a_reason_has_the_rule_the_epoch_the_value_and_the_bound(name: str, sign: int) -> None:
    sweep = Sweep(soonest(name), seed=1, sign=sign, trials=24)
    for number, answer in sweep.run():
        if not isinstance(answer, Stop):
            continue
        values = sweep.curves[number].values
        start, rest = answer.reason[: len(name) + 20], answer.reason.partition(": ")[2]
        assert start.startswith(f"{name}, epoch {len(values)}: ")
        best = max(values, key=lambda value: sign * value)
        assert any(f"{value:.4g}" in rest.partition(";")[0] for value in (values[-1], best))
        bound = re.search(r"(one had|had|needs) -?\d[\d.e+-]*( or more| or less)?", rest)
        assert bound is not None
        side = "" if bound[1] == "one had" else " or more" if sign == 1 else " or less"
        assert (bound[2] or "") == side
        assert "\n" not in answer.reason


@each_rule
@given(seed=sweeps, grace=st.integers(1, 5))
def test_no_trial_ends_before_the_first_epoch_that_a_rule_names(
    name: str, seed: int, grace: int
) -> None:
    rule = soonest(name)
    if rule.grace_setting in type(rule).model_fields:
        rule = rule.model_copy(update={rule.grace_setting: grace})
    sweep = Sweep(rule, seed)
    for number, answer in sweep.run():
        judged = len(sweep.curves[number].values) >= rule.first_epoch
        assert judged or answer == Go()


@each_rule
def test_the_setting_that_gives_more_time_is_one_of_its_settings(name: str) -> None:
    rule = soonest(name)
    if rule.grace_setting is not None:
        one, more = (rule.model_copy(update={rule.grace_setting: value}) for value in (1, 9))
        assert more.first_epoch > one.first_epoch
        assert rule.grace_setting in more.note(epochs=more.first_epoch)
        assert not more.note(epochs=100)


# In a sweep


def written(name: str) -> str:
    return str(soonest(name).model_dump(mode="json")).replace("'", "")


def by_seed(trial: Trial, number: int) -> Epoch:
    """The first trial is the best; a loss says nothing of it."""
    accuracy = 0.9 - (trial.training.seed - 5) / 20
    loss = formula(trial, number).metrics["val/loss"]
    return Epoch(
        number=number, metrics={"val/accuracy": accuracy, "val/loss": loss}, timestamp_ms=1
    )


def judged(one: Any) -> list[tuple[int, str, int]]:
    return [(r.number, r.outcome, len(r.history)) for r in one.records() if r.repeat_of is None]


@each_rule
def test_of_several_metrics_the_first_one_is_judged(name: str, disk: Path) -> None:
    found = []
    for metrics in ("[{name: val/accuracy}]", "[{name: val/accuracy}, {name: val/loss}]"):
        rule = written(name).replace("bound: 0.0", "bound: 0.8")
        space = make_space(scheduler=rule, trials=4, epochs=4, metrics=metrics)
        one = machine(disk / str(len(metrics)), space, work=by_seed, concurrency=2)
        assert one.run()
        found.append(judged(one))
    assert found[0] == found[1]
    assert any(outcome != "completed" for _, outcome, _ in found[0]) == (name != "none")


LEARNING_RATE = "  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}"


@each_rule
def test_a_rule_judges_settings_and_its_answers_outlive_any_kill(name: str, disk: Path) -> None:
    """Of a setting that is trained twice the first trial alone is judged."""
    rule = written(name).replace("bound: 0.0", "bound: 0.88")
    if soonest(name).kept_epochs:  # its kills: tests/sweep/test_population.py
        with pytest.raises(ConfigError, match="cannot be repeated with another seed"):
            make_space(scheduler=rule, search=LEARNING_RATE, repeats="{seeds: 2}")
        return
    space = make_space(scheduler=rule, trials=2, epochs=3, repeats="{seeds: 2}")
    straight, killed = (machine(disk / where, space, work=by_seed) for where in ("one", "two"))
    assert straight.run()
    going_on = True
    while going_on:
        with killed.session() as session:  # ends after a new epoch
            before = killed.executed.total()
            while going_on and killed.executed.total() == before:
                going_on = session.step()
    assert killed.result() == straight.result()
    records = straight.records()
    for record in records:
        if record.repeat_of is not None:
            of = records[record.repeat_of].outcome
            assert record.outcome == of or (record.outcome, of) == ("completed", "pruned")
