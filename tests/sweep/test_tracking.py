"""MLflow shows what the study knows: all of it, once, whatever happens to the server."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep import keys
from ckconv_sweep.config.history import Epoch, best, objective
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.study import TrialRecord
from ckconv_sweep.sweep.events import Event
from ckconv_sweep.sweep.mlflow_store import comparison_path, default_uri, without_password
from ckconv_sweep.sweep.tracking import Mark, RunOfSweep, Tracker, events_of, uid

from .in_process import make_space
from .mlflow_real import Server, free_port, points_of, runs_of

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

SPACE = make_space(
    search="  model.dropout: {choices: [0.0, 0.1, 0.2, 0.3]}\n  optimizer.learning_rate: "
    "{choices: [0.001, 0.1234567891]}",
)
REPOSITORY = Path(__file__).parents[2]


def record(
    number: int, outcome: Any, epochs: int, reason: str = "", error: str = ""
) -> TrialRecord:
    history = tuple(
        Epoch(
            number=i,
            metrics={"val/accuracy": [0.5, 0.8, 0.7][i - 1] + number / 100, "train/loss": 1.0 / i},
            timestamp_ms=1_700_000_000_000 + 1000 * number + i,
        )
        for i in range(1, epochs + 1)
    )
    return TrialRecord(
        number=number,
        outcome=outcome,
        params={"model.dropout": 0.1, "optimizer.learning_rate": 0.1234567891},
        history=history,
        reason=reason,
        error=error,
        started_ms=1_700_000_000_000 + 1000 * number,
        ended_ms=None if outcome == "running" else 1_700_000_000_500 + 1000 * number,
    )


RECORDS = [
    record(0, "completed", 3, "epochs"),
    record(1, "pruned", 1),
    record(2, "failed", 2, "nonfinite", "val/loss became nan in epoch 3"),
    record(3, "failed", 0, "error", "a traceback"),
    record(4, "running", 2),
    record(5, "failed", 0, "constraint", "outside the budget and outside MLflow"),
]


def make(uri: str, name: str, *, space: Space = SPACE, **others: Any) -> tuple[Tracker, list[str]]:
    said: list[str] = []
    tracker = Tracker(
        uri,
        RunOfSweep(
            name=name,
            uid=uid(name),
            role=keys.ROLE_SWEEP,
            params=flat(space.trial.model_dump(mode="json")),
            artifacts={"space.yaml": space.to_yaml()},
        ),
        base=space.trial,
        say=said.append,
        **others,
    )
    return tracker, said


def deliver(
    uri: str,
    name: str,
    records: list[TrialRecord],
    status: str = "KILLED",
    marks: dict[int, Mark] | None = None,
) -> Tracker:
    tracker, said = make(uri, name, marks=marks)
    tracker.start()
    tracker.catch_up(records, lambda r: SPACE.resolve(r.params, r.number))
    assert tracker.close(status) == 0
    assert said == []
    return tracker


def check(uri: str, name: str, records: list[TrialRecord], status: str = "KILLED") -> None:
    """MLflow holds these records, each of their points once, and nothing else of the sweep."""
    runs = runs_of(uri, name)
    counted = [r for r in records if r.counts]
    assert sorted(runs) == sorted([name, *(keys.trial_name(r.number) for r in counted)])
    parent = runs[name]
    assert parent.info.status == status
    assert parent.data.tags["role"] == "sweep"
    base = {
        k: f"{v:.6g}" if isinstance(v, float) else str(v)
        for k, v in flat(SPACE.trial.model_dump(mode="json")).items()
    }
    assert parent.data.params == base
    for r in counted:
        run = runs[keys.trial_name(r.number)]
        tags = run.data.tags
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert (tags["role"], tags["trial"], tags["sweep"]) == ("trial", str(r.number), name)
        assert tags["changed"] == "model.dropout=0.1 optimizer.learning_rate=0.123457"
        assert run.info.start_time == r.started_ms
        changed = {"model.dropout": "0.1", "optimizer.learning_rate": "0.123457"}
        assert run.data.params == base | changed | {"training.seed": str(5 + r.number)}
        expected: dict[str, list[tuple[int, float, int]]] = {}
        top = -1.0
        for e in r.history:
            top = max(top, e.metrics["val/accuracy"])
            for key, value in {**e.metrics, "val/accuracy_best": top}.items():
                expected.setdefault(key, []).append((e.number, value, e.timestamp_ms))
        if r.outcome == "running":
            assert run.info.status == "RUNNING"
            assert "outcome" not in tags
        else:
            assert r.ended_ms is not None
            assert run.info.status == ("FAILED" if r.outcome == "failed" else "FINISHED")
            assert run.info.end_time == r.ended_ms
            assert tags["outcome"] == r.outcome
            assert tags.get("reason", "") == r.reason
            assert tags.get("error", "") == r.error
            expected["summary/epochs"] = [(0, len(r.history), r.ended_ms)]
            if r.history:
                value = objective(r.history, SPACE.metric)
                assert value == best(r.history, SPACE.metric).metrics["val/accuracy"]
                expected["summary/val_accuracy"] = [(0, value, r.ended_ms)]
        assert points_of(uri, run) == expected


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(params=["sqlite", "server"])
def uri(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("database"))
    return str(request.getfixturevalue("server").uri)


# What stands there


def test_mlflow_shows_each_trial_once_with_its_settings_points_and_outcome(uri: str) -> None:
    deliver(uri, "whole", RECORDS)
    check(uri, "whole", RECORDS)


def test_delivering_everything_again_changes_nothing(uri: str) -> None:
    deliver(uri, "twice", RECORDS)
    deliver(uri, "twice", RECORDS, "FINISHED")
    check(uri, "twice", RECORDS, "FINISHED")


@pytest.mark.parametrize("heard", [1, 3, 5, 8])
def test_a_second_tracker_adds_what_one_that_was_abandoned_had_not_delivered(
    heard: int, database: str
) -> None:
    first, _ = make(database, "two")
    first.start()
    events: list[Event] = [
        event for r in RECORDS[:3] for event in events_of(r, SPACE.resolve(r.params, r.number))
    ]
    for event in events[:heard]:
        first.hear(event)
    wait_until(lambda: first.waiting == 0)
    # Its process dies without a word; the marks are those of some time before.
    stale = {0: Mark(epochs=1)} if heard > 3 else {}
    deliver(database, "two", RECORDS, marks=stale)
    check(database, "two", RECORDS)
    first.close("KILLED")


def test_marks_say_what_mlflow_has_and_what_is_marked_is_not_sent_again(database: str) -> None:
    tracker = deliver(database, "marks", RECORDS)
    assert tracker.marks == {
        0: Mark(3, True),
        1: Mark(1, True),
        2: Mark(2, True),
        3: Mark(0, True),
        4: Mark(2, False),
    }
    later, _ = make(database, "marks", marks=tracker.marks)
    later.catch_up(RECORDS, lambda r: SPACE.resolve(r.params, r.number))
    assert later.waiting == 0
    grown = [*RECORDS[:4], record(4, "completed", 3, "epochs"), RECORDS[5]]
    later.catch_up(grown, lambda r: SPACE.resolve(r.params, r.number))
    assert later.waiting == 3  # its start, the third epoch, the end


def test_a_trial_that_goes_on_after_an_interruption_is_the_same_run(uri: str) -> None:
    first = deliver(uri, "goes-on", RECORDS)
    grown = [*RECORDS[:4], record(4, "completed", 3, "epochs"), RECORDS[5]]
    deliver(uri, "goes-on", grown, "FINISHED", marks=first.marks)
    check(uri, "goes-on", grown, "FINISHED")


def test_the_resolved_space_is_an_artifact_of_the_parent_run(database: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    deliver(database, "artifact", [])
    run = runs_of(database, "artifact")["artifact"]
    assert run.info.artifact_uri.startswith((tmp_path / "mlartifacts").as_uri())
    client = MlflowClient(tracking_uri=database)
    path = client.download_artifacts(run.info.run_id, "space.yaml", str(tmp_path))
    assert Path(path).read_text() == SPACE.to_yaml()


def test_a_run_that_was_made_but_not_described_gets_its_settings(
    database: str, tmp_path: Path
) -> None:
    """As a driver leaves it that is killed between the two."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=database)
    files = (tmp_path / "artifacts").as_uri()
    where = client.create_experiment(keys.EXPERIMENT, artifact_location=files)
    tags = {keys.TAG_UID: uid("half"), "sweep": "half", "role": "sweep"}
    client.create_run(where, run_name="half", tags=tags)
    deliver(database, "half", RECORDS)
    check(database, "half", RECORDS)


