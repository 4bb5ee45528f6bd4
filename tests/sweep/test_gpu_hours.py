"""A budget of GPU-hours: what is counted, and that no kill changes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ckconv_sweep.cli.run_options import RunOptions
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.budget import gpu_hours_are_up, hours_are_up, is_finished
from ckconv_sweep.report.spent import spent

from .in_process import Killed, formula, machine, make_space


def bounded(hours: float, **others: int) -> Space:
    space = make_space(**others)  # type: ignore[arg-type]
    return replace(space, budget=space.budget.model_copy(update={"gpu_hours": hours}))


def ten_minutes(trial: Trial, number: int) -> Epoch:
    """An epoch that takes 600 s, whatever the clock says."""
    epoch = formula(trial, number)
    return replace(epoch, metrics={**epoch.metrics, "time/epoch_seconds": 600.0})


def test_a_share_of_a_gpu_is_counted_over_all_sessions_and_kills(disk: Path) -> None:
    """Half a GPU for ten minutes is a twelfth of an hour."""
    space = bounded(0.75, trials=3, epochs=6)
    one = machine(disk, space, work=ten_minutes, gpus=0.5)
    with pytest.raises(Killed), one.session() as session:
        for _ in range(5):
            session.step()
        raise Killed
    with one.session() as session:
        session.run()
        assert session.coordinator.time_is_up
    records = one.records()
    # Nine epochs are three quarters of an hour; the other trial ends its own after that.
    assert [len(record.history) for record in records] == [5, 5]
    assert [record.gpu_seconds for record in records] == [1500, 1500]
    assert spent(records, space).gpu_seconds == 3000
    assert hours_are_up(records, space)
    assert not is_finished(records, space)
    before = one.result()
    assert one.run()
    assert one.result() == before
    one.space = bounded(9.0, trials=3, epochs=6)
    assert one.run()
    assert is_finished(one.records(), one.space)
    assert not gpu_hours_are_up(one.records(), one.space)
    assert set(one.executed.values()) == {1}


def test_epochs_without_a_gpu_use_no_hours_of_one(disk: Path) -> None:
    one = machine(disk, bounded(0.01, trials=2), work=ten_minutes)
    assert one.run()
    assert {record.gpu_seconds for record in one.records()} == {0.0}
    assert is_finished(one.records(), one.space)


def test_a_budget_that_would_never_be_spent_is_refused() -> None:
    with pytest.raises(ConfigError, match="no trial uses a GPU, so GPU-hours would never be spent"):
        RunOptions(gpu_hours=2.0).placement(bounded(2.0))
    assert RunOptions(gpus_per_trial=0.25).placement(bounded(2.0)).gpus_per_trial == 0.25
