"""The stopping rules, by what they do to curves."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import optuna
import pytest
from drawing import new_trial
from optuna.pruners import (
    BasePruner,
    MedianPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)
from optuna.trial import TrialState
from sweep.in_process import machine, make_space
from thinned import first

from ckconv_sweep.config.history import Epoch, Go, Stop
from ckconv_sweep.config.stopping import (
    RULES,
    Asha,
    Hyperband,
    Median,
    Patient,
    Percentile,
    StoppingRule,
    Threshold,
)
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.search.rules import Curve, Curves, asha, hyperband, patient, percentile

ASHA = "{name: asha, grace_epochs: 2, reduction_factor: 3}"


def level(trial: Trial, number: int) -> Epoch:
    """A trial's accuracy follows from its seed: 5 for the first, the earlier the better."""
    accuracy = 1.0 - (trial.training.seed - 5) / 100 + number / 1000
    return Epoch(
        number=number,
        metrics={"val/accuracy": accuracy, "val/loss": 1 - accuracy},
        timestamp_ms=number,
    )


def test_asha_stops_trials_at_its_rungs_only(disk: Path) -> None:
    one = machine(disk, make_space(scheduler=ASHA, trials=9, epochs=20), work=level, concurrency=3)
    assert one.run()
    lengths = {r.number: len(r.history) for r in one.records() if r.outcome == "pruned"}
    assert lengths
    assert set(lengths.values()) <= {2, 6, 18}
    assert all(len(r.history) == 20 for r in one.records() if r.outcome == "completed")


def test_asha_lets_one_of_reduction_factor_trials_go_on(disk: Path) -> None:
    """One after the other, each worse than all before it: only the first is promoted."""
    one = machine(disk, make_space(scheduler=ASHA, trials=9, epochs=8), work=level, concurrency=1)
    assert one.run()
    assert [len(r.history) for r in one.records()] == [8] + [2] * 8


def test_asha_remembers_its_rungs_when_the_study_is_opened_again(disk: Path) -> None:
    space = make_space(scheduler=ASHA, trials=9, epochs=8)
    one = machine(disk / "one", space, work=level, concurrency=1)
    going_on, drivers = True, 0
    while going_on:
        with one.session() as session:  # ends after a new epoch
            before = one.executed.total()
            while going_on and one.executed.total() == before:
                going_on = session.step()
        drivers += 1
    assert drivers == 8 + 8 * 2 + 1
    straight = machine(disk / "straight", space, work=level, concurrency=1)
    straight.run()
    assert one.result() == straight.result()
    assert [len(r.history) for r in one.records()] == [8] + [2] * 8


def test_median_stops_a_trial_below_the_median_after_its_warm_up(disk: Path) -> None:
    rule = "{name: median, startup_trials: 3, warmup_epochs: 2}"
    one = machine(disk, make_space(scheduler=rule, trials=6, epochs=5), work=level, concurrency=1)
    assert one.run()
    records = one.records()
    assert [r.outcome for r in records] == ["completed"] * 3 + ["pruned"] * 3
    # Each is worse than all before it: it is stopped at the first epoch that is judged.
    assert {len(r.history) for r in records[3:]} == {3}


def test_a_rule_follows_the_direction_of_the_metric(disk: Path) -> None:
    space = make_space(scheduler=ASHA, trials=6, epochs=8)
    from dataclasses import replace

    metric = space.metric.model_copy(update={"name": "val/loss", "mode": "min"})
    lower = replace(space, trial=space.trial.model_copy(update={"metric": metric}))
    one = machine(disk, lower, work=level, concurrency=1)
    assert one.run()
    assert [len(r.history) for r in one.records()] == [8] + [2] * 5


def test_the_last_epoch_of_a_trial_is_never_pruned(disk: Path) -> None:
    """The rung at epoch 2 is the end: all have run to their own end."""
    one = machine(disk, make_space(scheduler=ASHA, trials=6, epochs=2), work=level, concurrency=1)
    assert one.run()
    assert {r.outcome for r in one.records()} == {"completed"}


# Recorded before it is obeyed


@pytest.mark.fault("stop-recorded")
def test_a_stop_is_obeyed_after_a_kill_before_any_write(disk: Path) -> None:
    space = make_space(scheduler=ASHA, trials=9, epochs=8)
    undisturbed = machine(disk / "undisturbed", space, work=level, concurrency=3)
    photographs = undisturbed.run_and_photograph(disk / "killed")
    stops = 0
    for one in photographs:
        held = {
            r.number: len(r.history)
            for r in one.records()
            if r.outcome == "running" and isinstance(r.verdict, Stop)
        }
        if held:
            assert one.run()
            after = {r.number: (r.outcome, len(r.history)) for r in one.records()}
            assert {n: after[n] for n in held} == {n: ("pruned", e) for n, e in held.items()}
            stops += len(held)
    assert stops >= sum(r.outcome == "pruned" for r in undisturbed.records()) >= 5


