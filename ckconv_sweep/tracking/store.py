"""Where MLflow keeps its runs, how it is opened, and how to point at it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sqlite3
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ckconv_sweep import keys
from ckconv_sweep.config.names import expanded
from ckconv_sweep.durable import give_name, opened
from ckconv_sweep.record.filesystem import is_local

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Client calls must fail soon: `tracking.outbox` tries again by itself, for as long as it takes.
# The client's own second try would make a second run when only the answer to the first was lost.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Nothing of ours is a pickle, so nothing of MLflow's needs to be read as one.
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"

_SQLITE, _PYSQLITE = "sqlite:///", "sqlite+pysqlite:///"
_SECRET_QUERY = re.compile(r"(?i)([?&][^=&#]*(?:pass|pwd|secret|token|key)[^=&#]*=)[^&#\s]*")
_USER_INFO = re.compile(r"(?i)([a-z][a-z0-9+.-]*://)([^\s:/@]*):\S*@")


def default_uri(sweeps_dir: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or the database beside the sweeps."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    return given or database_uri(default_database(sweeps_dir))


def default_database(sweeps_dir: Path) -> Path:
    """MLflow's database, unless the user names another place. It moves with the sweeps."""
    return expanded(sweeps_dir).resolve() / "mlflow.db"


def database_uri(path: Path) -> str:
    """The address of a database on this machine."""
    quoted = str(path).translate({ord(letter): quote(letter) for letter in "%?#"})
    # MLflow makes the folder of the address as it is written, unless that names the driver.
    return (_SQLITE if quoted == str(path) else _PYSQLITE) + quoted


def noted(uri: str, sweeps_dir: Path) -> str:
    """An address as a sweep notes it: the default database by its name alone, others without a
    password."""
    if is_default(uri, sweeps_dir):
        return default_database(sweeps_dir).name
    return without_password(uri)


def is_default(uri: str, sweeps_dir: Path) -> bool:
    """Whether it is the address of the database beside the sweeps."""
    return uri == database_uri(default_database(sweeps_dir))


def kept_notes(notes: Mapping[str, Any], sweeps_dir: Path) -> dict[str, Any]:
    """What the study's note `mlflow` says of MLflow, with the address at which that is now; empty
    where the sweep was never tracked."""
    kept = dict(notes.get("mlflow") or {})
    default = default_database(sweeps_dir)
    return kept | {"uri": database_uri(default)} if kept.get("uri") == default.name else kept


def tracked_at(notes: Mapping[str, Any], sweeps_dir: Path) -> str | None:
    """Where a sweep was tracked last, by its study's notes; None if it never was. They hold no
    password: `MLFLOW_TRACKING_URI` has it, where it is the same address."""
    kept: str | None = kept_notes(notes, sweeps_dir).get("uri")
    default = default_uri(sweeps_dir)
    return default if kept == without_password(default) else kept


