"""One session of a sweep, from the lock to the last word to MLflow."""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ckconv_sweep import keys
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.space import Space
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.data.datasets import load
from ckconv_sweep.data.identity import Identity, difference
from ckconv_sweep.durable import as_readable_as
from ckconv_sweep.errors import CannotWrite, DataChanged, SpaceChanged, SweepBusy, no_room
from ckconv_sweep.execution import protocol as execution
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.protocol import Executor
from ckconv_sweep.models.parameters import parameters_of
from ckconv_sweep.record import lease, place, trained_data, versions
from ckconv_sweep.record.events import Ended, Event, Listener
from ckconv_sweep.record.filesystem import check_writable
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, is_finished
from ckconv_sweep.sweep.coordinator import Coordinator
from ckconv_sweep.sweep.interruption import Interruption, ended_by_signal
from ckconv_sweep.tracking.outbox import FIRST_EPOCH_SECONDS, Mark, RunOfSweep, Tracker
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


def check_same_space(stored: Space, given: Space, folder: SweepFolder) -> None:
    """Raises SpaceChanged, with the difference, if more than the budget differs."""
    before, now = (replace(space, budget=stored.budget) for space in (stored, given))
    if before == now:
        return
    lines = difflib.unified_diff(
        before.to_yaml().splitlines(),
        now.to_yaml().splitlines(),
        "the sweep's space",
        "the space given now",
        lineterm="",
        n=1,
    )
    raise SpaceChanged(
        f"the sweep {folder.name!r} was started with another space\n"
        + "\n".join(f"  {x}" for x in lines),
        hint="take another --name for the new space, or resume with the old one: "
        f"{folder.command('resume')}",
    )


def starts_over(study: Study, given: Space) -> bool:
    """Whether the sweep begins anew, with the given space: it has another one, and none of its
    trials has begun.

    Raises:
        SpaceChanged: it has another one, and trials.
    """
    try:
        check_same_space(study.space, given, study.folder)
    except SpaceChanged:
        if study.is_unused():
            return True
        raise
    return False


def check_same_data(before: Identity, now: Identity, name: str, *, allow_change: bool) -> list[str]:
    """A line that says how the data differ from those of the last session, if they do.

    Raises:
        DataChanged: they do, and that was not allowed.
    """
    why = difference(before, now)
    if why and not allow_change:
        raise DataChanged(
            f"the sweep {name!r} was trained on other data: {why}",
            hint="put the old data back, take another --name for these, or train on both and mark "
            "each trial with its own: --allow-data-change",
        )
    return [f"other data than before: {why}; compare trials of the same data only"] if why else []


