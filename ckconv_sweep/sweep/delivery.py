"""What MLflow gets of a sweep: while it runs, from `sync`, and once more when it is finished."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckconv_sweep import keys
from ckconv_sweep.config.settings import flat
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.durable import as_readable_as
from ckconv_sweep.errors import CannotWrite, SweepBusy
from ckconv_sweep.models.parameters import parameters_of
from ckconv_sweep.record import lease, place, trained_data, versions
from ckconv_sweep.record.events import Ended, Event, Listener
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, is_finished
from ckconv_sweep.tracking.outbox import Mark, RunOfSweep, Tracker
from ckconv_sweep.tracking.store import is_default, kept_notes, noted, without_password


@dataclass(frozen=True, kw_only=True)
class Session:
    """How a session ended.

    `signal_exit_code` is set when a signal ended it; `undelivered` counts the records that MLflow
    still lacks.
    """

    records: list[TrialRecord]
    experiment_id: str | None
    undelivered: int
    trained: bool
    signal_exit_code: int | None = None
    time_is_up: bool = False


def deliver(
    folder: SweepFolder,
    tracking_uri: str,
    *,
    say: Callable[[str], None] = lambda line: None,
    patience_seconds: float = 60.0,
    lock: AbstractContextManager[object] | None = None,
) -> int:
    """Ask MLflow what it has of a sweep and give it what it lacks; returns how many records it did
    not take, or did not say that it has.

    Args:
        say: hears that the folder was moved, or is a copy, and what MLflow does not take and why.
        lock: as of `run_sweep`.

    Raises:
        SweepBusy: a driver runs the sweep, and delivers by itself.
        CannotWrite: the sweep's folder cannot be written to.
    """
    with (
        lock or folder.records.lock(),
        as_readable_as(folder.root),
        folder.records.open_for_writing() as study,
    ):
        own_database = is_default(tracking_uri, folder.root.parent)
        for line in place.settle(study, own_database=own_database):
            say(line)
        tracker = tracker_of(folder, study, tracking_uri, say)
        AfterTrial(folder, study, tracker).forget_ended()
        status = "FINISHED" if is_finished(study.trials(), study.space) else "KILLED"
        missing = tracker.close(status, patience_seconds=patience_seconds, as_long_as_it_takes=True)
        keep_marks(study, tracker, "RUNNING" if missing else status)
        return missing


def deliver_rest(
    folder: SweepFolder,
    tracking_uri: str,
    *,
    say: Callable[[str], None] = lambda line: None,
    lock: AbstractContextManager[object] | None = None,
    time_is_up: bool = False,
) -> Session:
    """Give MLflow what it lacks of a sweep that is finished, or whose time is up. `say` and `lock`:
    see `deliver`."""
    with folder.records.open() as study:
        own_database = is_default(tracking_uri, folder.root.parent)
        notes = place.notes_here(study, folder, own_database=own_database)
        records, kept = study.trials(), kept_notes(notes, folder.root.parent)
    lacking = owed(records, kept, without_password(tracking_uri), finished=not time_is_up)
    try:
        patience_seconds = 60.0 if lacking else 10.0
        missing = deliver(
            folder, tracking_uri, say=say, patience_seconds=patience_seconds, lock=lock
        )
    except SweepBusy:  # whoever ran the last trial is still at it
        missing = 0
    except CannotWrite:  # a sweep that is kept, and only read
        missing = lacking
    return Session(
        records=records,
        experiment_id=None,
        undelivered=missing,
        trained=False,
        time_is_up=time_is_up,
    )


def owed(
    records: Iterable[TrialRecord], kept: Mapping[str, Any], address: str, *, finished: bool
) -> int:
    """How many epochs, ends of trials and ends of the sweep MLflow is not known to have.

    Args:
        records: all trials of the sweep.
        kept: what `keep_marks` wrote down, as `tracking.store.kept_notes` reads it.
        address: of MLflow, without a password.
        finished: whether the sweep is.
    """
    there = kept if kept.get("uri") == address else {}
    missing = int(finished and there.get("status") != "FINISHED")
    for record in records:
        if record.counts:
            epochs, ended = there.get("marks", {}).get(str(record.number), (0, False))
            missing += max(0, len(record.history) - epochs)
            missing += record.outcome != "running" and not ended
    return missing


def keep_marks(study: Study, tracker: Tracker, status: str = "RUNNING") -> None:
    """Write down what MLflow is known to have; `status` is that of the sweep's own run."""
    kept = study.note("mlflow") or {}
    now = {str(number): [mark.epochs, mark.ended] for number, mark in list(tracker.marks.items())}
    said = {
        "uri": noted(tracker.uri, study.folder.root.parent),
        "marks": now,
        "experiment_id": tracker.experiment_id,
        "status": status,
        "view": tracker.view,
    }
    if said != kept:
        study.set_note("mlflow", said)


class AfterTrial(Listener):
    """When a trial has ended: its checkpoints are not needed any more, and what MLflow got so far
    is written down."""

    def __init__(self, folder: SweepFolder, study: Study, tracker: Tracker) -> None:
        self._folder, self._study, self._tracker = folder, study, tracker

    def forget_ended(self) -> None:
        """What was left of trials whose end was told, but not heard: the driver was killed."""
        for record in self._study.trials():
            if record.outcome != "running":
                self._forget(record.number)

    def hear(self, event: Event) -> None:
        if isinstance(event, Ended):
            if event.outcome != "completed":  # the pack that trains it may not know it yet
                lease.revoke(self._folder.trial(event.number))
            self._forget(event.number)
            crash_point("trial.forgotten")
            keep_marks(self._study, self._tracker)

    def _forget(self, number: int) -> None:
        from ckconv_sweep.training.checkpoint import forget

        forget(self._folder.trial(number))


def tracker_of(
    folder: SweepFolder,
    study: Study,
    uri: str,
    say: Callable[[str], None],
    data_dir: Path | None = None,
) -> Tracker:
    """A tracker that is running and has been given what MLflow lacks of earlier sessions."""
    space = study.space
    tracker = Tracker(
        uri,
        RunOfSweep(
            name=folder.name,
            uid=study.uid,
            role=keys.ROLE_SWEEP,
            params=flat(space.trial.model_dump(mode="json")),
            artifacts={keys.ARTIFACT_SPACE: space.to_yaml()},
            space=space,
            created_ms=study.note("created_ms"),
            versions=(versions.noted(study) or [versions.versions()])[-1],
            data_digest=trained_data.noted(study.notes()).get("content", ""),
            count_parameters=functools.partial(parameters_of, data_dir=data_dir),
        ),
        base=space.trial,
        say=say,
    )
    kept = kept_notes(study.notes(), folder.root.parent)
    if kept.get("uri") == tracker.address:  # another server has nothing of this sweep yet
        tracker.marks |= {int(n): Mark(*mark) for n, mark in kept["marks"].items()}
    tracker.catch_up(study.trials(), lambda r: space.resolve(r.params, r.number))
    tracker.start()
    return tracker
