"""One session of a sweep, from the lock to the last word to MLflow."""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ckconv_sweep.config.data import Data
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.suitable import with_taken
from ckconv_sweep.data.datasets import load
from ckconv_sweep.data.identity import Identity, difference
from ckconv_sweep.durable import as_readable_as
from ckconv_sweep.errors import DataChanged, SpaceChanged, no_room
from ckconv_sweep.execution import protocol as execution
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.protocol import Executor
from ckconv_sweep.models.parameters import parameters_of
from ckconv_sweep.record import place, trained_data, versions, warm_start
from ckconv_sweep.record.budget import is_finished
from ckconv_sweep.record.events import Listener
from ckconv_sweep.record.filesystem import check_writable
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.warm_start import WarmStart
from ckconv_sweep.search.earlier import known_before
from ckconv_sweep.sweep.coordinator import Coordinator
from ckconv_sweep.sweep.delivery import AfterTrial, Session, tracker_of
from ckconv_sweep.sweep.interruption import Interruption, ended_by_signal
from ckconv_sweep.tracking.outbox import FIRST_EPOCH_SECONDS
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
    anew, known_study, knows_earlier = False, None, False
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
                    space = with_taken(space, study.space)
                    changed = versions.check(study, allow_code_change=allow_code_change)
                if any(record.history for record in study.trials()):
                    before = trained_data.noted(study.notes())
                known_study = None if anew else study
                knows_earlier = not anew and study.note(warm_start.NOTE) is not None
        # Read now: one message instead of one for every trial.
        data = load(space.trial.data, data_dir).identity
        changed += check_same_data(before, data, folder.name, allow_change=allow_data_change)
        earlier = WarmStart()
        if not knows_earlier:
            with interruption.shielded():
                earlier = _earlier(space, folder, data, data_dir)
            changed += earlier.in_words()
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
        study = stack.enter_context(folder.records.create(space, known_study))
        own_database = is_default(tracking_uri, folder.root.parent)
        changed += place.settle(study, own_database=own_database)
        _write_space(folder, space, study)
        if earlier.sweeps:
            warm_start.note(study, earlier)
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
            if crowded := space.scheduler.crowded(at_a_time, space.budget.trials):
                listener.say(crowded)
        tracker = tracker_of(
            folder, study, tracking_uri, _say_to(listeners), data_dir, thoroughly=False
        )
        tracker.start(first_epoch_seconds=FIRST_EPOCH_SECONDS)
        after_trial = AfterTrial(folder, study, tracker)
        after_trial.keep_marks()  # also of a session that is killed: where its records went
        after_trial.forget_ended()
        heard = (*listeners, tracker, after_trial)
        coordinator = Coordinator(
            study,
            count_parameters=functools.partial(parameters_of, data_dir=data_dir),
            listeners=heard,
            is_interrupted=lambda: interruption.came,
            places=at_a_time,
        )
        try:
            with ended_by_signal(exit_codes):
                coordinator.attend()
                executor.run(coordinator, interruption, trained, known)
        except Exception as error:
            coordinator.stop(no_room(error, str(folder.root)) or error)
        try:
            coordinator.control.close(coordinator)
            after_trial.forget_heard()  # a pack may have written while its trial was being stopped
            finished = is_finished(study.trials(), study.space)
            status = "FINISHED" if finished else "KILLED"
            # MLflow may just be starting, which takes some seconds.
            patience_seconds = 6.0 if exit_codes or coordinator.fatal else 60.0
            missing = tracker.close(status, patience_seconds=patience_seconds)
            after_trial.keep_marks("RUNNING" if missing else status)
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
            asked_to_end=coordinator.control.ends and not finished,
        )
    return replace(session, signal_exit_code=exit_codes[0]) if exit_codes else session


def _earlier(space: Space, folder: SweepFolder, data: Identity, data_dir: Path | None) -> WarmStart:
    """What the earlier sweeps that a space names have to tell. `data`: of the base trial."""

    @functools.cache
    def digest_of(settings: Data) -> str:
        same = settings == space.trial.data
        return str((data if same else load(settings, data_dir).identity)["digest"])

    count_parameters = functools.partial(parameters_of, data_dir=data_dir)
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
