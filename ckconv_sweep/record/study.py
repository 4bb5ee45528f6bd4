"""The study of one sweep, as an Optuna study on SQLite.

An epoch is one transaction: the trial's attribute `epoch:<number>` (all its metrics, when it ended,
its checkpoint, what the stopping rule answered) and Optuna's intermediate value. So is the end of a
trial, with a digest of all that the study holds of it. An end is synced, and epochs are once a
second and before MLflow is told of them: what a power cut takes is trained again. Only one process
writes, the driver that holds the sweep's lock.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import functools
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from ckconv_sweep.config.history import Epoch, Verdict, objectives
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.errors import DamagedData
from ckconv_sweep.keys import REASON_CONTINUED, Outcome
from ckconv_sweep.record import database
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.frozen import FrozenTrials, without_collection
from ckconv_sweep.record.rows import (
    DIGEST,
    check_notes,
    contradictions_of,
    digest_of,
    record_of,
    short_hash,
    was_changed,
    written_verdict,
)
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.record.versions import FORMAT
from ckconv_sweep.record.watched import Watched

_STATES: dict[Outcome, TrialState] = {
    "completed": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "continued": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


_SYNC_SECONDS = 1.0
"""After which an epoch is synced, which takes longer than all else that is done to record it."""

_parsed = functools.lru_cache(maxsize=16)(parse_space)
"""Whoever watches a sweep opens its study again and again."""


class Study:
    """One sweep's study, open. Its trials are read when somebody asks for them.

    Args:
        before: the same study as it was opened before; what was read of it is not read again.
    """

    def __init__(
        self, folder: SweepFolder, storage: RDBStorage, before: Study | None = None
    ) -> None:
        self.folder = folder
        names = optuna.get_all_study_names(storage)
        if len(names) != 1:
            raise DamagedData(
                f"holds {len(names)} studies, and a sweep has one",
                where=str(folder.records.path),
                hint=f"they are called {', '.join(sorted(names))}"
                if names
                else database.see_doctor(folder.records.path),
            )
        self._study = optuna.load_study(storage=storage, study_name=names[0])
        self._database = storage
        self._file = Watched(folder.records.path, storage)
        self._frozen = FrozenTrials(storage, self._study._study_id)
        self._ended: dict[int, TrialRecord] = {}
        """By number. They do not change any more, and are made once."""
        self._writes: database.Writes | None = None
        """The transaction that is open."""
        self._synced_at = -math.inf
        self.written = Counter[str]()
        """How many epochs and ends of trials were recorded here."""
        check_notes(self.notes())
        if before is not None and before._file.is_same(self._file):
            self._frozen.know(before._frozen)
            self._ended = before._ended

    @functools.cached_property
    def _ids(self) -> dict[int, int]:
        """Optuna's ids of the trials, by number."""
        return {trial.number: trial._trial_id for trial in self._frozen.all()}

    def check_file(self) -> None:
        """Raises CannotWrite if the study's file was taken away or replaced."""
        self._file.check()

    # Reading

    @functools.cached_property
    def space(self) -> Space:
        """The space with which the sweep was started, its budget as last extended."""
        return _parsed(self._study.user_attrs["space"], f"study of {self.folder.name}")

    def note(self, key: str) -> Any:
        """What the driver noted about the sweep, or None."""
        return self._study.user_attrs.get(key)

    @property
    def uid(self) -> str:
        """32 hexadecimal digits that name the sweep for ever, whatever its folder is called."""
        return str(self.note("uid"))

    def notes(self) -> dict[str, Any]:
        return dict(self._study.user_attrs)

    def trials(self) -> list[TrialRecord]:
        """Those of the search, by number."""
        return [record for record in self.every_trial() if record.confirms is None]

    def confirmations(self) -> list[TrialRecord]:
        """Those that train a setting again to confirm it, by number."""
        return [record for record in self.every_trial() if record.confirms is not None]

    def every_trial(self) -> list[TrialRecord]:
        """The search's and those that confirm, by number."""
        return self._read(self._frozen.all)

    def trial(self, number: int) -> TrialRecord:
        return self._read(lambda: [self._frozen.one(self._ids[number])])[0]

    def read_again(self, number: int) -> TrialRecord:
        """A trial as it is now, for any thread; what is read is not kept."""
        frozen = self._frozen.one
        return database.read(self.folder.records.path, lambda: record_of(frozen(self._ids[number])))

    def _read(self, frozen: Callable[[], Sequence[FrozenTrial]]) -> list[TrialRecord]:
        """Raises DamagedData if a trial is not what a driver writes: whoever gets the records can
        rely on their types, on the metrics of each epoch, and on the names of parameters."""
        metrics = {metric.name for metric in self.space.metrics}
        searched = self.space.parameters().keys()

        def records() -> Iterator[TrialRecord]:
            for trial in frozen():
                if trial.number in self._ended:
                    yield self._ended[trial.number]
                    continue
                record = record_of(trial)
                for name in record.params.keys() - searched:
                    raise ValueError(f"trial {trial.number}: nothing called {name!r} is searched")
                if record.outcome == "completed" and not record.history:
                    raise ValueError(f"trial {trial.number} completed without an epoch")
                for epoch in record.history:
                    for name in metrics - epoch.metrics.keys():
                        raise ValueError(f"trial {trial.number}, epoch {epoch.number}: no {name}")
                if trial.state.is_finished():
                    self._ended[trial.number] = record
                yield record

        with without_collection():
            return database.read(self.folder.records.path, lambda: list(records()))

    def contradictions(self) -> list[str]:
        """What no driver leaves behind, a sentence each."""
        found = []
        if self.note("space_digest") != short_hash(self.note("space")):
            found.append("the space was changed since the driver wrote it")
        earlier = self.note("warm_trials")
        if earlier and earlier["digest"] != short_hash(earlier["text"]):
            found.append("the trials of earlier sweeps were changed since the driver wrote them")
        return found + [
            f"trial {trial.number}: {sentence}"
            for trial in self._frozen.all()
            for sentence in contradictions_of(trial, self.space.metrics)
        ]

    def changed_trials(self) -> list[int]:
        """The ended trials whose record is not what the driver wrote when they ended."""
        return [t.number for t in self._frozen.all() if was_changed(t)]

    # Writing

    def set_note(self, key: str, value: Any) -> None:
        self._study.set_user_attr(key, value)
        self.check_file()

    def set_notes(self, notes: Mapping[str, Any]) -> None:
        """Several at once, all of them or none."""
        with self._transaction() as writes:
            writes.set_notes(self._study._study_id, notes)

    def set_uid(self, uid: str, notes: Mapping[str, Any]) -> None:
        """Make it another sweep's study, with these notes; one that is None is taken away."""
        with self._transaction() as writes:
            writes.set_name(self._study._study_id, uid)
            writes.set_notes(self._study._study_id, {"uid": uid, **notes})
        self._study.study_name = uid

    def is_unused(self) -> bool:
        """Whether no trial has begun: it holds none, but for draws that were rejected."""
        begun = any(record.counts or record.history for record in self.trials())
        return not begun and not self.folder.has_trials()

    def start_over(self, space: Space) -> None:
        """Make an unused study a new one, with another space and under another uid. It must be
        opened again after this: what was read of it is outdated."""
        assert self.is_unused()
        notes, study_id = _first_notes(space), self._study._study_id
        with self._transaction() as writes:
            writes.empty(study_id, maximize=_maximize(space))
            writes.set_name(study_id, notes["uid"])
            writes.set_notes(study_id, notes)

    def set_space(self, space: Space) -> None:
        with self._transaction() as writes:
            writes.set_notes(self._study._study_id, _space_notes(space))
        self.space = space

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """The epochs that are written inside are one transaction; nothing may be read there."""
        with self._transaction(synced=False):
            yield

    def sync(self) -> None:
        """Let all that is recorded survive a power cut. For any thread."""
        database.sync_log(self.folder.records.path)

    @contextlib.contextmanager
    def _transaction(self, *, synced: bool = True) -> Iterator[database.Writes]:
        if self._writes is not None:
            yield self._writes
            return
        now = time.monotonic()
        synced = synced or now - self._synced_at > _SYNC_SECONDS
        try:
            with database.transaction(self._database, synced=synced) as self._writes:
                yield self._writes
            if synced:
                self._synced_at = now
        finally:
            self._writes = None
        self.check_file()

    def next_number(self) -> int:
        """The number that the next new trial will get."""
        return len(self._ids)

    def create(
        self,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        **origin: Any,
    ) -> TrialRecord:
        """A new trial with all its parameters. `origin`: where they are from, by the names of
        TrialRecord: position, first, from_trial."""
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs=origin,
        )
        trial.number = self.next_number()
        self._ids[trial.number] = self._database.create_new_trial(self._study._study_id, trial)
        self.check_file()
        crash_point("trial.recorded")
        return record_of(trial)

    def add_epoch(
        self,
        number: int,
        epoch: Epoch,
        value: float,
        *,
        verdict: Verdict | None = None,
        session: int = 1,
        spent_seconds: float = 0.0,
        gpu_seconds: float = 0.0,
        data: str = "",
    ) -> None:
        """Acknowledge an epoch, with what the stopping rule answered after it. `value` is its
        metric, which the rule compares. What else is noted of it: see TrialRecord."""
        trial_id = self._ids[number]
        attribute = {
            "metrics": dict(epoch.metrics),
            "timestamp_ms": epoch.timestamp_ms,
            "checkpoint": epoch.checkpoint,
            "session": session,
            "spent_seconds": spent_seconds,
            "data": data,
        }
        if gpu_seconds:
            attribute["gpu_seconds"] = gpu_seconds
        if verdict is not None:
            attribute["verdict"] = written_verdict(verdict)
        with self._transaction(synced=False) as writes:
            writes.set_attributes(trial_id, {f"epoch:{epoch.number}": attribute})
            crash_point("epoch.described")
            writes.set_value(trial_id, epoch.number, value)
        self.written["epochs"] += 1

    def end(
        self, number: int, outcome: Outcome, *, reason: str = "", error: str = ""
    ) -> TrialRecord:
        """Tell what became of a trial, and return its record. One that completed or was pruned gets
        the values by which it is judged. What an attempt that was killed left of its reason and
        error is taken away."""
        trial_id = self._ids[number]
        ended = copy.copy(self._frozen.one(trial_id))
        judged = record_of(ended).history if outcome != "failed" else ()
        values = list(objectives(judged, self.space.metrics).values())
        reason = REASON_CONTINUED if outcome == "continued" else reason
        said = {"reason": reason or None, "error": error[-10_000:] or None}
        now = database.now()
        ended.state = _STATES[outcome]
        ended.values = values or None
        ended.datetime_complete = now.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)
        ended.user_attrs = {
            key: value
            for key, value in (ended.user_attrs | said).items()
            if key not in said or value is not None
        }
        with self._transaction() as writes:
            writes.set_attributes(trial_id, {**said, DIGEST: digest_of(ended)})
            crash_point("trial.explained")
            writes.end(trial_id, ended.state, values, now)
        self.written["ends"] += 1
        crash_point("trial.told")
        return record_of(ended)


def _space_notes(space: Space) -> dict[str, str]:
    text = space.to_yaml()
    return {"space": text, "space_digest": short_hash(text)}


def _first_notes(space: Space) -> dict[str, Any]:
    now = time.time_ns() // 1_000_000
    return {"format": FORMAT, "uid": uuid.uuid4().hex, "created_ms": now, **_space_notes(space)}


def _maximize(space: Space) -> list[bool]:
    return [metric.mode == "max" for metric in space.metrics]


def make(path: Path, space: Space) -> None:
    """A new study. Its name is the uid: a folder may get another name."""
    notes = _first_notes(space)
    database.make(path, notes["uid"], maximize=_maximize(space), notes=notes)
