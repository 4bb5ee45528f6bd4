from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Listener, Rejected, Started
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.progress import Progress
from tests.sweep.in_process import Machine, formula, machine, make_space

SPACE = make_space(trials=2, epochs=5)
PARAMS: Mapping[str, Any] = {
    "optimizer.learning_rate": 1e-3,
    "model.dropout": 0.1,
    "schedule": "constant",
}
STARTED_MS = 1_700_000_000_000


def at(seconds: float) -> int:
    return STARTED_MS + round(1000 * seconds)


def epoch_at(number: int, seconds: float, took: float) -> Epoch:
    metrics = {"val/accuracy": number / 10, "time/epoch_seconds": took}
    return Epoch(number=number, metrics=metrics, timestamp_ms=at(seconds))


def started(number: int, before: int = 0) -> Started:
    trial = SPACE.resolve(PARAMS, number)
    return Started(
        number=number, trial=trial, params=PARAMS, started_ms=STARTED_MS, epochs_before=before
    )


def ran(trial: int, number: int, seconds: float, took: float = 1.0, session: int = 1) -> EpochEnded:
    epoch = epoch_at(number, seconds, took)
    return EpochEnded(number=trial, epoch=epoch, best=number / 10, session=session)


def ended(number: int, epochs: int, outcome: str = "completed") -> Ended:
    return Ended(  # type: ignore[arg-type]
        number=number,
        outcome=outcome,
        reason="",
        error="",
        epochs=epochs,
        last_epoch=epochs,
        values={},
        ended_ms=STARTED_MS,
    )


def heard(*events: Event, space: Space | None = SPACE) -> Progress:
    known = Progress((Metric(),), space)
    for event in events:
        known.hear(event)
    return known


def seconds_left(known: Progress) -> int | None:
    return None if known.seconds_left is None else round(known.seconds_left)


def test_the_time_before_the_first_epoch_is_no_training_time() -> None:
    """Ray takes half a minute to start; the two trials then take 10 s together."""
    known = heard(started(0), ran(0, 1, seconds=31), ran(0, 2, seconds=32))
    assert known.epochs_a_minute == pytest.approx(60)
    assert seconds_left(known) == 8


def test_a_first_epoch_alone_tells_no_time_that_is_left() -> None:
    """It is slow: the worker imports, and the kernels are chosen."""
    assert heard(started(0), ran(0, 1, 5, took=5)).seconds_left is None
    first = (ran(0, 1, 5, took=5), ran(1, 1, 5, took=5))
    assert heard(started(0), started(1), *first).seconds_left is None


def test_a_trial_that_was_stopped_early_is_a_whole_trial_less() -> None:
    known = heard(started(0), ran(0, 1, 1), ran(0, 2, 2), ended(0, 2, "pruned"))
    assert (known.ended, dict(known.counts)) == (1, {"pruned": 1})
    assert seconds_left(known) == 2


def test_epochs_of_earlier_sessions_took_no_time_of_this_one() -> None:
    known = heard(started(0, before=3), ran(0, 4, 10, took=2), ran(0, 5, 12, took=2))
    assert known.epochs_a_minute == pytest.approx(30)
    assert seconds_left(known) == 10  # the other trial's five


def test_what_is_told_again_of_an_earlier_session_counts_for_nothing() -> None:
    """`watch` tells the last epoch of a trial that it finds."""
    known = heard(started(0, before=3), ran(0, 3, -1000), ran(0, 4, 10), ran(0, 5, 11))
    assert known.epochs_a_minute == pytest.approx(60)
    assert known.running[0].epoch == epoch_at(5, 11, 1.0)


def test_a_trial_alone_counts_its_own_epochs() -> None:
    known = heard(started(0), ran(0, 1, 1), ran(0, 2, 2), space=None)
    assert known.asked is None
    assert seconds_left(known) == 3


@pytest.mark.fault("grid-smaller-than-budget")
def test_no_time_is_left_for_trials_that_a_grid_cannot_give() -> None:
    known = heard(started(0), ran(0, 1, 1), ran(0, 2, 2), Rejected(number=1, most=1))
    assert known.asked == 1
    assert seconds_left(known) == 3


