"""What MLflow says where it cannot be used: one line with what to do. What can never work is
refused before anything begins."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep import keys
from ckconv_sweep.errors import ConfigError, TrackingError
from ckconv_sweep.tracking import answers, outbox, store
from ckconv_sweep.tracking.answers import check_address, check_takes_runs, is_refusal, problem
from ckconv_sweep.tracking.store import experiment_name, quiet_client

from .mlflow_real import Server, runs_of
from .tracked import RECORDS, Gate, all_events, check, make, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


# Addresses


@pytest.mark.parametrize(
    ("uri", "message", "hint"),
    [
        ("./mlruns", "no longer in a folder: ./mlruns", "sqlite:///mlflow.db"),
        ("/data/mlruns", "no longer in a folder", "sqlite:///mlflow.db"),
        ("file:///data/mlruns", "no longer in a folder", "http://localhost:5000"),
        ("mlflow", "no longer in a folder", "http://localhost:5000"),
        ("runs.db", "no longer in a folder: runs.db", "sqlite:///runs.db"),
        ("localhost:5000", "begins with http://", "did you mean http://localhost:5000?"),
        ("10.0.0.1:5000", "begins with http://", "did you mean http://10.0.0.1:5000?"),
        ("my-host.org:80/a", "begins with http://", "did you mean http://my-host.org:80/a?"),
        ("http:/host", "not a server's address", "http://localhost:5000"),
        ("http://", "not a server's address", "http://localhost:5000"),
        ("http://host:99999", "not a server's address", "http://localhost:5000"),
        ("htp://host:5000", "MLflow knows no such kind of address", "http://localhost:5000"),
        ("s3://bucket/runs", "MLflow knows no such kind of address", "http://localhost:5000"),
        ("sqlite:mlflow.db", "Could not parse", "sqlite:///mlflow.db"),
        ("sqlite://mlflow.db", "Invalid SQLite URL", "sqlite:///mlflow.db"),
        ("mysql+nosuch://host/db", "Can't load plugin", "sqlite:///"),
        ("http://me:S3CR3T@host:99999", "me:***@host", "sqlite:///"),
    ],
)
def test_an_address_that_no_mlflow_can_have_is_refused(uri: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_address(uri, "--tracking-uri")
    assert refused.value.where == "--tracking-uri"
    assert message in refused.value.message
    assert refused.value.hint is not None
    assert hint in refused.value.hint
    assert "S3CR3T" not in str(refused.value)
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:5000",
        "https://me:pass%2Fword@host.org/mlflow/",
        "http://[::1]:5000",
        "sqlite:///mlflow.db",
        "sqlite:////a folder/50%25/mlflow.db",
        "sqlite+pysqlite:////a%3Fb/mlflow.db",
        "databricks",
        "databricks://profile",
    ],
)
def test_an_address_that_mlflow_can_have_is_taken(uri: str) -> None:
    check_address(uri, "--tracking-uri")


def test_a_kind_of_address_that_a_package_adds_to_mlflow_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "_plugins", lambda: {"mine"})
    check_address("mine://host", "--tracking-uri")


def test_whoever_lets_mlflow_keep_runs_in_folders_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    check_address("./mlruns", "--tracking-uri")


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_of_an_experiment_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    assert experiment_name() == keys.EXPERIMENT


# What is said


@contextlib.contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """The address of somebody who answers this to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "said", "todo"),
    [
        (200, "<html>my blog</html>", "not in a valid JSON", "the server printed"),
        (404, "nothing here", "failed with error code 404", "the server printed"),
        (401, "You are not authenticated", "not authenticated", "set MLFLOW_TRACKING_USERNAME"),
        (403, "Permission denied", "Permission denied", "set MLFLOW_TRACKING_USERNAME"),
        (403, "Invalid Host header - possible DNS rebinding", "Host header", "--allowed-hosts"),
    ],
)
def test_what_a_server_says_is_passed_on_with_what_to_do(
    status: int, body: str, said: str, todo: str
) -> None:
    with answering(status, body) as uri:
        tracker, heard = make(uri, "refused")
        tracker.start()
        wait_until(lambda: heard)
        assert tracker.close("KILLED", patience_seconds=5.0) > 0
        with pytest.raises(TrackingError) as required:
            check_takes_runs(uri)
    (line,) = heard
    assert line.startswith(f"MLflow at {uri} says: ")
    assert said in line
    assert todo in line
    assert line.endswith("; what it misses is kept on disk and delivered later")
    assert said in required.value.message
    assert todo in str(required.value.hint)
    assert "leave out --require-tracking" in str(required.value.hint)


