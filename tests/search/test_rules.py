"""The stopping rules, by what they do to curves."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from drawing import new_trial
from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner
from optuna.trial import TrialState
from sweep.in_process import machine, make_space

from ckconv_sweep.config.history import Epoch, Go, Stop
from ckconv_sweep.config.stopping import RULES, Asha, Median
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.search.rules import Curve, Curves, asha, median

ASHA = "{name: asha, grace_epochs: 2, reduction_factor: 3}"


def level(trial: Trial, number: int) -> Epoch:
    """A trial's accuracy follows from its seed: 5 for the first, the earlier the better."""
    accuracy = 1.0 - (trial.training.seed - 5) / 100 + number / 1000
    return Epoch(
        number=number,
        metrics={"val/accuracy": accuracy, "val/loss": 1 - accuracy},
        timestamp_ms=number,
    )


@pytest.mark.parametrize("name", RULES)
def test_no_rule_stops_a_sweeps_best_trial(name: str, disk: Path) -> None:
    one = machine(
        disk,
        make_space(scheduler=f"{{name: {name}}}", trials=8, epochs=4),
        work=level,
        concurrency=1,
    )
    assert one.run()
    records = one.records()
    assert records[0].outcome == "completed"
    assert (any(r.outcome == "pruned" for r in records)) == (name != "none")


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
    assert median(Median(), curves, 9, "max") == Stop(
        "median, epoch 2: at best 0.3 so far; half of the 5 completed trials had 0.62 or more at "
        "this epoch"
    )


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_the_first_epochs_of_a_warm_up_are_not_judged_and_the_next_one_is(warmup: int) -> None:
    rule = Median(startup_trials=1, warmup_epochs=warmup)
    ended = Curve([1.0] * 9, completed=True)
    stopped = [
        isinstance(median(rule, Curves({0: ended, 1: Curve([0.0] * epoch)}), 1, "max"), Stop)
        for epoch in range(1, 7)
    ]
    assert stopped == [epoch > warmup for epoch in range(1, 7)]


# Against Optuna's own, which write to their study while they answer


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    "rule",
    [
        Asha(grace_epochs=1, reduction_factor=2),
        Asha(grace_epochs=2, reduction_factor=3),
        Median(startup_trials=0, warmup_epochs=0),
        Median(startup_trials=3, warmup_epochs=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(5))
def test_our_rules_answer_as_optunas_do(rule: Asha | Median, mode: str, seed: int) -> None:
    optunas: BasePruner
    if isinstance(rule, Asha):
        ours: Any = asha
        optunas = SuccessiveHalvingPruner(
            min_resource=rule.grace_epochs, reduction_factor=rule.reduction_factor
        )
    else:
        ours = median
        # Optuna counts its steps from 0, we count epochs from 1.
        optunas = MedianPruner(rule.startup_trials, n_warmup_steps=rule.warmup_epochs + 1)
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
        value = round(draws.gauss(0.1 * len(curve.values), 1.0), 1)  # with ties
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
