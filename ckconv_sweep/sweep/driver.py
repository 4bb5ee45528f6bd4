"""One session of a sweep, from the lock to the last word to MLflow."""

from __future__ import annotations

import contextlib
import difflib
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ckconv_sweep.config.data import Data
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.suitable import with_taken
from ckconv_sweep.data.identity import Identity, difference
from ckconv_sweep.durable import as_readable_as
from ckconv_sweep.errors import DataChanged, SpaceChanged, no_room
from ckconv_sweep.execution import protocol as execution
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.protocol import Executor
from ckconv_sweep.execution.surveyor import Surveyor
from ckconv_sweep.record import (
    confirmation,
    elsewhere,
    place,
    trained_data,
    versions,
    warm_start,
)
from ckconv_sweep.record.backup import Backup
from ckconv_sweep.record.budget import is_finished
from ckconv_sweep.record.confirmation import Confirmation
from ckconv_sweep.record.events import Listener
from ckconv_sweep.record.filesystem import check_writable
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.warm_start import WarmStart
from ckconv_sweep.search.earlier import known_before
from ckconv_sweep.search.samplers import warm_up
from ckconv_sweep.sweep.confirming import Confirming
from ckconv_sweep.sweep.coordinator import Coordinator
from ckconv_sweep.sweep.delivery import AfterTrial, Session, tracker_of
from ckconv_sweep.sweep.interruption import Interruption, ended_by_signal
from ckconv_sweep.sweep.session_end import SessionEnd
from ckconv_sweep.tracking.outbox import FIRST_EPOCH_SECONDS, Tracker
from ckconv_sweep.tracking.store import is_default