@pytest.mark.fault("stop-recorded")
def test_what_was_answered_once_is_not_asked_again(disk: Path) -> None:
    """The best third changes while a trial waits for its resume; its Go stays."""
    space = make_space(scheduler=ASHA, trials=3, epochs=8)
    one = machine(disk, space, work=level, concurrency=1)
    with one.session() as session:
        while one.executed[0, 2] == 0:
            session.step()
    with one.folder.records.create(space) as study:
        assert study.trial(0).verdict == Go()
        for number in range(1, 4):  # trials that are far better at its last epoch
            new_trial(study)
            for epoch in (1, 2):
                metrics = {"val/accuracy": 2.0, "val/loss": 0.0}
                better = Epoch(number=epoch, metrics=metrics, timestamp_ms=epoch)
                study.add_epoch(number, better, 2.0, verdict=Go())
            study.end(number, "failed", reason="error")
        judge = Curve([e.metrics["val/accuracy"] for e in study.trial(0).history])
        others = {n: Curve([2.0, 2.0]) for n in (1, 2, 3)}
    curves = Curves({0: judge, **others})
    assert isinstance(asha(space.scheduler, curves, 0, "max"), Stop)
    assert one.run()
    assert len(one.records()[0].history) > 2


def test_an_answer_says_why_in_numbers() -> None:
    curves = Curves({n: Curve([0.5, 0.6 + n / 100]) for n in range(6)})
    rule = Asha(grace_epochs=2, reduction_factor=3)
    assert asha(rule, curves, 5, "max") == Go()
    assert asha(rule, curves, 0, "max") == Stop(
        "asha, epoch 2: 0.6; of the 6 trials that reached this epoch the best 2 had 0.64 or more"
    )
    ended = {n: Curve([0.5, 0.6 + n / 100], completed=True) for n in range(5)}
    curves = Curves(ended | {9: Curve([0.1, 0.3])})
    assert percentile(Median(), curves, 9, "max") == Stop(
        "median, epoch 2: at best 0.3 so far; half of the 5 completed trials had 0.62 or more at "
        "this epoch"
    )


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_the_first_epochs_of_a_warm_up_are_not_judged_and_the_next_one_is(warmup: int) -> None:
    rule = Median(startup_trials=1, warmup_epochs=warmup)
    ended = Curve([1.0] * 9, completed=True)
    stopped = [
        isinstance(percentile(rule, Curves({0: ended, 1: Curve([0.0] * epoch)}), 1, "max"), Stop)
        for epoch in range(1, 7)
    ]
    assert stopped == [epoch > warmup for epoch in range(1, 7)]


# Brackets


def test_as_many_trials_are_in_each_bracket_as_in_hyperbands_algorithm_1() -> None:
    """Of 81 epochs with a factor of 3 (Li et al. 2018, table 1): 81, 34, 15, 8 and 5 trials."""
    rule = Hyperband(brackets=5)
    for stride in (1, 2, 3, 5):  # the first trials of settings that have repeats
        amounts = Counter(rule.bracket(stride * number) for number in range(143))
        assert [amounts[k] for k in range(5)] == pytest.approx([81, 34, 15, 8, 5], abs=2)
    assert {Hyperband(brackets=1).bracket(number) for number in range(100)} == {0}
    assert [rule.grace_of(k) for k in range(5)] == [1, 3, 9, 27, 81]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_hyperband_is_asha_among_the_trials_of_a_bracket(mode: str) -> None:
    rule, draws = Hyperband(grace_epochs=2, reduction_factor=2, brackets=3), random.Random(0)
    curves = Curves({n: Curve([draws.gauss() for _ in range(1 + n % 12)]) for n in range(400)})
    stops = Counter[int]()
    for number in curves:
        k = rule.bracket(number)
        alone = Curves({n: c for n, c in curves.items() if rule.bracket(n) == k})
        as_asha = Asha(grace_epochs=rule.grace_of(k), reduction_factor=rule.reduction_factor)
        ours, its = (
            f(r, c, number, mode) for f, r, c in ((hyperband, rule, curves), (asha, as_asha, alone))
        )
        assert type(ours) is type(its)
        stops[k] += isinstance(ours, Stop)
    assert min(stops[k] for k in range(3)) >= 2


# A rule that is held back