def test_a_relative_database_is_opened_where_the_driver_stands(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, "mlflow.db")
    deliver("sqlite:///mlflow.db", "relative", RECORDS)
    check(f"sqlite:///{tmp_path}/mlflow.db", "relative", RECORDS)


NEW = """
import sys
from tests.sweep.test_tracking import RECORDS, deliver
deliver(sys.argv[1], f"sweep-{sys.argv[2]}", RECORDS[:1], "FINISHED")
"""


def test_four_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    new = f"sqlite:///{tmp_path}/new/mlflow.db"
    command = [sys.executable, "-c", NEW, new]
    processes = [
        subprocess.Popen(
            [*command, str(i)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        for i in range(4)
    ]
    ends = [(process.communicate()[1], process.returncode) for process in processes]
    assert [code for _, code in ends] == [0] * 4, ends
    for i in range(4):
        check(new, f"sweep-{i}", RECORDS[:1], "FINISHED")


# When the server does not answer


def wait_until(done: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def all_events(records: list[TrialRecord]) -> list[Event]:
    return [e for r in records for e in events_of(r, SPACE.resolve(r.params, r.number))]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"http://user:S3CR3T@127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_server_that_does_not_answer_holds_nobody_up_and_is_told_of_once(
    kind: str, silent: str
) -> None:
    address = silent if kind == "silent" else f"http://user:S3CR3T@127.0.0.1:{free_port()}"
    tracker, said = make(address, "down")
    events = all_events(RECORDS[:5])
    slowest = 0.0
    tracker.start()
    for event in events:
        before = time.perf_counter()
        tracker.hear(event)
        slowest = max(slowest, time.perf_counter() - before)
    assert slowest < 1.0  # a bug would wait for the server; no speed is measured here
    wait_until(lambda: said)
    time.sleep(0.3)
    before = time.perf_counter()
    assert tracker.close("KILLED", patience_seconds=20.0) == len(events) + 2  # start, end
    assert time.perf_counter() - before < 10.0
    assert len(said) == 1
    assert "does not answer" in said[0]
    assert "user:***@127.0.0.1" in said[0]
    assert "S3CR3T" not in str(said)
    assert tracker.marks == {}


@pytest.mark.usefixtures("impatient")
def test_what_a_server_missed_while_it_was_down_is_delivered_later_exactly_once(
    server: Server,
) -> None:
    tracker, _ = make(f"http://127.0.0.1:{free_port()}", "later")
    tracker.start()
    for event in all_events(RECORDS[:2]):
        tracker.hear(event)
    assert tracker.close("KILLED", patience_seconds=5.0) > 0
    deliver(server.uri, "later", RECORDS, marks=tracker.marks)
    check(server.uri, "later", RECORDS)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_killed_and_comes_back_gets_everything_once(server: Server) -> None:
    tracker, said = make(server.uri, "restart")
    tracker.start()
    events = all_events(RECORDS[:3])
    for event in events[:3]:
        tracker.hear(event)
    wait_until(lambda: tracker.waiting == 0)
    server.kill()
    for event in events[3:]:
        tracker.hear(event)
    wait_until(lambda: said)
    server.start()
    assert tracker.close("FINISHED", patience_seconds=60.0) in range(len(events))
    if len(said) == 1:  # it was closed before it saw that the server is back
        deliver(server.uri, "restart", RECORDS[:3], "FINISHED", marks=tracker.marks)
    else:
        assert said[1] == "MLflow answers again"
    check(server.uri, "restart", RECORDS[:3], "FINISHED")


@pytest.mark.usefixtures("impatient")
def test_a_tracker_notices_by_itself_that_the_server_answers_again(
    server: Server,
) -> None:
    """A gate that is closed, then open, in front of the real server."""
    gate = Gate(server.port)
    try:
        tracker, said = make(f"http://127.0.0.1:{gate.port}", "gate")
        tracker.start()
        for event in all_events(RECORDS[:3]):
            tracker.hear(event)
        wait_until(lambda: said)
        gate.open = True
        wait_until(lambda: tracker.waiting == 0)
        assert tracker.close("FINISHED") == 0
        assert said[1:] == ["MLflow answers again"]
        check(server.uri, "gate", RECORDS[:3], "FINISHED")
    finally:
        gate.close()


def test_a_run_whose_creation_was_answered_to_nobody_is_found_again(server: Server) -> None:
    gate = Gate(server.port, swallow_answers_to=b"/runs/create")
    gate.open = True
    try:
        tracker, _ = make(f"http://127.0.0.1:{gate.port}", "reply-lost")
        tracker.start()
        for event in all_events(RECORDS[:2]):
            tracker.hear(event)
        wait_until(lambda: gate.swallowed == 1 and tracker.waiting == 0)
        assert tracker.close("FINISHED") == 0
        check(server.uri, "reply-lost", RECORDS[:2], "FINISHED")
    finally:
        gate.close()


class Gate:
    """A proxy that drops every connection until it is open; it can swallow one answer."""

    def __init__(self, port: int, swallow_answers_to: bytes = b"") -> None:
        self.open, self.swallowed, self._target = False, 0, port
        self._swallow = swallow_answers_to
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if not self.open:
                client.close()
                continue
            behind = socket.create_connection(("127.0.0.1", self._target))
            due = threading.Event()  # the next answer is to be swallowed
            for ways in ((client, behind, True), (behind, client, False)):
                threading.Thread(target=self._carry, args=(*ways, due), daemon=True).start()

    def _carry(
        self, source: socket.socket, target: socket.socket, asks: bool, due: threading.Event
    ) -> None:
        with source, target, contextlib.suppress(OSError):
            while part := source.recv(1_000_000):
                if asks and self._swallow and self._swallow in part and not self.swallowed:
                    due.set()
                elif not asks and due.is_set():
                    self.swallowed = 1
                    target.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(part)

    def close(self) -> None:
        self._listening.close()


# What a server refuses


def test_what_mlflow_refuses_is_said_once_and_does_not_keep_back_the_rest(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here: one run's settings have other values there already."""
    from mlflow import MlflowClient

    from ckconv_sweep.sweep import tracking

    monkeypatch.chdir(tmp_path)  # MLflow's default place for files is the current folder
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(keys.EXPERIMENT)
    where = found.experiment_id if found else client.create_experiment(keys.EXPERIMENT)
    name = "refused"
    deliver(uri, name, RECORDS[:1])
    run = runs_of(uri, name)["t000"]
    client.delete_run(run.info.run_id)  # in the pages, while the sweep runs
    tracker, said = make(uri, name)
    tracker.start()
    events = all_events(RECORDS[:3])
    wait_until(lambda: tracker.waiting == 0)
    tracker._runs[0] = run.info.run_id
    for event in events:
        tracker.hear(event)
    assert tracker.close("FINISHED") == 4  # three epochs and the end
    assert len(said) == 1
    assert "refused epoch 1 of trial 0" in said[0]
    assert "\n" not in said[0]
    runs = runs_of(uri, name)
    assert sorted(runs) == [name, "t001", "t002"]
    assert runs[name].info.status == "FINISHED"
    assert runs["t002"].info.status == "FAILED"
    assert where
    assert tracking._REFUSALS


def test_one_refused_epoch_does_not_take_its_neighbours_with_it(database: str) -> None:
    odd = record(0, "completed", 3, "epochs")
    metrics = dict(odd.history[1].metrics) | {"not[allowed]": 1.0}
    second = Epoch(number=2, metrics=metrics, timestamp_ms=odd.history[1].timestamp_ms)
    from dataclasses import replace

    odd = replace(odd, history=(odd.history[0], second, odd.history[2]))
    tracker, said = make(database, "odd")
    tracker.catch_up([odd, RECORDS[1]], lambda r: SPACE.resolve(r.params, r.number))
    tracker.start()
    assert tracker.close("FINISHED") == 1
    assert len(said) == 1
    assert "refused epoch 2 of trial 0" in said[0]
    runs = runs_of(database, "odd")
    points = points_of(database, runs["t000"])
    assert [step for step, _, _ in points["val/accuracy"]] == [1, 3]
    assert [run.info.status for run in runs.values()] == ["FINISHED"] * 3


def test_settings_that_differ_from_those_there_are_refused_and_the_curve_still_arrives(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    real = MlflowClient.create_run

    def create(self: Any, *args: Any, **options: Any) -> Any:
        run = real(self, *args, **options)
        if options["run_name"] == "t000":
            self.log_param(run.info.run_id, "model.dropout", "0.9")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", create)
    tracker, said = make(database, "other")
    tracker.start()
    tracker.catch_up(RECORDS[:2], lambda r: SPACE.resolve(r.params, r.number))
    assert tracker.close("FINISHED") == 1
    assert len(said) == 1
    assert "refused the settings of a run" in said[0]
    runs = runs_of(database, "other")
    assert len(points_of(database, runs["t000"])["val/accuracy"]) == 3
    assert [run.info.status for run in runs.values()] == ["FINISHED"] * 3


@pytest.mark.parametrize(
    ("code", "message", "kept"),
    [
        ("INVALID_PARAMETER_VALUE", "no", False),
        ("BAD_REQUEST", "no", False),
        ("BAD_REQUEST", "QueuePool limit of size 5 overflow 10 reached", True),
        ("TEMPORARILY_UNAVAILABLE", "database is locked", True),
        ("REQUEST_LIMIT_EXCEEDED", "429", True),
        ("INTERNAL_ERROR", "API request failed with exception", True),
        ("UNAUTHENTICATED", "401", True),
    ],
)
def test_only_what_is_refused_for_good_is_given_up(code: str, message: str, kept: bool) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    from ckconv_sweep.sweep.tracking import _is_refusal

    assert _is_refusal(MlflowException(message, ErrorCode.Value(code))) != kept
    assert not _is_refusal(ConnectionError(message))


# Words


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://name:S3CR3T@host:5000/p?q=1", "http://name:***@host:5000/p?q=1"),
        ("https://:S3CR3T@host", "https://:***@host"),
        ("http://name@host:5000", "http://name@host:5000"),
        ("http://na%40me:S3@CR3T@host", "http://na%40me:***@host"),
        ("postgresql+psycopg2://u:S3CR3T@db/mlflow", "postgresql+psycopg2://u:***@db/mlflow"),
        ("sqlite:////a/b:c@d/mlflow.db", "sqlite:////a/b:c@d/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert without_password(address) == shown


def test_a_uid_is_32_hexadecimal_digits_that_name_one_trial_for_ever() -> None:
    assert len({uid("a"), uid("a", 0), uid("a", 1), uid("b", 0)}) == 4
    assert all(len(uid("o'brien", n)) == 32 and int(uid("o'brien", n), 16) for n in range(9))


def test_the_default_database_lies_beside_the_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert default_uri(tmp_path) == "http://host:5000"


def test_the_link_to_a_sweeps_trials_escapes_what_an_address_may_not_hold() -> None:
    path = comparison_path("3", "digits", "val/accuracy")
    assert path == (
        "/#/experiments/3/runs?workflowType=machine_learning"
        "&searchFilter=tags.sweep%20%3D%20%27digits%27%20and%20tags.role%20%3D%20%27trial%27"
        "&orderByKey=metrics.%60val/accuracy_best%60&orderByAsc=false"
    )
