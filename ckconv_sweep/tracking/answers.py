"""Whether MLflow can be used, and what it says where it cannot: in one line, with what to do."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from ckconv_sweep import keys
from ckconv_sweep.errors import ConfigError, TrackingError
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.tracking.marks import find, has_still, uid
from ckconv_sweep.tracking.store import (
    artifact_location,
    causes,
    experiment,
    experiment_name,
    first_to_open,
    local_database,
    quiet_client,
    reason,
    without_password,
)

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 3.0
"""How long MLflow may take for its first answer, where it is required."""
_LONGEST_TRY_SECONDS = 30.0
"""How long it may take, where it is required, for all that a run needs."""
_SERVERS = ("http", "https", "databricks", "databricks-uc", "uc")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


# What MLflow says


@dataclass(frozen=True)
class Problem:
    """Why MLflow cannot be used: `what` goes after its address, `todo` is empty where nothing can
    be done but wait."""

    what: str
    todo: str

    def __str__(self) -> str:
        return f"{self.what} ({self.todo})" if self.todo else self.what


_REMEDIES = {
    r"out-of-date database schema": "make a copy of it, then run: mlflow db upgrade ADDRESS; if a "
    "newer MLflow wrote it, use that one",
    r"malformed|not a database|no SQLite database": "put a backup in its place, or take it away: "
    "ckconv-sweep sync delivers all that it lacks",
    r"database is locked": "end the program that keeps it locked",
    r"[Hh]ost header": "start the server with --allowed-hosts and the name in the address",
    r"UNAUTHENTICATED|PERMISSION_DENIED|CUSTOMER_UNAUTHORIZED": "it wants a user who may write "
    "there: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    r"readonly|unable to open|Permission denied|cannot be": "its file and folder must be yours to "
    "write",
    r"ENDPOINT_NOT_FOUND|valid JSON": "the address must be the one that the server printed when it "
    "started",
    r"No module named": "install the driver of that database, as in: pip install 'psycopg[binary]'",
    r"[Ee]xperiment name|'name'": "set MLFLOW_EXPERIMENT_NAME to another name",
}
"""What to do, by what MLflow's error code and its words hold."""


_REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
"""MLflow's words for what it will not take however often it is sent."""


def is_refusal(error: Exception) -> bool:
    """Whether MLflow will not take it however often it is sent."""
    # MLflow says BAD_REQUEST, too, where its database is damaged, and a server whose pool of
    # connections is used up for a moment.
    passing = re.search(r"QueuePool|malformed|not a database|disk I/O", str(error))
    return getattr(error, "error_code", "") in _REFUSALS and not passing


def problem(error: BaseException, uri: str) -> Problem:
    """Why a call to MLflow failed, in words, and what to do."""
    text = reason(error, uri)
    said = f"{getattr(error, 'error_code', '')} {text}"
    todo = next((todo for pattern, todo in _REMEDIES.items() if re.search(pattern, said)), "")
    todo = todo.replace("ADDRESS", without_password(uri))
    if local_database(uri) is not None:
        return Problem(f"cannot be used: {text}", todo)
    if "error responses" in text:  # the client has thrown the words away
        return Problem(f"fails: {text}", "its log tells why")
    if any(isinstance(cause, OSError) for cause in causes(error)):
        return Problem(f"does not answer: {text}", "start it")
    return Problem(f"says: {text}", todo)


# An address


def check_address(uri: str, where: str) -> None:
    """Raises ConfigError for an address that no MLflow can have. Nobody is asked.

    Args:
        where: the option that gave it.
    """
    shown = without_password(uri)
    if wrong := _wrong_with(uri):
        raise ConfigError(f"{wrong}: {shown}", where=where, hint=_instead(uri))


def _wrong_with(uri: str) -> str:
    scheme, colon, rest = uri.partition(":")
    if uri in _SERVERS[2:] or scheme in _plugins():
        return ""
    if re.fullmatch(r"[\w.-]+", scheme) and re.match(r"\d+(/|$)", rest):  # a host and its port
        return "an address begins with http:// or https://"
    if not colon or scheme == "file" or not re.fullmatch(r"[A-Za-z][\w.+-]*", scheme):
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("1", "true"):
            return ""
        return "MLflow keeps runs in a database or on a server, no longer in a folder"
    if scheme in _SERVERS[:2]:
        return "" if _is_url(uri) else "not a server's address"
    kind = scheme.partition("+")[0]
    if kind in _DATABASES:
        return _wrong_with_database(uri)
    if kind not in _SERVERS:
        return "MLflow knows no such kind of address"
    return ""


def _instead(uri: str) -> str:
    if re.match(r"[\w.-]+:\d+(/|$)", uri):
        return f"did you mean http://{uri}?"
    last = re.split("[/:]", uri)[-1]
    name = last if last.endswith(".db") else "mlflow.db"
    return f"give a database, as in sqlite:///{name}, or a server, as in http://localhost:5000"


def _plugins() -> set[str]:
    """Kinds of address that other packages have added to MLflow."""
    return {entry.name for entry in entry_points(group="mlflow.tracking_store")}


def _is_url(uri: str) -> bool:
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:
        return bool(parse_url(uri).host)
    except LocationParseError:
        return False


def _wrong_with_database(uri: str) -> str:
    from ckconv_sweep.record import address

    try:
        address.check(uri)
    except Exception as error:
        return str(problem(error, uri)).partition(": ")[2]
    return ""


# A server that is required