def test_the_hours_bound_the_time_that_is_left() -> None:
    hours = make_space(trials=2, epochs=5, hours=5 / 3600)
    assert seconds_left(heard(started(0), ran(0, 1, 1), ran(0, 2, 2), space=hours)) == 3


def record(number: int, epochs: list[Epoch], **others: Any) -> TrialRecord:
    sessions = others.pop("sessions", (1,) * len(epochs))
    outcome = others.pop("outcome", "running")
    return TrialRecord(
        number=number,
        outcome=outcome,
        params=PARAMS,
        history=tuple(epochs),
        sessions=sessions,
        **others,
    )


BEFORE = [
    record(0, [epoch_at(n, n, 1.0) for n in range(1, 6)], outcome="completed", ended_ms=at(5)),
    record(1, [epoch_at(n, 5 + n, 1.0) for n in range(1, 3)]),
]


def test_until_a_resumed_sweep_has_a_pace_of_its_own_it_shows_the_last_one() -> None:
    known = Progress((Metric(),), SPACE)
    known.begin(BEFORE)
    assert (known.ended, known.asked, known.running) == (1, 2, {})
    assert known.epochs_a_minute == pytest.approx(60)
    assert seconds_left(known) == 3
    assert known.best is not None
    assert (known.best.value, known.best.trial, known.best.epoch) == (0.5, 0, 5)
    known.hear(started(1, before=2))
    assert seconds_left(known) == 3
    known.hear(ran(1, 3, 86_400, took=4, session=2))
    assert known.epochs_a_minute == pytest.approx(15)
    assert known.seconds_left is None
    known.hear(ran(1, 4, 86_404, took=4, session=2))
    assert seconds_left(known) == 4


def test_hours_that_earlier_sessions_spent_are_not_left() -> None:
    known = Progress((Metric(),), make_space(trials=2, epochs=5, hours=9 / 3600))
    known.begin([BEFORE[0], replace(BEFORE[1], spent_seconds=7.0)])
    assert seconds_left(known) == 2


class FollowedBy(Listener):
    """What a driver's own view shows."""

    def __init__(self, space: Space) -> None:
        self.known = Progress(space.metrics, space)

    def begin(self, records: object) -> None:
        """Nothing."""

    def hear(self, event: Event) -> None:
        self.known.hear(event)


def shown(known: Progress) -> dict[str, Any]:
    return {
        "asked": known.asked,
        "counts": dict(known.counts),
        "best": known.best,
        "pace": known.epochs_a_minute,
        "done": {number: trial.done for number, trial in known.unfinished.items()},
        "left": known.seconds_left,
    }


def test_who_reads_the_study_sees_the_numbers_of_the_driver(tmp_path: Path) -> None:
    """In every session, after every epoch; the second one fails some trials."""
    space = make_space(trials=6, epochs=4, scheduler="{name: asha, grace_epochs: 1}")

    def work(trial: Trial, number: int) -> Epoch:
        epoch = formula(trial, number, time.time())
        return replace(epoch, metrics={**epoch.metrics, "time/epoch_seconds": 0.01})

    run: Machine = machine(tmp_path, space, work=work)
    steps, last = 0, False
    for most in (9, 3, 1000):
        view = FollowedBy(space)
        view.known.begin([r for r in run.records() if r.counts])
        run.listeners = (view,)
        run.fails = lambda number, epoch: "nonfinite" if number == 4 else None
        with run.session() as session:
            for _ in range(most):
                last = not session.step()
                theirs = Progress(space.metrics, space)
                theirs.begin(session.study.trials())
                for number in view.known.running:
                    theirs.unfinished[number].runs = True
                ours = shown(view.known)
                if ours["pace"] is not None:
                    assert shown(theirs) == ours
                    steps += 1
                if last:
                    break
    assert last
    assert steps > 10
    assert {r.outcome for r in run.records()} >= {"completed", "failed"}
