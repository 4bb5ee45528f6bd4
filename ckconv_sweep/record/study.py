"""The study of one sweep, as an Optuna study on SQLite.

A trial's epoch is written as the trial's attribute `epoch:<number>` (all its metrics, when it
ended, its checkpoint), then as Optuna's intermediate value. The value is the acknowledgement: an
epoch without it never happened. Only one process writes, the driver that holds the sweep's lock.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from ckconv_sweep.config.history import Epoch, objective
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space, exhausted
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.errors import CannotWrite, DamagedData, SweepBusy
from ckconv_sweep.keys import REASON_CONSTRAINT, Outcome
from ckconv_sweep.record.filesystem import is_local, sync_folder
from ckconv_sweep.record.folder import SweepFolder

optuna.logging.set_verbosity(optuna.logging.ERROR)

_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_STATES: dict[Outcome, TrialState] = {
    "completed": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What the study knows of one trial."""

    number: int
    outcome: Outcome
    params: Mapping[str, Any]
    history: tuple[Epoch, ...]
    reason: str = ""
    error: str = ""
    started_ms: int = 0
    ended_ms: int | None = None
    sessions: tuple[int, ...] = ()
    """The number of the driver's session in which each epoch was acknowledged."""
    spent_seconds: float = 0.0
    """How long the sweep had run in all its sessions when the last epoch was acknowledged."""

    @property
    def counts(self) -> bool:
        """Whether it is part of the budget; a trial that violated a constraint is not."""
        return self.reason != REASON_CONSTRAINT


def is_finished(records: Sequence[TrialRecord], space: Space) -> bool:
    """Whether the budget of trials, or the grid, is spent and every trial has ended."""
    counted = [record for record in records if record.counts]
    spent = len(counted) >= space.budget.trials or exhausted(space, len(records))
    return spent and all(record.outcome != "running" for record in counted)


class Study:
    """One sweep's study, open."""

    def __init__(self, folder: SweepFolder, study: optuna.Study) -> None:
        self.folder = folder
        self._study = study
        self._storage = study._storage
        self._ids = {t.number: t._trial_id for t in study.get_trials(deepcopy=False)}

    # Opening

    @classmethod
    @contextlib.contextmanager
    def create_or_open(cls, folder: SweepFolder, space: Space) -> Iterator[Study]:
        """For the driver, who holds the lock: the study of this folder, made if there is none yet.

        Raises:
            DamagedData: the file is there, and is no whole study.
            CannotWrite, SweepBusy: it cannot be written; another program keeps it locked. Also
                later, from any use of the study.
        """
        if not folder.study.exists():
            _make(folder, space)
        with _spoken(folder.study):
            _check_size(folder.study)
        _set_journal_mode(folder.study)
        with cls.open(folder) as study:
            yield study

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: SweepFolder) -> Iterator[Study]:
        """For readers; also while a driver writes. Raises as `create_or_open`."""
        with _storage(folder.study) as storage:
            names = _read(folder.study, lambda: optuna.get_all_study_names(storage))
            if folder.name not in names:
                raise DamagedData(
                    f"holds no study of this sweep, but {', '.join(sorted(names)) or 'none'}",
                    where=str(folder.study),
                    hint="was its folder renamed? It must bear the name that it was launched with",
                )

            def read_all() -> Study:
                opened = cls(folder, optuna.load_study(storage=storage, study_name=folder.name))
                opened.trials()
                opened.space  # noqa: B018
                return opened

            yield _read(folder.study, read_all)

    # Reading

    @functools.cached_property
    def space(self) -> Space:
        """The space with which the sweep was started, its budget as last extended."""
        return parse_space(self._study.user_attrs["space"], f"study of {self.folder.name}")

    def note(self, key: str) -> Any:
        """What the driver noted about the sweep, or None."""
        return self._study.user_attrs.get(key)

    def notes(self) -> dict[str, Any]:
        return dict(self._study.user_attrs)

    def trials(self) -> list[TrialRecord]:
        """Every trial, by number."""
        return [_record(t) for t in self._study.get_trials(deepcopy=False)]

    def trial(self, number: int) -> TrialRecord:
        return _record(self._storage.get_trial(self._ids[number]))

    def contradictions(self) -> list[str]:
        """What no driver leaves behind, a sentence each."""
        return [
            f"trial {trial.number}: {sentence}"
            for trial in self._study.get_trials(deepcopy=False)
            for sentence in _contradictions(trial, self.space.metric)
        ]

    # Writing

    def set_note(self, key: str, value: Any) -> None:
        self._study.set_user_attr(key, value)

    def set_space(self, space: Space) -> None:
        self._study.set_user_attr("space", space.to_yaml())
        self.space = space

    def next_number(self) -> int:
        """The number that the next new trial will get."""
        return len(self._ids)

    def ask(self, sampler: BaseSampler) -> optuna.Trial:
        """A new trial, to draw its parameters from."""
        self._study.sampler = sampler
        trial = self._study.ask()
        crash_point("trial.asked")
        self._ids[trial.number] = trial._trial_id
        return trial

    def ask_again(self, number: int, sampler: BaseSampler) -> optuna.Trial:
        """An unfinished trial: parameters that it has are drawn as they are, also when the driver
        was killed half-way through drawing them; the missing ones are drawn new."""
        self._study.sampler = sampler
        return optuna.Trial(self._study, self._ids[number])

    def add_epoch(
        self,
        number: int,
        epoch: Epoch,
        value: float,
        *,
        session: int = 1,
        spent_seconds: float = 0.0,
    ) -> None:
        """Acknowledge an epoch; `value` is its metric, which the pruner compares. `session` and
        `spent_seconds`: see TrialRecord."""
        trial_id = self._ids[number]
        attribute = {
            "metrics": dict(epoch.metrics),
            "timestamp_ms": epoch.timestamp_ms,
            "checkpoint": epoch.checkpoint,
            "session": session,
            "spent_seconds": spent_seconds,
        }
        self._storage.set_trial_user_attr(trial_id, f"epoch:{epoch.number}", attribute)
        crash_point("epoch.described")
        self._storage.set_trial_intermediate_value(trial_id, epoch.number, value)

    def should_stop(self, number: int, pruner: BasePruner) -> bool:
        """Whether the stopping rule ends the trial after its last epoch. What the rule must
        remember, it writes to the study."""
        return pruner.prune(self._study, self._storage.get_trial(self._ids[number]))

    def end(self, number: int, outcome: Outcome, *, reason: str = "", error: str = "") -> None:
        """Tell what became of a trial. A completed one gets the value by which it is judged."""
        trial_id = self._ids[number]
        if reason:
            self._storage.set_trial_user_attr(trial_id, "reason", reason)
        if error:
            self._storage.set_trial_user_attr(trial_id, "error", error[-10_000:])
        crash_point("trial.explained")
        value = None
        if outcome == "completed":
            value = objective(self.trial(number).history, self.space.metric)
        self._study.tell(number, value, state=_STATES[outcome])
        crash_point("trial.told")