def experiment_name() -> str:
    """The MLflow experiment that holds the sweeps."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME", "").strip() or keys.EXPERIMENT


# What may be said of an address


def without_password(uri: str) -> str:
    """The address as it may be printed. A password may hold anything, so all up to the last @ is
    taken for one: rather too much than too little."""
    return _SECRET_QUERY.sub(r"\1***", _USER_INFO.sub(r"\1\2:***@", uri))


def reason(error: BaseException, uri: str) -> str:
    """Why a call to MLflow failed, in one line without a password."""
    *above, deepest = causes(error)
    if isinstance(deepest, TimeoutError):
        text = "it took too long"
    elif any(isinstance(cause, OSError | sqlite3.Error) for cause in [*above, deepest]):
        text = getattr(deepest, "strerror", None) or str(deepest)
    else:
        text = str(error)
    text = text.strip().partition("\n")[0] or type(error).__name__
    text = without_password(text.replace(uri, without_password(uri)))
    user_info = _USER_INFO.match(uri)
    if user_info:
        password = user_info[0].partition("://")[2].partition(":")[2][:-1]
        for form in {password, unquote(password)}:
            if len(form) > 3:
                text = text.replace(form, "***")
    return textwrap.shorten(text, 300, placeholder=" ...")


def causes(error: BaseException) -> list[BaseException]:
    """An error and those that it comes from, the first one last."""
    found = [error]
    while below := found[-1].__cause__ or found[-1].__context__:
        found.append(below)
    return found


# Opening


def quiet_client(uri: str) -> Any:
    """An `MlflowClient` whose libraries write nothing into the live view."""
    from mlflow import MlflowClient

    _hush()
    return MlflowClient(tracking_uri=uri)


def experiment(client: Any, location: str | None, say: Callable[[str], None]) -> str:
    """The id of the experiment that holds the sweeps, which is made where there is none.

    Args:
        location: where the files of its runs lie; None: where the server puts them.
        say: hears that it was deleted and is restored.
    """
    name = experiment_name()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except Exception as error:  # another driver made it at the same moment
            if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found.lifecycle_stage == "deleted":  # its name cannot be taken anew
        client.restore_experiment(found.experiment_id)
        say(f"MLflow's experiment {name!r} was deleted; it is restored")
    return str(found.experiment_id)


def _hush() -> None:
    for library in ("mlflow", "alembic"):
        logging.getLogger(library).setLevel(logging.ERROR)


def local_database(uri: str) -> Path | None:
    """The file of a database on this machine; None for a server."""
    if not uri.startswith((_SQLITE, _PYSQLITE)):
        return None
    return Path(unquote(uri.partition(":///")[2].partition("?")[0])).absolute()


def artifact_location(uri: str) -> str | None:
    """Beside a local database; never the current folder, which is MLflow's default."""
    database = local_database(uri)
    return None if database is None else (database.parent / "mlartifacts").as_uri()


@contextlib.contextmanager
def first_to_open(uri: str) -> Iterator[None]:
    """Two processes that open a new MLflow database at once break it for good: one at a time."""
    path = local_database(uri)
    if path is None:
        yield
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = opened(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not path.exists():
            _make(path)
        take_files_along(path, artifact_location(uri) or "")
        yield
    finally:
        os.close(descriptor)


def take_files_along(database: Path, location: str) -> None:
    """Let a database of ours look for the files of runs at `location`, which lies beside it. MLflow
    notes whole paths, and somebody may have moved or copied both since. What is no database of
    MLflow stays as it is."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(database, timeout=60)) as connection,
        connection,
    ):
        (before,) = connection.execute(
            "select artifact_location from experiments where name = ?", (experiment_name(),)
        ).fetchone() or (location,)
        if before == location or not before.endswith("/mlartifacts"):  # the user's own place
            return
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(
                f"update {table} set {column} = :now || substr({column}, length(:before) + 1) "
                f"where instr({column} || '/', :before || '/') = 1",
                {"now": location, "before": before},
            )


def _make(path: Path) -> None:
    """A new database gets its name when its tables are whole: MLflow never opens again one whose
    making was interrupted. A local one gets write-ahead logging, so that the pages can be read
    while a sweep writes."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    _hush()
    new = path.with_name(f".new-{path.name}")
    for left in path.parent.glob(f"{new.name}*"):
        left.unlink()
    os.close(opened(new, os.O_WRONLY | os.O_CREAT))
    store = SqlAlchemyStore(  # type: ignore[no-untyped-call]
        database_uri(new), artifact_location(database_uri(path))
    )
    store.engine.dispose()
    if is_local(path.parent):
        with contextlib.closing(sqlite3.connect(new)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    for end in ("-wal", "-shm", "-journal"):  # of a database that was deleted: SQLite would write
        path.with_name(path.name + end).unlink(missing_ok=True)  # their pages into the new one
    give_name(new, path)
