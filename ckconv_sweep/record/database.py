"""The SQLite file of a study: made whole, opened with care, written in transactions.

The tables are Optuna's (`optuna.storages._rdb.models`), so that every tool for its studies reads
ours. Where Optuna commits each value by itself, what belongs together is written here at once.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import TrialState

from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.durable import give_name, opened, sync
from ckconv_sweep.errors import CannotWrite, CkconvSweepError, DamagedData, SweepBusy
from ckconv_sweep.record.filesystem import is_local
from ckconv_sweep.record.folder import SweepFolder

optuna.logging.set_verbosity(optuna.logging.ERROR)

T = TypeVar("T")


# Making and opening


def make(path: Path, name: str, *, maximize: Sequence[bool], notes: Mapping[str, Any]) -> None:
    """A new study; `maximize` is told of each metric. It gets its name when it is whole, so that a
    driver that is killed on the way leaves none."""
    new = path.with_name(f".tmp-{path.name}")
    _remove(new)
    try:
        with translated(new):
            os.close(opened(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        set_journal_mode(new)
        with storage_at(new, new=True) as storage:
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=[_direction(more) for more in maximize],
            )
            with transaction(storage) as writes:
                writes.set_notes(study._study_id, notes)
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(new)
        raise
    crash_point("study.made")
    give_name(new, path)


def _direction(maximize: bool) -> StudyDirection:
    return StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE


def _remove(path: Path) -> None:
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()


@contextlib.contextmanager
def storage_at(path: Path, *, new: bool = False) -> Iterator[RDBStorage]:
    """Optuna's storage in this file. Raises as `translated`, and DamagedData."""
    with translated(path):
        if not new:
            check_size(path)
            read(path, lambda: _check_tables(path))
        url = sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()
        options = {"connect_args": {"timeout": _PATIENCE_SECONDS}}
        storage = read(path, lambda: RDBStorage(url, engine_kwargs=options))
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()  # the last to leave folds the write-ahead log into the file


def set_journal_mode(path: Path) -> None:
    """Write-ahead logging where the file system is local: faster, and readers never wait. It needs
    shared memory between processes, which a network file system does not have."""
    mode = "WAL" if is_local(path.parent) else "DELETE"
    with translated(path), contextlib.closing(_connected(path)) as connection:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise _damaged(path, said.splitlines()[-1])
        connection.execute(f"PRAGMA journal_mode={mode}")


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_PATIENCE_SECONDS)


_PATIENCE_SECONDS = 60
"""How long somebody else's transaction is waited for."""

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
    with contextlib.closing(_connected(path)) as connection:
        found = {name for (name,) in connection.execute("select name from sqlite_master")}
    missing = _TABLES - found
    if missing:
        raise LookupError(f"it lacks the tables {', '.join(sorted(missing))}")


def check_size(path: Path) -> None:
    """SQLite takes an empty file for an empty database, and would fill it. Only the size is asked:
    opening and closing the file would drop the locks of this process's other connections to it
    (sqlite.org/howtocorrupt.html, sec. 2.2)."""
    with translated(path):
        if path.stat().st_size == 0:
            raise _damaged(path, "it is empty")


# Writing


