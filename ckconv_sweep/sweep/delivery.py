"""What MLflow gets of a sweep: while it runs, from `sync`, and once more when it is finished."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ckconv_sweep import keys
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.durable import as_readable_as
from ckconv_sweep.errors import CannotWrite, SweepBusy
from ckconv_sweep.execution.surveyor import Surveyor
from ckconv_sweep.record import lease, place, trained_data, versions
from ckconv_sweep.record.budget import is_finished
from ckconv_sweep.record.checkpoints import forget
from ckconv_sweep.record.events import Ended, Event, Listener, Started
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, trial_of
from ckconv_sweep.search.confirmed import confirmed
from ckconv_sweep.tracking.answers import still_there
from ckconv_sweep.tracking.lag import owed
from ckconv_sweep.tracking.marks import Mark, noted_marks, ranges
from ckconv_sweep.tracking.outbox import RunOfSweep, Tracker
from ckconv_sweep.tracking.store import (
    is_default,
    kept_notes,
    local_database,
    noted,
    without_password,
)
from ckconv_sweep.tracking.told import told_of


@dataclass(frozen=True, kw_only=True)
class Session:
    """How a session ended.

    `signal_exit_code` is set when a signal ended it; `undelivered` counts the records that MLflow
    still lacks; `asked_to_end` says that a person did (`stop`);
    `continue_later` why the sweep is to be continued later: its own time was up, or a SIGUSR1 came.
    """

    records: list[TrialRecord]
    experiment_id: str | None
    undelivered: int
    trained: bool
    signal_exit_code: int | None = None
    time_is_up: bool = False
    asked_to_end: bool = False
    continue_later: str = ""


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
        contextlib.closing(Surveyor()) as surveyor,
    ):
        own_database = is_default(tracking_uri, folder.root.parent)
        for line in place.settle(study, own_database=own_database):
            say(line)
        count_parameters = partial(surveyor.parameters_of, data_dir=trained_data.folder_of(study))
        tracker = tracker_of(folder, study, tracking_uri, say, count_parameters)
        tracker.start()
        after_trial = AfterTrial(folder, study, tracker)
        after_trial.forget_ended()
        status = "FINISHED" if is_finished(study.trials(), study.space) else "KILLED"
        missing = tracker.close(status, patience_seconds=patience_seconds, as_long_as_it_takes=True)
        after_trial.keep_marks("RUNNING" if missing else status)
        return missing


def deliver_rest(
    folder: SweepFolder,
    tracking_uri: str,
    records: list[TrialRecord],
    *,
    say: Callable[[str], None] = lambda line: None,
    lock: AbstractContextManager[object] | None = None,
    time_is_up: bool = False,
) -> Session:
    """Give MLflow what it lacks of a sweep that is finished, or whose time is up. Where it is known
    to have had all, it is asked a few short questions, and about each trial only if one of their
    answers is not as it was.

    Args:
        records: all trials of the sweep, also those that confirm it.
        say, lock: as of `deliver`.
    """
    with folder.records.open() as study:
        own_database = is_default(tracking_uri, folder.root.parent)
        notes = place.notes_here(study, folder, own_database=own_database)
        is_here, uid = place.is_noted(study), study.uid
    kept = kept_notes(notes, folder.root.parent)
    has = noted_marks(kept, without_password(tracking_uri), records)
    lacking = owed(records, has, finished=not time_is_up)
    session = Session(
        records=records,
        experiment_id=None,
        undelivered=0,
        trained=False,
        time_is_up=time_is_up,
    )
    told = has.status in ("FINISHED", "KILLED")
    if not lacking and told and is_here and still_there(tracking_uri, uid, records, has.status):
        return session
    try:
        # A server may hang in a call; a database of this machine is only slow.
        patience_seconds = 60.0 if lacking or local_database(tracking_uri) else 10.0
        missing = deliver(
            folder, tracking_uri, say=say, patience_seconds=patience_seconds, lock=lock
        )
    except SweepBusy:  # whoever ran the last trial is still at it
        missing = 0
    except CannotWrite:  # a sweep that is kept, and only read
        missing = lacking
    return replace(session, undelivered=missing)


NOTE_SECONDS = 5.0
"""How often it is noted between two ends what MLflow has got."""


class AfterTrial(Listener):
    """When a trial has ended: its checkpoints are not needed any more, and what MLflow got so far
    is written down.

    The study's note `mlflow` names the trials that MLflow has wholly by the first and last of each
    row of them (rejected ones may be among them), and has a mark of each other one: after 10,000
    trials it is no longer than after ten.
    """

    def __init__(self, folder: SweepFolder, study: Study, tracker: Tracker) -> None:
        self._folder, self._study, self._tracker = folder, study, tracker
        self._epochs = {
            record.number: record.last_epoch if record.outcome != "running" else None
            for record in study.every_trial()
            if record.counts
        }
        """The number of each trial's last epoch; None while it runs."""
        self._lacking = set(self._epochs)
        """The trials that MLflow does not have wholly."""
        self._partly: dict[int, Mark] = {}
        """Those of them of which it has something."""
        self._whole: list[list[int]] = []
        self._kept: Any = study.note("mlflow")
        self._heard: list[int] = []
        self._kept_at = time.monotonic()

    def attend(self) -> None:
        """What has arrived at MLflow since, for whoever looks at the study meanwhile."""
        if self._tracker.moved and time.monotonic() > self._kept_at + NOTE_SECONDS:
            self.keep_marks()

    def keep_marks(self, status: str = "RUNNING") -> None:
        """Write down what MLflow is known to have; `status` is that of the sweep's own run."""
        tracker, self._kept_at = self._tracker, time.monotonic()
        if tracker.moved:
            while tracker.moved:
                self._mark(tracker.moved.popleft())
            self._whole = ranges(1 + max(self._epochs, default=-1), self._lacking)
        said = {
            "uri": noted(tracker.uri, self._folder.root.parent),
            "whole": self._whole,
            "marks": {str(n): [mark.epochs, mark.ended] for n, mark in self._partly.items()},
            "experiment_id": tracker.experiment_id,
            "status": status,
            "view": tracker.view,
        }
        if said != self._kept:
            self._study.set_note("mlflow", said)
            self._kept = said

    def _mark(self, number: int) -> None:
        mark = replace(self._tracker.marks.get(number, Mark()))
        epochs = self._epochs[number]
        self._lacking.discard(number)
        self._partly.pop(number, None)
        if not mark.ended or epochs is None or mark.epochs < epochs:
            self._lacking.add(number)
            if mark != Mark():
                self._partly[number] = mark

    def forget_ended(self) -> None:
        """What was left of trials whose end was told, but not heard: the driver was killed."""
        for record in self._study.every_trial():
            if record.outcome != "running":
                self._forget(record.number)

    def forget_heard(self) -> None:
        """Once more what was left of the trials whose end was heard here."""
        for number in self._heard:
            self._forget(number)

    def hear(self, event: Event) -> None:
        if isinstance(event, Started):
            self._epochs[event.number] = None
            self._lacking.add(event.number)
        if isinstance(event, Ended):
            self._epochs[event.number] = event.last_epoch
            if event.outcome != "completed":  # the pack that trains it may not know it yet
                lease.revoke(self._folder.trial(event.number))
            self._heard.append(event.number)
            self._forget(event.number)
            crash_point("trial.forgotten")
            self.keep_marks()

    def _forget(self, number: int) -> None:
        forget(self._folder.trial(number), self._study.space.scheduler.kept_epochs)


def tracker_of(
    folder: SweepFolder,
    study: Study,
    uri: str,
    say: Callable[[str], None],
    count_parameters: Callable[[Trial], int],
    *,
    thoroughly: bool = True,
) -> Tracker:
    """A tracker that has been given what MLflow lacks of earlier sessions.

    Args:
        count_parameters: the number of trainable numbers of a trial's model.
        thoroughly: see `Tracker`.
    """
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
            count_parameters=count_parameters,
            told=told_of(study.notes(), confirmed(study, count_parameters)),
        ),
        base=space.trial,
        say=say,
        sync=study.sync,
        thoroughly=thoroughly,
        read=study.read_again,
    )
    kept = kept_notes(study.notes(), folder.root.parent)
    records = study.every_trial()
    tracker.marks |= noted_marks(kept, tracker.address, records).marks
    tracker.catch_up(records, lambda r: trial_of(r, space))
    return tracker