@pytest.mark.parametrize("epochs", [1, 3, 4])
@pytest.mark.parametrize(
    "inner",
    [
        Asha(reduction_factor=2),
        Asha(grace_epochs=6),
        Hyperband(grace_epochs=2, reduction_factor=2),
        Median(startup_trials=1),
        Threshold(bound=0.5, warmup_epochs=5),
    ],
    ids=lambda rule: rule.name,
)
def test_a_patient_rule_names_the_first_epoch_at_which_it_stops_a_trial(
    inner: StoppingRule, epochs: int
) -> None:
    """A trial that never gets better, among others that are; under each number in turn."""
    rule = Patient(epochs=epochs, rule=inner)
    good = {n: Curve([1.0] * 30, completed=True) for n in range(40, 60)}

    def stopped(number: int, epoch: int) -> bool:
        tried = Curves({**good, number: Curve([0.0] * epoch)})
        return isinstance(patient(rule, tried, number, "max"), Stop)

    first = min(epoch for epoch in range(1, 30) if any(stopped(n, epoch) for n in range(8)))
    assert rule.first_epoch == first
    assert "can prune no trial" in rule.note(first)
    assert "can prune no trial" not in rule.note(first + 1)


def test_a_patient_rule_stops_what_the_other_one_would_once_it_gets_no_better() -> None:
    rule = Patient(epochs=2, min_delta=0.05)
    for values, stopped in (
        ([0.1, 0.1], False),  # for one epoch only
        ([0.1, 0.1, 0.1], True),
        ([0.1, 0.2, 0.1], False),
        ([0.1, 0.14, 0.12], True),  # better, but not by min_delta
        ([0.1, 0.2, 0.1, 0.2], True),
        ([0.1, 0.95, 0.1, 0.1, 0.1], False),  # which median would let go on
    ):
        for mode, sign in (("max", 1), ("min", -1)):
            ended = {n: Curve([sign * 0.9] * 9, completed=True) for n in range(5)}
            tried = Curve([sign * value for value in values])
            answer = patient(rule, Curves({**ended, 9: tried}), 9, mode)
            assert isinstance(answer, Stop) == stopped
    ended = {n: Curve([0.9] * 9, completed=True) for n in range(5)}
    assert patient(rule, Curves({**ended, 9: Curve([0.1, 0.14, 0.12])}), 9, "max") == Stop(
        "patient, epoch 3: 0.12; no better than 0.1 for 2 epochs; median, epoch 3: at best 0.14 "
        "so far; half of the 5 completed trials had 0.9 or more at this epoch"
    )
    one = patient(Patient(epochs=1), Curves({**ended, 9: Curve([0.1, 0.1])}), 9, "max")
    assert isinstance(one, Stop)
    assert "no better than 0.1 for 1 epoch;" in one.reason


# Against Optuna's own, which write to their study while they answer


def optunas_own(rule: StoppingRule, mode: str) -> BasePruner:
    """Optuna counts its steps from 0, we count epochs from 1."""
    match rule:
        case Asha():
            return SuccessiveHalvingPruner(
                min_resource=rule.grace_epochs, reduction_factor=rule.reduction_factor
            )
        case Percentile():
            return PercentilePruner(rule.percentile, rule.startup_trials, rule.warmup_epochs + 1)
        case Median():
            return MedianPruner(rule.startup_trials, rule.warmup_epochs + 1)
        case Threshold():
            bound = {"lower" if mode == "max" else "upper": rule.bound}
            return ThresholdPruner(**bound, n_warmup_steps=rule.warmup_epochs + 1)
    raise AssertionError(rule)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    "rule",
    [
        Asha(grace_epochs=1, reduction_factor=2),
        Asha(grace_epochs=2, reduction_factor=3),
        Median(startup_trials=0, warmup_epochs=0),
        Median(startup_trials=3, warmup_epochs=2),
        Percentile(percentile=25.0, startup_trials=0),
        Percentile(percentile=37.5, startup_trials=3, warmup_epochs=2),
        Threshold(bound=0.2, warmup_epochs=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", first(2, range(5)))
def test_our_rules_answer_as_optunas_do(rule: StoppingRule, mode: str, seed: int) -> None:
    ours, optunas = RULES.maker(rule.name), optunas_own(rule, mode)
    draws = random.Random(seed)
    study = optuna.create_study(direction=f"{mode}imize")
    curves = Curves({})
    running: list[optuna.Trial] = []
    answers = {True: 0, False: 0}
    while len(curves) < 40 or running:
        if len(curves) < 40 and len(running) < 4:
            running.append(study.ask())
            curves[running[-1].number] = Curve([])
        trial = draws.choice(running)
        curve = curves[trial.number]
        value = round(8 * draws.gauss(0.1 * len(curve.values), 1.0)) / 8  # with ties
        curves.add(trial.number, value)
        trial.report(curve.values[-1], len(curve.values))
        stops = optunas.prune(study, study.trials[trial.number])
        assert isinstance(ours(rule, curves, trial.number, mode), Stop) == stops
        answers[stops] += 1
        if stops or len(curve.values) == 9:
            if not stops:
                curves.complete(trial.number)
            state = TrialState.PRUNED if stops else TrialState.COMPLETE
            study.tell(trial, None if stops else curve.values[-1], state=state)
            running.remove(trial)
    assert min(answers.values()) >= 1