def _record(trial: FrozenTrial) -> TrialRecord:
    history, sessions, spent_seconds = [], [], 0.0
    for number in sorted(trial.intermediate_values):
        kept = trial.user_attrs.get(f"epoch:{number}")
        if kept is None:  # a reader's values may be a moment younger than its attributes
            break
        kept = dict(kept)
        sessions.append(kept.pop("session", 1))
        spent_seconds = kept.pop("spent_seconds", 0.0)
        history.append(Epoch(number=number, **kept))
    return TrialRecord(
        number=trial.number,
        outcome=_OUTCOMES[trial.state],
        params=trial.params,
        history=tuple(history),
        reason=trial.user_attrs.get("reason", ""),
        error=trial.user_attrs.get("error", ""),
        started_ms=_ms(trial.datetime_start) or 0,
        ended_ms=_ms(trial.datetime_complete),
        sessions=tuple(sessions),
        spent_seconds=spent_seconds,
    )


def _contradictions(trial: FrozenTrial, metric: Metric) -> Iterator[str]:
    numbers = sorted(trial.intermediate_values)
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"its epochs are not counted from 1 without a gap: {numbers}"
    for number in numbers:
        kept = trial.user_attrs.get(f"epoch:{number}")
        if kept is None:
            yield f"epoch {number} was acknowledged and has no metrics"
        elif kept["metrics"].get(metric.name) != trial.intermediate_values[number]:
            yield f"epoch {number} was acknowledged with another {metric.name} than its metrics say"
    history = _record(trial).history
    if trial.state is TrialState.COMPLETE:
        if not history or trial.value != objective(history, metric):
            yield f"it completed with {trial.value}, which is not what its epochs say"
    elif trial.state is TrialState.FAIL and not trial.user_attrs.get("reason"):
        yield "it failed without a reason"
    elif trial.state is TrialState.PRUNED and not history:
        yield "it was stopped early before its first epoch"


