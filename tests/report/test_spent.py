from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.spent import clock, spans, spent

from .made_up import made_up
from .records import examples, space


def trial(
    number: int,
    ends: Sequence[float],
    seconds: float,
    outcome: Outcome = "completed",
    sessions: Sequence[int] | None = None,
) -> TrialRecord:
    """Its epochs ended at these seconds and took so long."""
    return TrialRecord(
        number=number,
        outcome=outcome,
        params={},
        history=tuple(
            Epoch(
                number=i,
                metrics={"val/accuracy": 0.5, "time/epoch_seconds": seconds},
                timestamp_ms=round(1000 * end),
            )
            for i, end in enumerate(ends, start=1)
        ),
        sessions=tuple(sessions) if sessions else (1,) * len(ends),
    )


def test_the_break_between_sessions_does_not_count() -> None:
    records = [trial(0, [10, 20, 1000, 1010], 10, sessions=[1, 1, 2, 2])]
    running = clock(records)
    assert spans(records[0], running) == [(0, 10), (10, 20), (20, 30), (30, 40)]
    assert list(running.breaks()) == [(20.0, 970.0)]
    assert spent(records, space()).wall_seconds == 40


def test_a_moment_inside_a_break_is_the_end_of_the_session_before() -> None:
    running = clock([trial(0, [10, 1010], 10, sessions=[1, 2])])
    assert [running(1000 * s) for s in (-5, 0, 5, 10, 500, 1000, 1005, 1010, 9999)] == [
        *(0, 0, 5, 10, 10, 10, 15, 20, 20)
    ]


def test_training_waiting_and_what_early_stopping_saved_add_up() -> None:
    records = [
        trial(0, [10, 20, 30], 10),
        trial(1, [8, 20], 8, "pruned"),  # waited 4 seconds between its epochs
        trial(2, [40], 5, "failed"),
        trial(3, [], 0, "running"),
    ]
    sums = spent(records, space())  # of 9 epochs each
    assert sums.wall_seconds == 40
    assert sums.training_seconds == {"completed": 30, "pruned": 16, "failed": 5, "running": 0}
    assert sums.epochs == {"completed": 3, "pruned": 2, "failed": 1, "running": 0}
    assert sums.waiting_seconds == pytest.approx(4)
    assert (sums.saved_epochs, sums.saved_seconds) == (7, 56)
    assert sums.at_a_time == pytest.approx(51 / 40)


def test_a_trial_that_was_to_run_fewer_epochs_saves_fewer() -> None:
    search = "  training.epochs: {low: 2, high: 9}"
    stopped = trial(0, [1, 2], 1, "pruned")
    short = TrialRecord(**{**vars(stopped), "params": {"training.epochs": 4}})
    assert spent([short], space(search=search)).saved_epochs == 2


def test_a_stopped_continuation_saves_what_came_after_its_last_epoch() -> None:
    stopped = trial(0, [1, 2], 1, "pruned")
    history = tuple(replace(epoch, number=epoch.number + 4) for epoch in stopped.history)
    goes_on = replace(stopped, history=history, replaces=0, from_trial=0, from_epoch=4)
    assert spent([goes_on], space()).saved_epochs == 9 - 6


def test_without_trials_no_time_was_spent() -> None:
    sums = spent([], space())
    assert (sums.wall_seconds, sums.training, sums.at_a_time, sums.saved_epochs) == (0, 0, 0, 0)


_moments = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6)


@examples
@given(st.integers(0, 30), _moments)
def test_the_clock_never_runs_backwards(seed: int, moments: list[float]) -> None:
    running = clock(made_up(6, epochs=3, seed=seed).records)
    start = running.sessions[0].start_ms
    said = [running(start + 1000 * moment) for moment in sorted(moments)]
    assert said == sorted(said)
    assert all(0 <= value <= running(running.sessions[-1].end_ms) for value in said)
