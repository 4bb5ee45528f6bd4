"""What MLflow refuses for good: said once, counted, and nothing else is kept back."""

from __future__ import annotations

import json
import math
import shutil
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sweep.in_process import make_space

from ckconv_sweep import keys
from ckconv_sweep.config.metrics import Score
from ckconv_sweep.errors import TrackingError
from ckconv_sweep.tracking.answers import check_answers
from ckconv_sweep.tracking.charts import _columns

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


class _Picky:
    """Refuses calls that hold a value of one of these names, as MLflow does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

        self.calls = 0
        log_batch, log_inputs = MlflowClient.log_batch, MlflowClient.log_inputs

        def check(*found: str) -> None:
            self.calls += 1
            if set(found) & set(names):
                raise MlflowException("not this one", INVALID_PARAMETER_VALUE)

        def picky_batch(client: Any, run_id: str, *values: Any, **more: Any) -> Any:
            check(*(value.key for kind in (*values, *more.values()) for value in kind))
            return log_batch(client, run_id, *values, **more)

        def picky_inputs(client: Any, run_id: str, **more: Any) -> None:
            check("a dataset")
            log_inputs(client, run_id, **more)

        monkeypatch.setattr(MlflowClient, "log_batch", picky_batch)
        monkeypatch.setattr(MlflowClient, "log_inputs", picky_inputs)


@pytest.mark.parametrize(
    ("name", "said", "missing"),
    [
        ("train/loss", "train/loss at epoch 1 of t000", 4),  # of two trials, three and one epochs
        ("summary/epochs", "summary/epochs of t000", 2),
        ("summary/parameters", "summary/parameters of t000", 2),
        ("model.dropout", "model.dropout of one", 3),  # of the sweep, too
        ("outcome", "outcome of t000", 2),
        ("a dataset", "the dataset of t000", 2),
    ],
)
def test_one_refused_value_costs_nothing_else_of_a_trial(
    name: str, said: str, missing: int, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"count_parameters": lambda trial: 7, "data_digest": "ab"}
    whole, _ = make(database, "whole", more=more)
    refusing, heard = make(database, "one", more=more)
    for tracker in (whole, refusing):
        tracker.catch_up(RECORDS[:2], lambda r: SPACE.resolve(r.params, r.number))
        tracker.start()
        assert tracker.close("FINISHED") == (0 if tracker is whole else missing)
        if tracker is whole:
            _Picky(monkeypatch, name)
    assert len(heard) == 1
    assert f"refused {said} and goes without it: not this one" in heard[0]
    before, after = (runs_of(database, name) for name in ("whole", "one"))
    for number in ("t000", "t001"):
        there, left = before[number], after[number]
        assert left.info.status == "FINISHED"
        points = points_of(database, there)
        points.pop(name, None)
        assert points_of(database, left) == points
        assert left.data.params == {k: v for k, v in there.data.params.items() if k != name}
        lost = {k for k in there.data.tags if k not in left.data.tags}
        assert lost == {name} & {"outcome"}
        assert bool(left.inputs.dataset_inputs) == (name != "a dataset")


def test_of_a_thousand_values_the_refused_one_is_found_in_a_few_calls(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = record(0, "completed", 3, "epochs")
    many = {f"val/{i}": 0.5 for i in range(300)}
    history = [replace(epoch, metrics={**epoch.metrics, **many}) for epoch in long.history]
    history[1] = replace(history[1], metrics={**history[1].metrics, "odd": 1.0})
    picky = _Picky(monkeypatch, "odd")
    tracker, said = make(database, "many")
    long = replace(long, history=tuple(history))
    tracker.catch_up([long], lambda r: SPACE.resolve(r.params, r.number))
    tracker.start()
    assert tracker.close("FINISHED") == 1
    assert "refused odd at epoch 2 of t000" in said[0]
    assert picky.calls < 40
    run = runs_of(database, "many")["t000"]
    assert [step for step, _, _ in points_of(database, run)["val/299"]] == [1, 2, 3]


LABELS = ["adam+warm", "adam*warm", "50%", "a/../b", "`x' or tags", "m" * 300, "m" * 301]


def test_labels_of_blocks_may_be_any_text(uri: str) -> None:
    """A label is part of a setting's name, and that of a metric's."""
    blocks = "".join(
        f"      {json.dumps(label)}: {{name: adam, learning_rate: "
        "{low: 1e-4, high: 1e-3, log: true}}\n"
        for label in LABELS
    )
    space = make_space(search=f"  optimizer:\n    choices:\n{blocks}")
    records = [
        replace(
            record(i, "completed", 1, "epochs"),
            params={"optimizer": label, f"optimizer.{label}.learning_rate": 1e-4 * (i + 1)},
        )
        for i, label in enumerate(LABELS)
    ]
    name = f"labels-{uri[:6]}"
    tracker, said = make(uri, name, space=space, more={"space": space})
    tracker.catch_up(records, lambda r: space.resolve(r.params, r.number))
    tracker.start()
    assert tracker.close("FINISHED") == 0, said
    assert said == []
    axes = {
        axis: value
        for run in runs_of(uri, name).values()
        for axis, value in run.data.metrics.items()
        if axis.startswith(keys.LOG10)
    }
    assert sorted(axes.values()) == pytest.approx(sorted(math.log10(1e-4 * i) for i in range(1, 8)))
    drawn = {axis for column in _columns(space) if (axis := column.axis)}
    assert drawn <= axes.keys()


@given(st.lists(st.text(min_size=1, max_size=400), min_size=2, max_size=4, unique=True))
@example(["a+b", "a*b", "a_b"])
@example(["x" * 500, "x" * 501])
def test_mlflow_takes_any_setting_under_a_name_of_its_own(names: list[str]) -> None:
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name

    made = [keys.log10_of(f"{name}.omega_0") for name in names]
    assert len(set(made)) == len(names)
    for name in made:
        _validate_metric_name(name)  # type: ignore[no-untyped-call]
        assert len(name) <= MAX_ENTITY_KEY_LENGTH
    assert keys.log10_of("kernel.omega_0") == "log10/kernel.omega_0"


def test_a_score_whose_name_mlflow_would_refuse_is_not_registered() -> None:
    with pytest.raises(ValueError, match=r"'f1@5': a name is of letters"):
        Score("f1@5", "somewhere:f1", "max", ("binary",))


def test_settings_that_differ_from_those_there_are_refused_and_all_else_arrives(
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
    assert "refused model.dropout of t000" in said[0]
    runs = runs_of(database, "other")
    assert len(points_of(database, runs["t000"])["val/accuracy"]) == 3
    assert runs["t000"].data.params == runs["t001"].data.params | {
        "model.dropout": "0.9",
        "training.seed": "5",
    }
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

    from ckconv_sweep.tracking.answers import is_refusal

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
    assert "says: " in said[0]
    assert "set MLFLOW_TRACKING_USERNAME" in said[0]
    assert "S3CR3T" not in said[0]


@pytest.mark.fault("secrets")
def test_one_that_is_required_is_not_taken_for_one_that_answers(closed_to_us: str) -> None:
    with pytest.raises(TrackingError, match=r"401|authenticated") as refused:
        check_answers(closed_to_us)
    assert "S3CR3T" not in str(refused.value)
    assert "S3CR3T" not in "".join(traceback.format_exception(refused.value))