class Writes:
    """Rows for Optuna's tables, all of one transaction."""

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self._connection = connection

    def set_name(self, study_id: int, name: str) -> None:
        """What Optuna calls the study."""
        studies = models.StudyModel.__table__
        one = studies.c.study_id == study_id
        self._connection.execute(sqlalchemy.update(studies).where(one).values(study_name=name))

    def empty(self, study_id: int, *, maximize: Sequence[bool]) -> None:
        """Take away all that the study holds; what is left is a new one with these directions."""
        keeps = (models.StudyModel.__table__, models.VersionInfoModel.__table__)
        for table in reversed(models.BaseModel.metadata.sorted_tables):
            if table not in keeps:
                self._connection.execute(sqlalchemy.delete(table))
        rows = [
            {"study_id": study_id, "objective": objective, "direction": _direction(more)}
            for objective, more in enumerate(maximize)
        ]
        directions = models.StudyDirectionModel.__table__
        self._connection.execute(sqlalchemy.insert(directions), rows)

    def set_notes(self, study_id: int, notes: Mapping[str, Any]) -> None:
        """Attributes of the study, in the place of older ones; one that is None is taken away."""
        self._set(models.StudyUserAttributeModel, {"study_id": study_id}, notes)

    def set_attributes(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Attributes of a trial, in the place of older ones; one that is None is taken away."""
        self._set(models.TrialUserAttributeModel, {"trial_id": trial_id}, attributes)

    def set_value(self, trial_id: int, epoch: int, value: float) -> None:
        """The value by which an epoch is compared; it is finite."""
        model = models.TrialIntermediateValueModel
        stored, kind = model.intermediate_value_to_stored_repr(value)
        owner = {"trial_id": trial_id, "step": epoch}
        self._replace(model, owner, {"intermediate_value": stored, "intermediate_value_type": kind})

    def end(
        self, trial_id: int, state: TrialState, values: Sequence[float], ended: datetime.datetime
    ) -> None:
        """How a running trial ended, and the values by which it is judged, if there are any.
        `ended` is in UTC, without a time zone."""
        trials = models.TrialModel.__table__
        running = (trials.c.trial_id == trial_id) & (trials.c.state == TrialState.RUNNING)
        changed = self._connection.execute(
            sqlalchemy.update(trials).where(running).values(state=state, datetime_complete=ended)
        )
        if changed.rowcount != 1:
            raise AssertionError("a trial that has ended cannot end again")
        model = models.TrialValueModel
        for objective, value in enumerate(values):
            stored, kind = model.value_to_stored_repr(value)
            owner = {"trial_id": trial_id, "objective": objective}
            self._replace(model, owner, {"value": stored, "value_type": kind})

    def _set(self, model: Any, owner: Mapping[str, int], values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            row = None if value is None else {"value_json": json.dumps(value)}
            self._replace(model, {**owner, "key": key}, row)

    def _replace(self, model: Any, key: Mapping[str, Any], row: Mapping[str, Any] | None) -> None:
        table = model.__table__
        same = sqlalchemy.and_(*(table.c[name] == value for name, value in key.items()))
        self._connection.execute(sqlalchemy.delete(table).where(same))
        if row is not None:
            self._connection.execute(sqlalchemy.insert(table).values(**key, **row))


@contextlib.contextmanager
def transaction(storage: RDBStorage, *, synced: bool = True) -> Iterator[Writes]:
    """What is written inside is there as a whole, or not at all. `synced`: whether it survives a
    power cut as soon as it is left, not only the end of this process."""
    with storage.engine.connect() as connection:
        # Between transactions; inside one SQLite refuses it. Without a log it could leave a damaged
        # file behind.
        driver: Any = connection.connection.driver_connection
        may_wait = not synced and driver.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        if may_wait:
            driver.execute("PRAGMA synchronous=NORMAL")
        try:
            with connection.begin():
                yield Writes(connection)
        finally:
            if may_wait:
                driver.execute("PRAGMA synchronous=FULL")


def sync_log(path: Path) -> None:
    """Let all that was committed survive a power cut. For any thread; a log has no locks that
    closing it would drop."""
    with (
        contextlib.suppress(FileNotFoundError),  # there is none: each commit is synced
        path.with_name(f"{path.name}-wal").open("rb") as log,
    ):
        sync(log)


def now() -> datetime.datetime:
    """In UTC without a time zone, as the tables keep it."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def count_of(path: Path) -> tuple[int, int]:
    """How many epochs and ended trials a study holds; in no session's way."""
    with translated(path), contextlib.closing(_connected(path)) as connection:
        (epochs,) = connection.execute("select count(*) from trial_intermediate_values").fetchone()
        (ended,) = connection.execute(
            "select count(*) from trials where state not in ('RUNNING', 'WAITING')"
        ).fetchone()
    return int(epochs), int(ended)


UNREADABLE = (OSError, sqlite3.Error, ValueError)
"""What `note_at` raises of a file that is no study."""


def note_at(path: Path, key: str) -> Any:
    """One attribute of the study in a file, or None, without opening it as one."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database:
        found = database.execute(
            "select value_json from study_user_attributes where key = ?", (key,)
        ).fetchone()
    return None if found is None else json.loads(found[0])


# What SQLite says


NOTHING_CHANGED = "nothing was changed"


def see_doctor(path: Path) -> str:
    """What to do about a study that cannot be read."""
    return f"{NOTHING_CHANGED}; what else is wrong, and what to do: {doctor_of(path)}"


def doctor_of(path: Path) -> str:
    """The command that looks at a study's sweep."""
    return SweepFolder(path.parent, path.parent.name).command("doctor")


def read(path: Path, reading: Callable[[], T]) -> T:
    """What reading gives. SQLite has no checksums: a flipped bit in a text shows when somebody
    decodes it, in whatever way.

    Raises:
        DamagedData: a record cannot be decoded. A study of another version of Optuna, too.
    """
    try:
        return reading()
    except (CkconvSweepError, OSError, *_OF_SQLITE):  # for `translated`
        raise
    except Exception as error:  # foreign bytes make Optuna, SQLAlchemy and alembic raise anything
        first = str(error).partition("\n")[0]
        raise _damaged(path, f"a record was not written by ckconv-sweep: {first}") from error


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours.

    Raises:
        SweepBusy: another program keeps the file locked.
        CannotWrite: the disk is full, or the file cannot be opened or written.
        DamagedData: SQLite finds it damaged.
    """
    try:
        yield
    except _OF_SQLITE as error:
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
            raise CannotWrite(
                f"the study cannot be written: {cause}{_room_beside(path)}", where=str(path)
            ) from error
        if code in _OURS:
            raise
        raise _damaged(path, str(cause)) from error
    except OSError as error:
        if error.filename != str(path):
            raise
        raise CannotWrite(
            f"the study cannot be opened: {error.strerror}", where=str(path)
        ) from error


def _room_beside(path: Path) -> str:
    """SQLite calls a full disk an error of the disk, too."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return ""
    return f" ({free:,} bytes are free)" if free < 2**20 else ""


_OF_SQLITE = (sqlalchemy.exc.DBAPIError, StorageInternalError, sqlite3.Error)
_OURS = (sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOMEM)
"""What says nothing about the file."""

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
        hint=see_doctor(path),
    )
