"""What MLflow refuses for good: said once, counted, and nothing else is kept back."""

from __future__ import annotations

import shutil
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep import keys
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.errors import TrackingError
from ckconv_sweep.tracking.store import check_answers

from .mlflow_real import points_of, runs_of
from .tracked import RECORDS, SPACE, all_events, check, deliver, make, record, wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.fault("tracking-refuses"),
]


@pytest.fixture(params=["sqlite", "server"])
def uri(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("database"))
    return str(request.getfixturevalue("server").uri)


def test_what_mlflow_refuses_is_said_once_and_does_not_keep_back_the_rest(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here: a run that was deleted in MLflow's pages while the sweep runs."""
    from mlflow import MlflowClient

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
    tracker._runs._ids[0] = run.info.run_id
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


def test_one_refused_epoch_does_not_take_its_neighbours_with_it(database: str) -> None:
    odd = record(0, "completed", 3, "epochs")
    metrics = dict(odd.history[1].metrics) | {"not[allowed]": 1.0}
    second = Epoch(number=2, metrics=metrics, timestamp_ms=odd.history[1].timestamp_ms)

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
    tracker.catch_up(RECORDS[:2], lambda r: SPACE.resolve(r.params, r.number))
    tracker.start()
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

    from ckconv_sweep.tracking.runs import is_refusal

    assert is_refusal(MlflowException(message, ErrorCode.Value(code))) != kept
    assert not is_refusal(ConnectionError(message))


def test_a_place_for_files_that_fails_keeps_nothing_else_back_and_gets_its_files_later(
    database: str, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    (tmp_path / "mlartifacts").write_text("a file where a folder must be")
    tracker, said = make(database, "no-files")
    tracker.catch_up(RECORDS, lambda r: SPACE.resolve(r.params, r.number))
    tracker.start()
    assert tracker.close("KILLED") == 6  # of the sweep and of each trial
    assert len(said) == 1
    assert "takes no files and gets space.yaml later: " in said[0]
    check(database, "no-files", RECORDS)
    (tmp_path / "mlartifacts").unlink()
    deliver(database, "no-files", RECORDS, marks=tracker.marks)
    check(database, "no-files", RECORDS)
    client = MlflowClient(tracking_uri=database)
    for name, run in runs_of(database, "no-files").items():
        there = [file.path for file in client.list_artifacts(run.info.run_id)]
        assert there == ["space.yaml" if name == "no-files" else "trial.yaml"]


def test_a_place_for_files_is_not_asked_again_for_what_it_has(
    database: str, tmp_path: Path
) -> None:
    tracker, said = make(database, "files")
    tracker.catch_up(RECORDS, lambda r: SPACE.resolve(r.params, r.number))
    tracker.start()
    assert tracker.close("KILLED") == 0
    shutil.rmtree(tmp_path / "mlartifacts")
    (tmp_path / "mlartifacts").write_text("a file where a folder must be")
    tracker, said = make(database, "files")
    tracker.catch_up(RECORDS, lambda r: SPACE.resolve(r.params, r.number))
    tracker.start()
    assert tracker.close("KILLED") == 0
    assert said == []


class _LetsNobodyIn(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"You are not authenticated")

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def closed_to_us() -> Iterator[str]:
    """A server that wants another password."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _LetsNobodyIn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:S3CR3T-wrong@127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.fault("secrets")
def test_a_server_that_does_not_know_our_password_is_told_of_as_such_and_nothing_is_given_up(
    closed_to_us: str,
) -> None:
    tracker, said = make(closed_to_us, "unknown")
    events = all_events(RECORDS[:2])
    tracker.start()
    for event in events:
        tracker.hear(event)
    wait_until(lambda: said)
    assert tracker.close("KILLED") == len(events) + 2
    assert len(said) == 1
    assert "does not let us in; training goes on" in said[0]
    assert "S3CR3T" not in said[0]


@pytest.mark.fault("secrets")
def test_one_that_is_required_is_not_taken_for_one_that_answers(closed_to_us: str) -> None:
    with pytest.raises(TrackingError, match=r"401|authenticated") as refused:
        check_answers(closed_to_us)
    assert "S3CR3T" not in str(refused.value)
    assert "S3CR3T" not in "".join(traceback.format_exception(refused.value))