def run_sweep(
    folder: SweepFolder,
    space: Space,
    executor: Executor,
    *,
    tracking_uri: str,
    data_dir: Path | None,
    listeners: tuple[Listener, ...] = (),
    allow_code_change: bool = False,
    allow_data_change: bool = False,
    options: Mapping[str, Any] = MappingProxyType({}),
    shared: bool = False,
    lock: AbstractContextManager[object] | None = None,
) -> Session:
    """Start a sweep, or continue it, until its budget is spent or a signal comes.

    Args:
        executor: trains its trials.
        allow_code_change: also with another major version than it was run with.
        allow_data_change: also on other data; each epoch keeps the digest of its own.
        options: plain values that the command line wants to find in the next session.
        shared: the group of the folder can read it, from now on.
        lock: the sweep's, where the caller holds it already; it is released at the end.

    Raises:
        SpaceChanged: the sweep was started with another space. Only the budget may differ.
        DataChanged: trials were trained on other data.
        SweepBusy: another driver runs it.
        ConfigError, ResourcesMissing, DamagedData, CannotWrite: it cannot run here.
    """
    changed: list[str] = []
    before: Identity = {}
    anew = False
    interruption, exit_codes = Interruption(), list[int]()
    session = Session(records=[], experiment_id=None, undelivered=0, trained=False)
    executor.check()
    # A signal may come before anything was begun, and after everything was.
    with ended_by_signal(exit_codes), contextlib.ExitStack() as stack:
        stack.enter_context(interruption.caught())
        made = folder.make(shared=shared)
        stack.enter_context(as_readable_as(folder.root))
        stack.enter_context(lock or folder.records.lock())
        stack.callback(folder.remove_if_unused, made)
        check_writable(folder.root)
        folder.records.check_not_lost()
        if folder.records.exists():
            # Python swallows what a signal raises in a callback of SQLAlchemy's weak references.
            with interruption.shielded(), folder.records.open() as study:
                anew = starts_over(study, space)
                if not anew:
                    changed = versions.check(study, allow_code_change=allow_code_change)
                if any(record.history for record in study.trials()):
                    before = trained_data.noted(study.notes())
        # Read now: one message instead of one for every trial.
        data = load(space.trial.data, data_dir).identity
        changed += check_same_data(before, data, folder.name, allow_change=allow_data_change)
        stack.enter_context(interruption.shielded())
        stack.enter_context(executor.connected(folder.ray_log, interruption))
        interruption.install()
        interruption.check()
        trained = execution.Session(
            folder=folder.root,
            trial=space.trial,
            data_dir=data_dir,
            data=None if allow_data_change else data,
        )
        at_a_time, said = executor.prepare(trained, interruption)
        if anew:
            with folder.records.open_for_writing() as study:
                study.start_over(space)
            changed.append("no trial had begun with another space; the sweep starts over with this")
        study = stack.enter_context(folder.records.create(space))
        own_database = is_default(tracking_uri, folder.root.parent)
        changed += place.settle(study, own_database=own_database)
        _write_space(folder, space, study)
        number = len(study.note("sessions") or []) + 1
        versions.note(study, session=number)
        trained_data.note(study, data, session=number)
        study.set_note("options", dict(options))
        known = KnownData(space, data, study.trials(), allow_change=allow_data_change)
        for listener in listeners:
            listener.begin([record for record in study.trials() if record.counts])
            for line in [*changed, *said]:
                listener.say(line)
            listener.say(f"trials at a time: {at_a_time}")
        tracker = _tracker(folder, study, tracking_uri, _say_to(listeners), data_dir)
        tracker.start(first_epoch_seconds=FIRST_EPOCH_SECONDS)
        keep_marks(study, tracker)  # also of a session that is killed: where its records went
        after_trial = _AfterTrial(folder, study, tracker)
        after_trial.forget_ended()
        heard = (*listeners, tracker, after_trial)
        coordinator = Coordinator(
            study,
            count_parameters=functools.partial(parameters_of, data_dir=data_dir),
            listeners=heard,
            is_interrupted=lambda: interruption.came,
        )
        try:
            with ended_by_signal(exit_codes):
                executor.run(coordinator, interruption, trained, known)
        except Exception as error:
            coordinator.stop(no_room(error, str(folder.root)) or error)
        try:
            after_trial.forget_ended()  # a pack may have written while its trial was being stopped
            finished = is_finished(study.trials(), study.space)
            status = "FINISHED" if finished else "KILLED"
            patience_seconds = 3.0 if exit_codes or coordinator.fatal else 60.0
            missing = tracker.close(status, patience_seconds=patience_seconds)
            keep_marks(study, tracker, "RUNNING" if missing else status)
        except Exception as error:  # where the study cannot be written, this cannot either
            coordinator.stop(error)
        if coordinator.fatal is not None:
            raise coordinator.fatal
        session = Session(
            records=study.trials(),
            experiment_id=tracker.experiment_id,
            undelivered=missing,
            trained=True,
            time_is_up=coordinator.time_is_up and not finished,
        )
    return replace(session, signal_exit_code=exit_codes[0]) if exit_codes else session


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
        tracker = _tracker(folder, study, tracking_uri, say)
        tracker.start()
        _AfterTrial(folder, study, tracker).forget_ended()
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


class _AfterTrial(Listener):
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


def _say_to(listeners: Iterable[Listener]) -> Callable[[str], None]:
    def say(message: str) -> None:
        for listener in listeners:
            listener.say(message)

    return say


def _tracker(
    folder: SweepFolder,
    study: Study,
    uri: str,
    say: Callable[[str], None],
    data_dir: Path | None = None,
) -> Tracker:
    """A tracker that has been given what MLflow lacks of earlier sessions."""
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
    return tracker


def _write_space(folder: SweepFolder, space: Space, study: Study) -> None:
    if study.space != space:
        study.set_space(space)
    folder.blobs.put(folder.space.name, space.to_yaml())