def check_answers(uri: str) -> None:
    """Ask MLflow for something, and change nothing.

    Raises:
        TrackingError: no answer came within a few seconds.
    """
    database = local_database(uri)
    if database is None:
        found = _tried(uri, LONGEST_WAIT_SECONDS, _ask)
    elif obstacle := obstacle_to(database):
        found = problem(TrackingError(obstacle), uri)
    else:
        return
    if found:
        raise _refused(uri, found)


def check_takes_runs(uri: str) -> None:
    """Try on MLflow all that a run needs. On a server it leaves a run that is deleted.

    Raises:
        TrackingError: something of it failed, or took long.
    """
    check_answers(uri)
    database = local_database(uri)
    if database is None:
        found = _tried(uri, _LONGEST_TRY_SECONDS, _write_a_run)
    else:
        found = _tried(uri, _LONGEST_TRY_SECONDS, lambda uri: _open(uri, database))
    if found:
        raise _refused(uri, found)


def _refused(uri: str, found: Problem) -> TrackingError:
    hint = "or leave out --require-tracking: what it misses is delivered later"
    return TrackingError(
        f"MLflow {found.what}",
        where=without_password(uri),
        hint=f"{found.todo}, {hint}" if found.todo else hint.removeprefix("or "),
    )


def _tried(uri: str, seconds: float, steps: Callable[[str], Iterator[str]]) -> Problem | None:
    """What is wrong, if anything.

    Args:
        steps: given the address, names what it tries before it does.
    """
    import mlflow  # noqa: F401  # here, because that time is not the server's

    step, ends = "", list[Problem | None]()

    def run() -> None:
        nonlocal step
        try:
            for step in steps(uri):  # noqa: B007
                pass
            ends.append(None)
        except Exception as error:
            found = problem(error, uri)
            why = found.what.partition(": ")[2]
            ends.append(Problem(f"cannot {step}: {why}", found.todo) if step else found)

    # In a thread, because what a client calls its timeout is one for each part of a call.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if ends:
        return ends[0]
    if step:
        return Problem(f"does not {step} within {seconds:g} seconds", "")
    return Problem(f"does not answer: no answer within {seconds:g} seconds", "start it")


def _ask(uri: str) -> Iterator[str]:
    quiet_client(uri).get_experiment_by_name(experiment_name())
    yield ""


def _write_a_run(uri: str) -> Iterator[str]:
    """All that is done with the run of a trial."""
    from mlflow.entities import Metric, Param, RunTag

    client = quiet_client(uri)
    now, name = time.time_ns() // 1_000_000, uid(f"check {time.time_ns()}")
    yield "make an experiment"
    where = experiment(client, None, lambda line: None)
    yield "make a run"
    tags = {keys.TAG_UID: name, keys.TAG_ROLE: "check"}
    run_id = client.create_run(where, run_name="check of --require-tracking", tags=tags).info.run_id
    try:
        yield "log values"
        client.log_batch(
            run_id, [Metric("check", 1.0, now, 0)], [Param("check", "1")], [RunTag("check", "1")]
        )
        yield "take files"
        client.log_text(run_id, "a run needs a place for files\n", "check.txt")
        yield "find a run"
        if find(client, where, name) is None:
            raise TrackingError("it finds none")
        yield "end a run"
        client.set_terminated(run_id)
    finally:
        with contextlib.suppress(Exception):
            client.delete_run(run_id)


def _open(uri: str, database: Path) -> Iterator[str]:
    """Whether MLflow can write to a database that is there; nothing is written. A new one, and its
    folder for files, are made when the sweep begins."""
    yield "use its folder for files"
    place = database.parent / "mlartifacts"
    if place.exists() and not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise PermissionError(0, "it cannot be written", str(place))
    if not database.exists() or not database.stat().st_size:
        return
    yield ""
    with contextlib.closing(sqlite3.connect(database, timeout=LONGEST_WAIT_SECONDS)) as connection:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise sqlite3.DatabaseError("database disk image is malformed")
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
    quiet_client(uri).get_experiment_by_name(experiment_name())


def obstacle_to(database: Path) -> str:
    """Why a local database cannot be used, from what lies there; empty where it can."""
    if database.exists():
        if not database.is_file():
            return "it is no file"
        if not os.access(database, os.R_OK | os.W_OK):
            return "it cannot be read and written"
        with database.open("rb") as file:
            begin = file.read(16)
        return "" if begin in (b"", b"SQLite format 3\0") else "it is no SQLite database"
    parent = next(path for path in database.parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        return f"{parent} cannot be written"
    return ""


def still_there(uri: str, sweep_uid: str, records: Sequence[TrialRecord], status: str) -> bool:
    """Whether MLflow answers, and seems to have all of a sweep that it once had: see
    `marks.has_still`."""
    database = local_database(uri)
    if database is not None and (not database.exists() or obstacle_to(database)):
        return False
    try:
        with first_to_open(uri):
            client = quiet_client(uri)
            found = client.get_experiment_by_name(experiment_name())
        if found is None or found.lifecycle_stage != "active":
            return False
        running = [r.number for r in records if r.outcome == "running"]
        ended = (r.number for r in records if r.counts and r.outcome != "running")
        return has_still(
            client,
            found.experiment_id,
            sweep_uid,
            newest=max(ended, default=None),
            running=running,
            status=status,
            files=artifact_location(uri),
        )
    except Exception as error:  # the caller delivers, and says what is wrong
        log.debug("MLflow was not asked: %s", error)
        return False