def check_same_space(stored: Space, given: Space, folder: SweepFolder) -> None:
    """Raises SpaceChanged, with the difference, if more than the budget differs."""
    given = with_taken(given, stored)
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
    plan: Confirmation | None = None,
    ends_at: float = math.inf,
    blobs: str | None = None,
) -> Session:
    """Start a sweep, or continue it, until its budget is spent or a signal comes.

    Args:
        executor: trains its trials.
        allow_code_change: also with another major version than it was run with.
        allow_data_change: also on other data; each epoch keeps the digest of its own.
        options: plain values that the command line wants to find in the next session.
        shared: the group of the folder can read it, from now on.
        lock: the sweep's, where the caller holds it already; it is released at the end.
        plan: confirm the sweep instead, as far as it was searched. The options of its last session
            are kept for the next one that searches.
        ends_at: when the session has to be over, in seconds of `time.monotonic`.
        blobs: where the trials' files lie, if not in the sweep's folder: see `record.elsewhere`.

    Raises:
        SpaceChanged: the sweep was started with another space. Only the budget may differ.
        DataChanged: trials were trained on other data.
        SweepBusy: another driver runs it.
        ConfigError, ResourcesMissing, DamagedData, CannotWrite: it cannot run here.
    """
    interruption, exit_codes = Interruption(later=True), list[int]()
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
        # Python swallows what a signal raises in a callback of SQLAlchemy's weak references.
        with interruption.shielded():
            there = _There.of(folder, space, allow_code_change=allow_code_change)
            elsewhere.settle(folder, blobs, there.uid, there.copy_of)
        space, changed = there.space, list(there.changed)
        # Read now: one message instead of one for every trial.
        surveyor = executor.surveyor
        stack.callback(surveyor.close)
        data = surveyor.identity_of(space.trial.data, data_dir)
        changed += check_same_data(there.data, data, folder.name, allow_change=allow_data_change)
        earlier = WarmStart()
        if not there.knows_earlier:
            with interruption.shielded():
                earlier = _earlier(space, folder, data, surveyor, data_dir)
            changed += earlier.in_words()
        stack.enter_context(interruption.shielded())
        warm_up(space)
        stack.enter_context(executor.connected(folder.ray_log, interruption))
        interruption.install()
        interruption.check()
        trained = execution.Session(
            folder=folder.root,
            files=folder.files,
            trial=space.trial,
            data_dir=data_dir,
            data=None if allow_data_change else data,
        )
        at_a_time, said = executor.prepare(trained, interruption)
        if there.anew:
            with folder.records.open_for_writing() as study:
                study.start_over(space)
            changed.append("no trial had begun with another space; the sweep starts over with this")
        study = stack.enter_context(folder.records.create(space, there.study))
        own_database = is_default(tracking_uri, folder.root.parent)
        changed += place.settle(study, own_database=own_database)
        _write_space(folder, space, study)
        if earlier.sweeps:
            warm_start.note(study, earlier)
        number = len(study.note("sessions") or []) + 1
        versions.note(study, session=number)
        trained_data.note(study, data, session=number)
        confirming = _confirming(study, plan)
        if confirming is None:
            study.set_note("options", dict(options))
        known = KnownData(space, data, study.every_trial(), allow_change=allow_data_change)
        records = study.trials() if confirming is None else confirming.trials()
        crowded = space.scheduler.crowded(at_a_time, space.budget.trials)
        said += [f"trials at a time: {at_a_time}", crowded * (confirming is None)]
        for listener in listeners:
            listener.begin([record for record in records if record.counts])
            for line in filter(None, [*changed, *said]):
                listener.say(line)
        count_parameters = functools.partial(surveyor.parameters_of, data_dir=data_dir)
        tracker = tracker_of(
            folder, study, tracking_uri, _say_to(listeners), count_parameters, thoroughly=False
        )
        tracker.start(first_epoch_seconds=FIRST_EPOCH_SECONDS)
        after_trial = AfterTrial(folder, study, tracker)
        after_trial.keep_marks()  # also of a session that is killed: where its records went
        after_trial.forget_ended()
        backup = _backup(folder, study, lambda error: coordinator.stop(error), _say_to(listeners))
        heard = (*listeners, tracker, after_trial, *backup)
        end = SessionEnd(ends_at, lambda: interruption.ends_session)
        coordinator = Coordinator(
            study,
            count_parameters=count_parameters,
            listeners=heard,
            is_interrupted=lambda: interruption.came,
            places=at_a_time,
            confirming=confirming,
            end=end,
        )
        for one in backup:
            one.start()
        try:
            with ended_by_signal(exit_codes):
                coordinator.attend()
                executor.run(coordinator, interruption, trained, known)
        except Exception as error:
            coordinator.stop(no_room(error, str(folder.root)) or error)
        session_ends = coordinator.session_ends
        at_once = bool(exit_codes) or session_ends
        missing = _closed(study, coordinator, tracker, after_trial, backup, at_once=at_once)
        if coordinator.fatal is not None:
            raise coordinator.fatal
        over = confirming.is_over if confirming else is_finished(study.trials(), study.space)
        session = Session(
            records=coordinator.trials(),
            experiment_id=tracker.experiment_id,
            undelivered=missing,
            trained=True,
            time_is_up=coordinator.time_is_up and not over,
            asked_to_end=coordinator.control.ends and not over,
            continue_later=end.why if session_ends and not over else "",
        )
    return replace(session, signal_exit_code=exit_codes[0]) if exit_codes else session


