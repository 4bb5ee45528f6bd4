"""The simulator: against sums written out, a sweep that really ran, and on random curves."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sweep.in_process import machine, make_space

from ckconv_sweep.config.domains import from_unit
from ckconv_sweep.config.history import Epoch, Go, Stop
from ckconv_sweep.config.sampling import SAMPLERS, Grid, Random, Sampler, Tpe
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import (
    RULES,
    Asha,
    NoScheduler,
    Patient,
    Pbt,
    StoppingRule,
    Threshold,
)
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.search.curve_table import CurveTable, of_sweep
from ckconv_sweep.search.from_table import Nearest, simulate_sampler
from ckconv_sweep.search.rules import Curve, Curves, verdict_of
from ckconv_sweep.search.simulator import (
    Simulated,
    in_random_order,
    in_recorded_order,
    simulate,
)

ASHA = "{name: asha, grace_epochs: 1, reduction_factor: 2}"


def with_defaults() -> list[StoppingRule]:
    """Every rule that needs no setting, and some with settings; none that continues trials."""
    rules: list[StoppingRule] = [Asha(grace_epochs=2, reduction_factor=2)]
    for row in RULES.values():
        try:
            rules.append(row.model_validate({"name": row.model_fields["name"].default}))
        except ValidationError:
            continue
    return [rule for rule in rules if not rule.kept_epochs]


def recorded(
    values: Sequence[float], number: int, seconds: Sequence[float] | float = 1.0, **more: Any
) -> TrialRecord:
    """A completed trial."""
    took = [seconds] * len(values) if isinstance(seconds, float) else seconds
    history = tuple(
        Epoch(number=i, metrics={"val/accuracy": v, "time/epoch_seconds": s}, timestamp_ms=i)
        for i, (v, s) in enumerate(zip(values, took, strict=True), start=1)
    )
    params = {"optimizer.learning_rate": 1e-3}
    given = {"outcome": "completed", "params": params, "reason": "epochs"} | more
    return TrialRecord(number=number, history=history, **given)


def lengths(swept: Simulated) -> dict[int, int]:
    return {trial.begun.number: trial.epochs for trial in swept.trials}


# Against sums written out


def test_a_tiny_sweep_at_two_places_is_as_counted_by_hand() -> None:
    """asha judges at epochs 1, 2 and 4. Epochs end, in virtual time:

    1.0  t0 epoch 1: 0.5, the only one: goes on
    2.0  t1 epoch 1, which began before the other epoch that ends now: 0.9 of (0.5, 0.9): goes on;
         then t0 epoch 2: 0.6, the only one: goes on
    3.0  t0 epoch 3 ends it: completed. t2 begins
    3.5  t2 epoch 1: 0.4 of (0.4, 0.5, 0.9): the best one has 0.9: stopped. t3 begins
    4.0  t1 epoch 2: 0.95 of (0.6, 0.95): goes on
    5.5  t3 epoch 1: 0.9 of (0.4, 0.5, 0.9, 0.9): the best two have 0.9: goes on
    6.0  t1 epoch 3 ends it
    7.5  t3 epoch 2: 0.1 of (0.1, 0.6, 0.95): stopped
    """
    records = [
        recorded([0.5, 0.6, 0.7], 0, 1.0),
        recorded([0.9, 0.95, 0.8], 1, 2.0),
        recorded([0.4, 1.0, 1.0], 2, 0.5),
        recorded([0.9, 0.1, 1.0], 3, 2.0),
    ]
    swept = simulate(make_space(scheduler=ASHA, epochs=3), in_recorded_order(records), places=2)
    assert [(s.seconds, s.number, s.epoch, type(s.verdict)) for s in swept.steps] == [
        (1.0, 0, 1, Go),
        (2.0, 1, 1, Go),
        (2.0, 0, 2, Go),
        (3.0, 0, 3, type(None)),
        (3.5, 2, 1, Stop),
        (4.0, 1, 2, Go),
        (5.5, 3, 1, Go),
        (6.0, 1, 3, type(None)),
        (7.5, 3, 2, Stop),
    ]  # fmt: skip
    assert (swept.epochs, swept.seconds) == (9, 7.5)
    assert [(t.begun.number, t.started, t.ended, t.stop is None) for t in swept.trials] == [
        (0, 0.0, 3.0, True), (2, 3.0, 3.5, False), (1, 0.0, 6.0, True), (3, 3.5, 7.5, False),
    ]  # fmt: skip
    assert [len(t.record.history) for t in swept.trials] == [3, 1, 3, 2]
    assert {t.record.outcome for t in swept.trials if t.stop} == {"pruned"}


def naive(space: Space, records: Sequence[TrialRecord], places: int) -> list[tuple[Any, ...]]:
    """The same in a plain way: the curves that a rule sees are made anew for each question."""
    waiting, done = list(records), list[tuple[Any, ...]]()
    running: list[tuple[float, int, TrialRecord, int]] = []
    shown: dict[int, list[float]] = {}
    whole: set[int] = set()
    now, turn = 0.0, 0
    while waiting or running:
        while waiting and len(running) < places:
            record = waiting.pop(0)
            shown[record.number] = []
            seconds = record.history[0].metrics["time/epoch_seconds"]
            running.append((now + seconds, turn, record, 0))
            turn += 1
        now, _, record, epoch = one = min(running, key=lambda r: r[:2])
        running.remove(one)
        shown[record.number].append(record.history[epoch].metrics["val/accuracy"])
        if epoch + 1 == len(record.history):
            whole.add(record.number)
            done.append((now, record.number, epoch + 1, None))
            continue
        curves = Curves({n: Curve(list(v), completed=n in whole) for n, v in shown.items()})
        verdict = verdict_of(space, curves, record.number)
        done.append((now, record.number, epoch + 1, verdict))
        if verdict == Go():
            after = now + record.history[epoch + 1].metrics["time/epoch_seconds"]
            running.append((after, turn, record, epoch + 1))
            turn += 1
    return done


def random_curves(draws: random.Random, trials: int, epochs: int) -> list[TrialRecord]:
    """Noisy ones that rise to a level of their own, with ties in values and times."""
    out = []
    for number in range(trials):
        level, pace = draws.random(), draws.choice([0.5, 0.7, 0.9])
        values = [
            round(level * (1 - pace**e) + draws.gauss(0, 0.05), 1) for e in range(1, epochs + 1)
        ]
        seconds = [draws.choice([0.5, 1.0, 1.5]) for _ in values]
        out.append(recorded(values, number, seconds))
    return out


@pytest.mark.parametrize("rule", with_defaults(), ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_the_plain_loop_gives_and_no_trial_runs_on_after_a_stop(
    rule: StoppingRule, seed: int
) -> None:
    draws = random.Random(seed)
    epochs, places = draws.choice([1, 4, 9]), draws.choice([1, 2, 5, 60])
    records = random_curves(draws, 40, epochs)
    space = replace(make_space(epochs=epochs), scheduler=rule)
    swept = simulate(space, in_recorded_order(records), places=places)
    assert [(s.seconds, s.number, s.epoch, s.verdict) for s in swept.steps] == naive(
        space, records, places
    )
    assert swept.epochs <= sum(len(record.history) for record in records)
    assert [s.seconds for s in swept.steps] == sorted(s.seconds for s in swept.steps)
    ended = set[int]()
    for step in swept.steps:
        assert step.number not in ended
        if not isinstance(step.verdict, Go):
            ended.add(step.number)
    assert ended == set(range(40)) == lengths(swept).keys()
    for trial in swept.trials:
        asked = [s for s in swept.steps if s.number == trial.begun.number]
        assert [s.epoch for s in asked] == list(range(1, trial.epochs + 1))
        assert trial.stop == (asked[-1].verdict if trial.epochs < epochs else None)
    running = sorted([(t.started, 1) for t in swept.trials] + [(t.ended, -1) for t in swept.trials])
    assert max(np.cumsum([change for _, change in running])) <= places


# Against a sweep that really ran


SPACE = make_space(trials=16, epochs=6)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> CurveTable:
    """The curves of a sweep without a rule."""
    one = machine(tmp_path_factory.mktemp("full"), SPACE, concurrency=1)
    assert one.run()
    return of_sweep("full", one.records(), SPACE)


@pytest.mark.parametrize("rule", with_defaults(), ids=str)
def test_a_sweep_gives_the_verdicts_that_its_full_curves_give_at_one_place(
    rule: StoppingRule, full: CurveTable, disk: Path
) -> None:
    stopping = replace(SPACE, scheduler=rule)
    swept = simulate(stopping, in_recorded_order(full.records))
    real = machine(disk, stopping, concurrency=1)
    assert real.run()
    assert {t.begun.number: (t.record.outcome, t.epochs, t.stop) for t in swept.trials} == {
        r.number: (r.outcome, len(r.history), r.verdict) for r in real.records()
    }


# Repeats: a rule judges settings, by their first trials


def test_repeats_end_with_their_setting_or_never_begin() -> None:
    space = make_space(scheduler=ASHA, epochs=3, repeats="{seeds: 2}")
    records = [
        recorded([0.9, 0.9, 0.9], 0),
        recorded([0.1, 0.1, 0.1], 1, repeat_of=0),
        recorded([0.5, 0.5, 0.5], 2),
        recorded([0.5, 0.5, 0.5], 3, repeat_of=2),
    ]
    one = simulate(space, in_recorded_order(records), places=1)
    assert lengths(one) == {0: 3, 1: 3, 2: 1}  # a repeat is not judged; 3 does not begin
    slow = replace(
        records[2],
        history=tuple(
            replace(e, metrics=e.metrics | {"time/epoch_seconds": 2.0}) for e in records[2].history
        ),
    )
    two = simulate(space, in_recorded_order([*records[:2], slow, records[3]]), places=4)
    assert lengths(two) == {0: 3, 1: 3, 2: 1, 3: 2}
    (stopped,) = (t.stop for t in two.trials if t.begun.number == 3)
    assert stopped == Stop("t002, whose setting it repeats, was pruned")


@pytest.mark.parametrize("seed", range(3))
def test_a_random_order_has_each_trial_once_with_its_repeats(seed: int) -> None:
    records = [recorded([0.1 * n], n, repeat_of=n - 1 if n % 2 else None) for n in range(8)]
    swept = simulate(make_space(repeats="{seeds: 2}"), in_random_order(records, seed))
    assert [t.begun.number for t in swept.trials] == list(range(8))
    order = [t.begun.record.number for t in swept.trials]
    assert sorted(order) == list(range(8))
    assert order != list(range(8))
    assert [n + 1 for n in order[::2]] == order[1::2]
    assert [t.begun.repeat_of for t in swept.trials] == [None, 0, None, 2, None, 4, None, 6]


# What cannot be answered


def test_trials_that_did_not_run_to_their_end_are_left_out_and_told() -> None:
    space = make_space()
    records = [
        recorded([0.5], 0),
        recorded([0.5], 1, outcome="pruned"),
        recorded([0.5], 2, outcome="failed"),
        recorded([], 3, outcome="failed", reason="constraint"),
        recorded([0.5], 4, outcome="running"),
    ]
    table = of_sweep("some", records, space)
    assert [r.number for r in table.records] == [0]
    assert [told.partition(":")[0] for told in table.left_out] == [
        "1 of 4 trials were stopped",
        "2 of 4 trials failed or have not ended",
    ]
    with pytest.raises(ConfigError, match="none of its 3 trials ran to its end") as refused:
        of_sweep("some", records[1:], space)
    assert "--table digits" in str(refused.value)


def test_a_continuation_is_left_out_once_whatever_became_of_it() -> None:
    records = [
        recorded([0.5], 0),
        recorded([0.1], 1, outcome="continued"),
        recorded([0.5], 2, outcome="continued", replaces=1, from_trial=0, from_epoch=1),
        recorded([], 3, outcome="failed", replaces=2, from_trial=0, from_epoch=1),
        recorded([0.5], 4, replaces=3, from_trial=0, from_epoch=1),
    ]
    table = of_sweep("some", records, make_space())
    assert [r.number for r in table.records] == [0]
    assert [told.partition(" trials ")[0] for told in table.left_out] == ["3 of 5", "1 of 5"]


def test_a_repeat_of_a_trial_that_failed_is_left_out_and_told() -> None:
    """A rule judges settings by their first trials."""
    space = make_space(repeats="{seeds: 2}")
    records = [
        recorded([0.5], 0, outcome="failed"),
        recorded([0.6], 1, repeat_of=0),
        recorded([0.6], 2),
        recorded([0.6], 3, repeat_of=2),
    ]
    table = of_sweep("some", records, space)
    assert [r.number for r in table.records] == [2, 3]
    assert table.left_out == (
        "1 of 4 trials failed or have not ended: they are not replayed",
        "1 of 4 trials repeat one that did not run to its end: they are not replayed",
    )


def test_repeats_of_the_best_are_left_out_and_told() -> None:
    space = make_space(repeats="{seeds: 2, top: 1}")
    records = [recorded([0.5], 0), recorded([0.6], 1), recorded([0.6], 2, repeat_of=1)]
    table = of_sweep("some", records, space)
    assert [r.number for r in table.records] == [0, 1]
    assert table.left_out == (
        "the repeats of the best 1 settings are not replayed: which these are depends on the rule",
    )


def test_a_rule_that_continues_trials_is_refused() -> None:
    """Also where it would have continued none of the recorded ones."""
    space = replace(make_space(), scheduler=Pbt())
    with pytest.raises(ConfigError, match=r"^pbt: continues trials with other settings"):
        simulate(space, in_recorded_order([recorded([0.1, 0.2], 0)]))


def test_a_rule_that_makes_no_sense_for_the_metric_is_refused() -> None:
    space = replace(make_space(), scheduler=Patient(rule=Threshold(bound=2.0)))
    with pytest.raises(ConfigError, match=r"^patient: bound 2: no trial goes on, as val/accuracy"):
        simulate(space, in_recorded_order([recorded([0.1, 0.2], 0)]))


# A sampler on a table


def drawn_table(trials: int = 60, epochs: int = 4) -> CurveTable:
    """Settings at random; better, the nearer the learning rate is to 0.01."""
    space, draws = make_space(epochs=epochs, trials=trials), random.Random(1)
    records = []
    for number in range(trials):
        params = space.draw(lambda _, domain: from_unit(domain, draws.random()))
        level = 1.0 - abs(np.log10(float(str(params["optimizer.learning_rate"]))) + 2.0) / 3.0
        curve = [level * e / epochs for e in range(1, epochs + 1)]
        records.append(recorded(curve, number, params=params))
    return CurveTable(name="drawn", space=space, records=tuple(records))


@pytest.mark.parametrize("name", [n for n, row in SAMPLERS.items() if not row.ends])
def test_a_sampler_tries_each_setting_once_and_the_same_ones_again(name: str) -> None:
    table = drawn_table()
    sampler: Sampler = SAMPLERS[name].model_validate({"name": name, "seed": 4})
    if SAMPLERS[name].ranges_alone:
        with pytest.raises(ConfigError, match=f"sampler: {name} searches ranges alone"):
            simulate_sampler(table, sampler, NoScheduler())
        return
    once, again = (simulate_sampler(table, sampler, Asha(), trials=12, places=3) for _ in range(2))
    assert once.steps == again.steps
    tried = [trial.begun.record.number for trial in once.trials]
    assert len(set(tried)) == len(tried) == 12
    assert {trial.begun.number for trial in once.trials} == set(range(12))
    params = {record.number: record.params for record in table.records}
    assert all(t.record.params == params[t.begun.record.number] for t in once.trials)


def test_a_sampler_that_learns_finds_the_best_settings_sooner_than_chance() -> None:
    table = drawn_table(trials=150)
    best = {
        r.number
        for r in sorted(table.records, key=lambda r: -r.history[-1].metrics["val/accuracy"])[:15]
    }

    def found(sampler: Sampler) -> int:
        swept = simulate_sampler(table, sampler, NoScheduler(), trials=40)
        return sum(trial.begun.record.number in best for trial in swept.trials)

    by_chance = sum(found(Random(seed=seed)) for seed in range(3))
    assert sum(found(Tpe(seed=seed)) for seed in range(3)) >= 2 * by_chance > 0


def test_nothing_begins_once_a_trial_that_ran_to_its_end_has_reached_the_goal() -> None:
    table = drawn_table()
    whole = simulate_sampler(table, Random(), Asha())
    reached = [t.record.value(table.space.metric) for t in whole.trials if t.stop is None]
    goal = max(reached)
    ended = simulate_sampler(table, Random(), Asha(), goal=goal)
    assert ended.steps == whole.steps[: len(ended.steps)]
    assert [t.record.value(table.space.metric) >= goal for t in ended.trials if not t.stop] == [
        False
    ] * reached.index(goal) + [True]


def test_a_draw_stands_for_the_nearest_setting_that_was_not_tried() -> None:
    table = drawn_table()
    near, left = Nearest(table.space, table.records), {r.number: r for r in table.records}
    draws = random.Random(2)

    def apart(a: dict[str, Any], b: dict[str, Any]) -> float:
        total = (np.log10(a["optimizer.learning_rate"] / b["optimizer.learning_rate"]) / 3) ** 2
        total += ((a["model.dropout"] - b["model.dropout"]) / 0.4) ** 2  # 0, 0.1, 0.2, 0.3
        total += a["schedule"] != b["schedule"]
        name = "schedule.plateau.patience"
        if name in a and name in b:
            total += ((a[name] - b[name]) / 4) ** 2
        return float(total)

    for _ in range(len(table.records)):
        params = table.space.draw(lambda _, domain: from_unit(domain, draws.random()))
        taken = near.take(params)
        expected = min(left.values(), key=lambda r: apart(dict(params), dict(r.params)))
        assert apart(dict(params), dict(taken.params)) == pytest.approx(
            apart(dict(params), dict(expected.params))
        )
        del left[taken.number]
    assert not left


def test_what_a_table_cannot_give_a_sampler_is_refused() -> None:
    table = drawn_table(trials=8)
    with pytest.raises(ConfigError, match="9 trials are too many: there are 8 settings"):
        simulate_sampler(table, Random(), NoScheduler(), trials=9)
    with pytest.raises(ConfigError, match="grid"):
        simulate_sampler(table, Grid(), NoScheduler())
    repeated = replace(table, space=make_space(repeats="{seeds: 2}"))
    with pytest.raises(ConfigError, match="settings were trained several times"):
        simulate_sampler(repeated, Random(), NoScheduler())