def _ms(when: Any) -> int | None:
    return None if when is None else math.floor(when.timestamp() * 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _make(folder: SweepFolder, space: Space) -> None:
    """A new study. It gets its name when it is whole, so that a driver that is killed on the way
    leaves none."""
    path = folder.study.with_name(".tmp-study.db")
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    with _spoken(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.close(descriptor)
    _set_journal_mode(path)
    with _storage(path, new=True) as storage:
        study = optuna.create_study(
            storage=storage,
            study_name=folder.name,
            direction="maximize" if space.metric.mode == "max" else "minimize",
        )
        first = {"uid": uuid.uuid4().hex, "created_ms": _now_ms(), "space": space.to_yaml()}
        for key, value in first.items():
            study.set_user_attr(key, value)
    crash_point("study.made")
    path.rename(folder.study)
    sync_folder(path.parent)


@contextlib.contextmanager
def _storage(path: Path, *, new: bool = False) -> Iterator[optuna.storages.RDBStorage]:
    with _spoken(path):
        if not new:
            _check_size(path)
            _read(path, lambda: _check_tables(path))
        url = sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()
        options = {"connect_args": {"timeout": _PATIENCE_SECONDS}}
        storage = _read(path, lambda: optuna.storages.RDBStorage(url, engine_kwargs=options))
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()  # the last to leave folds the write-ahead log into the file


SEE_DOCTOR = "nothing was changed; what else is wrong, and what to do: ckconv-sweep doctor"

_PATIENCE_SECONDS = 60
"""How long somebody else's transaction is waited for."""


def _set_journal_mode(path: Path) -> None:
    """Write-ahead logging where the file system is local: faster, and readers never wait. It needs
    shared memory between processes, which a network file system does not have."""
    mode = "WAL" if is_local(path.parent) else "DELETE"
    with (
        _spoken(path),
        contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE_SECONDS)) as connection,
    ):
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise _damaged(path, said.splitlines()[-1])
        connection.execute(f"PRAGMA journal_mode={mode}")


def _read(path: Path, reading: Callable[[], T]) -> T:
    """What reading gives. SQLite has no checksums: a flipped bit in a text shows when somebody
    makes something of it, in whatever way.

    Raises:
        DamagedData: it cannot be made something of. A study of another version of Optuna, too.
    """
    try:
        return reading()
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        first = str(error).partition("\n")[0]
        raise _damaged(path, f"a record in it is none of ours: {first}") from error


_TABLES = {
    "alembic_version",
    "studies",
    "study_directions",
    "study_system_attributes",
    "study_user_attributes",
    "trial_intermediate_values",
    "trial_params",
    "trial_system_attributes",
    "trial_user_attributes",
    "trial_values",
    "trials",
    "version_info",
}


def _check_tables(path: Path) -> None:
    """Optuna would make those that are missing, and so change a damaged study."""
    with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE_SECONDS)) as connection:
        found = {name for (name,) in connection.execute("select name from sqlite_master")}
    missing = _TABLES - found
    if missing:
        raise LookupError(f"it lacks the tables {', '.join(sorted(missing))}")


def _check_size(path: Path) -> None:
    """SQLite takes an empty file for an empty database, and would fill it. Only the size is asked:
    opening and closing the file would drop the locks of this process's other connections to it
    (sqlite.org/howtocorrupt.html, sec. 2.2)."""
    if path.stat().st_size == 0:
        raise _damaged(path, "it is empty")


@contextlib.contextmanager
def _spoken(path: Path) -> Iterator[None]:
    """What SQLite says, in our words."""
    try:
        yield
    except (sqlalchemy.exc.DBAPIError, StorageInternalError, sqlite3.Error) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, sqlite3.Error):
            cause = getattr(cause, "orig", None) or cause.__cause__
        if cause is None:
            raise
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise SweepBusy(
                f"another program has kept the study locked for {_PATIENCE_SECONDS} seconds",
                where=str(path),
            ) from error
        if code in _CANNOT_WRITE:
            raise CannotWrite(f"the study cannot be written: {cause}", where=str(path)) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            raise _damaged(path, str(cause)) from error
        raise
    except OSError as error:
        if error.filename != str(path):
            raise
        raise CannotWrite(
            f"the study cannot be opened: {error.strerror}", where=str(path)
        ) from error


_CANNOT_WRITE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
)


def _damaged(path: Path, why: str) -> DamagedData:
    return DamagedData(
        f"the study cannot be read: {why}",
        where=str(path),
        hint=SEE_DOCTOR,
    )
