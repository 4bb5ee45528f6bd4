"""The stopping rules, by what they do to curves."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.space import SpaceFile
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.record.study import Study
from ckconv_sweep.sweep.stopping import PRUNERS, pruner_for

from .in_process import machine, make_space

ASHA = "{name: asha, grace_epochs: 2, reduction_factor: 3}"


def level(trial: Trial, number: int) -> Epoch:
    """A trial's accuracy follows from its seed: 5 for the first, the earlier the better."""
    accuracy = 1.0 - (trial.training.seed - 5) / 100 + number / 1000
    return Epoch(
        number=number,
        metrics={"val/accuracy": accuracy, "val/loss": 1 - accuracy},
        timestamp_ms=number,
    )


def test_the_table_of_stopping_rules_has_the_names_that_a_space_may_say() -> None:
    union = get_args(SpaceFile.model_fields["scheduler"].annotation)
    names = {get_args(kind.model_fields["name"].annotation)[0] for kind in union}
    assert set(PRUNERS) == names


@pytest.mark.parametrize("name", PRUNERS)
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
    assert {len(r.history) for r in records[3:]} <= {2, 3}


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


def test_a_rule_is_asked_once_for_an_epoch_after_which_the_driver_was_killed(disk: Path) -> None:
    space = make_space(scheduler=ASHA, trials=3, epochs=8)
    one = machine(disk, space, work=level, concurrency=1)
    with one.session() as session:
        while session.handed_out != [0, 1]:
            session.step()
    # Acknowledged by the study, but the process ended before the rule was asked.
    trial = one.space.resolve(one.records()[1].params, 1)
    with Study.create_or_open(one.folder, space) as study:
        reached = len(study.trial(1).history)
        for number in range(reached + 1, 3):
            epoch = level(trial, number)
            study.add_epoch(1, epoch, epoch.metrics["val/accuracy"])
        assert study.trial(1).outcome == "running"
    assert one.run()
    assert (one.records()[1].outcome, len(one.records()[1].history)) == ("pruned", 2)
    assert pruner_for(space) is not None