@dataclass(frozen=True, kw_only=True)
class _There:
    """What there is of a sweep before a session.

    `study`: what was read of it, unless it starts over (`anew`) or there is none; `space`: the
    given one, with what `auto` took; `changed`: lines on versions; `data`: what its trials were
    trained on; `knows_earlier`: whether it was told of the sweeps that it learns from; `uid`: its
    own; `copy_of`: the folder of which its folder is a copy.
    """

    space: Space
    study: Study | None = None
    anew: bool = False
    changed: Sequence[str] = ()
    data: Identity = field(default_factory=dict)
    knows_earlier: bool = False
    uid: str | None = None
    copy_of: Path | None = None

    @classmethod
    def of(cls, folder: SweepFolder, space: Space, *, allow_code_change: bool) -> _There:
        """Raises SpaceChanged and ConfigError as `run_sweep`."""
        if not folder.records.exists():
            return cls(space=space)
        with folder.records.open() as study:
            has_epochs = any(record.history for record in study.every_trial())
            data = trained_data.noted(study.notes()) if has_epochs else {}
            copy_of = place.copied_from(study, folder)
            if starts_over(study, space):
                return cls(space=space, anew=True, data=data, uid=study.uid, copy_of=copy_of)
            return cls(
                space=with_taken(space, study.space),
                study=study,
                changed=versions.check(study, allow_code_change=allow_code_change),
                data=data,
                knows_earlier=study.note(warm_start.NOTE) is not None,
                uid=study.uid,
                copy_of=copy_of,
            )


def _confirming(study: Study, plan: Confirmation | None) -> Confirming | None:
    """What is trained instead of the search, with the plan noted."""
    confirmation.note_session(study, confirms=plan is not None)
    if plan is None:
        return None
    if plan != confirmation.noted(study.notes()):
        confirmation.note(study, plan)
    return Confirming(study, plan)


def _closed(
    study: Study,
    coordinator: Coordinator,
    tracker: Tracker,
    after_trial: AfterTrial,
    backup: Sequence[Backup],
    *,
    at_once: bool,
) -> int:
    """The session is over: give MLflow the rest; returns how many records it lacks. What goes wrong
    is the coordinator's error."""
    missing = 0
    try:
        coordinator.control.close(coordinator)
        confirmation.note_session(study, confirms=False)
        after_trial.forget_heard()  # a pack may have written while its trial was being stopped
        status = "FINISHED" if is_finished(study.trials(), study.space) else "KILLED"
        # MLflow may just be starting, which takes some seconds.
        patience_seconds = 6.0 if at_once or coordinator.fatal else 60.0
        missing = tracker.close(status, patience_seconds=patience_seconds)
        after_trial.keep_marks("RUNNING" if missing else status)
        for one in backup:
            one.close()
    except Exception as error:  # where the study cannot be written, this cannot either
        coordinator.stop(error)
    return missing


def _backup(
    folder: SweepFolder,
    study: Study,
    stop: Callable[[Exception], None],
    say: Callable[[str], None],
) -> list[Backup]:
    """The snapshots of a sweep whose files lie elsewhere, which this driver claims now; none of
    another."""
    if folder.files == folder.root:
        return []
    claim = elsewhere.Claim(folder, study.uid)
    claim.make()
    numbers = [record.number for record in study.every_trial()]
    if forgotten := elsewhere.forget_unknown(folder, numbers):
        say(f"the study does not know {forgotten} of the trials in {folder.files}: deleted there")
    return [Backup(folder, claim, stop=stop, say=say)]


def _earlier(
    space: Space, folder: SweepFolder, data: Identity, surveyor: Surveyor, data_dir: Path | None
) -> WarmStart:
    """What the earlier sweeps that a space names have to tell. `data`: of the base trial."""

    @functools.cache
    def digest_of(settings: Data) -> str:
        same = settings == space.trial.data
        return str((data if same else surveyor.identity_of(settings, data_dir))["digest"])

    count_parameters = functools.partial(surveyor.parameters_of, data_dir=data_dir)
    return known_before(space, folder, count_parameters=count_parameters, digest_of=digest_of)


def _say_to(listeners: Iterable[Listener]) -> Callable[[str], None]:
    def say(message: str) -> None:
        for listener in listeners:
            listener.say(message)

    return say


def _write_space(folder: SweepFolder, space: Space, study: Study) -> None:
    if study.space != space:
        study.set_space(space)
    folder.blobs.put(folder.space.name, space.to_yaml())