@pytest.mark.parametrize("status", [500, 503])
def test_of_a_server_that_fails_the_status_is_told(status: int) -> None:
    """MLflow's client keeps nothing else of it."""
    with answering(status, "something broke") as uri, pytest.raises(TrackingError) as required:
        check_takes_runs(uri)
    assert required.value.message == f"MLflow fails: too many {status} error responses"
    assert str(required.value.hint).startswith("its log tells why, or leave out --require")


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def older(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("update alembic_version set version_num = 'cc1f77228345'")


def no_database(path: Path) -> None:
    path.write_text("a text of more than sixteen letters")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.fault("tracking-down-at-start")
@pytest.mark.parametrize(
    ("spoil", "said", "todo"),
    [
        (damaged, "malformed", "put a backup in its place"),
        (no_database, "it is no SQLite database", "put a backup in its place"),
        (older, "out-of-date database schema", "mlflow db upgrade sqlite:///"),
        (a_folder, "it is no file", ""),
    ],
)
def test_a_database_that_cannot_be_used_is_named_as_such_and_left_as_it_is(
    spoil: Callable[[Path], None], said: str, todo: str, database: str
) -> None:
    path = Path(database.removeprefix("sqlite:///"))
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(TrackingError) as required:
        check_takes_runs(database)
    assert required.value.message.startswith("MLflow cannot be used: ")
    assert said in required.value.message
    assert todo in str(required.value.hint)
    tracker, heard = make(database, "spoilt")
    tracker.start()
    for event in all_events(RECORDS[:2]):
        tracker.hear(event)
    wait_until(lambda: heard)
    assert tracker.close("KILLED", patience_seconds=5.0) == 2 + 5 + 3
    assert heard == [
        f"MLflow at {database} {problem(required.value, database).what.partition(': ')[0]}: "
        + required.value.message.removeprefix("MLflow cannot be used: ")
        + (f" ({str(required.value.hint).partition(', or leave')[0]})" if todo else "")
        + "; what it misses is kept on disk and delivered later"
    ]
    assert (path.read_bytes() if path.is_file() else b"") == before


@pytest.mark.fault("tracking-down-midway")
@pytest.mark.parametrize("text", ["database disk image is malformed", "QueuePool limit of size 5"])
def test_a_database_that_is_damaged_or_busy_refuses_nothing_for_good(text: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST

    assert not is_refusal(MlflowException(f"(sqlite3.DatabaseError) {text}", BAD_REQUEST))


def test_a_database_that_another_program_keeps_locked_is_named_as_such(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "LONGEST_WAIT_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError) as required:
            check_takes_runs(database)
    assert required.value.message == "MLflow cannot be used: database is locked"
    assert str(required.value.hint).startswith("end the program that keeps it locked, or leave")


# All that a run needs


@pytest.mark.fault("tracking-down-at-start")
def test_a_required_server_that_takes_runs_keeps_none(server: Server) -> None:
    check_takes_runs(server.uri)
    client = quiet_client(server.uri)
    found = client.get_experiment_by_name(keys.EXPERIMENT)
    runs = client.search_runs([found.experiment_id], f"tags.{keys.TAG_ROLE} = 'check'")
    assert runs == []
    assert "" not in runs_of(server.uri, "anything")


@pytest.mark.fault("tracking-down-at-start")
@pytest.mark.parametrize(
    ("call", "step"),
    [
        ("create_run", "make a run"),
        ("log_batch", "log values"),
        ("log_text", "take files"),
        ("set_terminated", "end a run"),
    ],
)
def test_what_a_required_server_refuses_is_named(
    call: str, step: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    def refuse(*_: Any, **__: Any) -> None:
        raise MlflowException("Permission denied", PERMISSION_DENIED)

    monkeypatch.setattr(MlflowClient, call, refuse)
    with pytest.raises(TrackingError) as required:
        check_takes_runs(server.uri)
    assert required.value.message == f"MLflow cannot {step}: Permission denied"
    assert "MLFLOW_TRACKING_USERNAME" in str(required.value.hint)
    client = quiet_client(server.uri)
    found = client.get_experiment_by_name(keys.EXPERIMENT)
    assert client.search_runs([found.experiment_id], f"tags.{keys.TAG_ROLE} = 'check'") == []


@pytest.mark.fault("tracking-hangs")
def test_a_required_server_that_stops_answering_midway_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_LONGEST_TRY_SECONDS", 1.5)
    with Gate(server.port, watched="/runs/log-batch", at_request=server.pause) as gate:
        try:
            with pytest.raises(TrackingError) as required:
                check_takes_runs(gate.uri)
        finally:
            server.go_on()
    assert required.value.message == "MLflow does not log values within 1.5 seconds"


# Shortly before the end


@pytest.mark.fault("tracking-down-at-end")
def test_a_server_that_is_back_shortly_before_the_end_is_given_the_rest(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivering takes longer than a server that is still silent is waited for."""
    from mlflow import MlflowClient

    monkeypatch.setattr(outbox, "_GRACE_SECONDS", 0.5)
    with Gate(server.port) as gate:
        tracker, said = make(gate.uri, "back")
        tracker.start()
        wait_until(lambda: tracker.waiting == 0)
        gate.shut()
        for event in all_events(RECORDS[:3]):
            tracker.hear(event)
        wait_until(lambda: said)
        gate.open = True
        slow = MlflowClient.create_run

        def create(*args: Any, **options: Any) -> Any:
            threading.Event().wait(0.6)
            return slow(*args, **options)

        monkeypatch.setattr(MlflowClient, "create_run", create)
        assert tracker.close("FINISHED") == 0
    assert said[1:] == ["MLflow answers again"]
    check(server.uri, "back", RECORDS[:3], "FINISHED")


@pytest.mark.fault("tracking-down-at-end")
def test_a_try_that_was_under_way_at_the_end_is_not_the_last(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have begun, and hung, long before the server was back."""
    began, closing = threading.Event(), threading.Event()
    real = store.experiment

    def hang(*args: Any) -> str:
        monkeypatch.setattr("ckconv_sweep.tracking.runs.experiment", real)
        began.set()
        assert closing.wait(10)
        raise TimeoutError

    monkeypatch.setattr("ckconv_sweep.tracking.runs.experiment", hang)
    tracker, _ = make(database, "under-way")
    tracker.start()
    for event in all_events(RECORDS[:2]):
        tracker.hear(event)
    assert began.wait(10)
    threading.Timer(0.3, closing.set).start()  # after `close` has begun
    assert tracker.close("FINISHED") == 0
    check(database, "under-way", RECORDS[:2], "FINISHED")


def test_sync_is_patient_as_long_as_something_arrives(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    slow = MlflowClient.create_run

    def create(*args: Any, **options: Any) -> Any:
        threading.Event().wait(0.3)
        return slow(*args, **options)

    monkeypatch.setattr(MlflowClient, "create_run", create)
    for patient, missing in ((False, True), (True, False)):
        tracker, _ = make(database, f"patient-{patient}")
        tracker.start()
        for event in all_events(RECORDS[:5]):
            tracker.hear(event)
        left = tracker.close("KILLED", patience_seconds=0.9, as_long_as_it_takes=patient)
        assert bool(left) == missing
        wait_until(lambda tracker=tracker: not tracker._thread.is_alive())
