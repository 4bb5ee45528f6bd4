"""Where MLflow keeps its runs, and what may be said of its address."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks.chaos.driver import forked
from ckconv_sweep import keys
from ckconv_sweep.errors import TrackingError
from ckconv_sweep.tracking.answers import check_answers, check_takes_runs
from ckconv_sweep.tracking.outbox import RunOfSweep, uid
from ckconv_sweep.tracking.runs import Runs
from ckconv_sweep.tracking.store import (
    default_uri,
    first_to_open,
    reason,
    without_password,
)

from .mlflow_real import Server
from .tracked import RECORDS, SPACE, all_events, check, deliver

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.mark.fault("first-open-race")
def test_four_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    new = f"sqlite:///{tmp_path}/new/mlflow.db"
    processes = [
        forked(partial(deliver, new, f"sweep-{i}", RECORDS[:1], "FINISHED"), tmp_path / f"{i}.log")
        for i in range(4)
    ]
    assert [process.wait() for process in processes] == [0] * 4, [p.said() for p in processes]
    for i in range(4):
        check(new, f"sweep-{i}", RECORDS[:1], "FINISHED")


@pytest.mark.fault("first-open-race")
def test_a_database_whose_making_was_killed_is_made_again(tmp_path: Path) -> None:
    """MLflow can never again open one that has only some of its tables."""

    def make() -> None:
        from mlflow.store.tracking import sqlalchemy_store

        utils: Any = sqlalchemy_store.mlflow.store.db.utils
        whole = utils._upgrade_db

        def killed(engine: Any) -> None:
            whole(engine)
            os.kill(os.getpid(), signal.SIGKILL)

        utils._upgrade_db = killed
        with first_to_open(f"sqlite:///{tmp_path}/mlflow.db"):
            pass

    assert forked(make, tmp_path / "log").wait() == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    assert (tmp_path / ".new-mlflow.db").stat().st_size > 0
    deliver(f"sqlite:///{tmp_path}/mlflow.db", "again", RECORDS)
    check(f"sqlite:///{tmp_path}/mlflow.db", "again", RECORDS)
    assert not list(tmp_path.glob(".new-*"))


@pytest.mark.fault("modes")
def test_a_new_database_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with first_to_open(f"sqlite:///{tmp_path}/new/mlflow.db"):
            pass
    finally:
        os.umask(before)
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in (tmp_path / "new").iterdir()}
    assert modes == {"mlflow.db": "0o600", "mlflow.lock": "0o600"}
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.fault("filters")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60),
    tag=st.text(st.characters(exclude_categories=("Cs",)), max_size=60),
)
@example(name="r' AND params.lr = '0.1", tag="%")
@example(name="o'brien", tag="' OR tags.x = '")
@example(name="%", tag="`")
def test_nothing_that_a_user_named_enters_what_mlflow_is_asked(name: str, tag: str) -> None:
    asked: list[str] = []

    class Client:
        def search_runs(self, experiments: list[str], filter_string: str, **_: Any) -> list[Any]:
            asked.append(filter_string)
            return []

        def create_run(self, *_: Any, **options: Any) -> Any:
            assert options["tags"]["ckconv.uid"] in asked[-1]
            return SimpleNamespace(info=SimpleNamespace(run_id="1"))

        def get_run(self, _: str) -> Any:
            return SimpleNamespace(data=SimpleNamespace(tags={}))

        def __getattr__(self, _: str) -> Any:
            return lambda *_, **__: []

    runs = Runs(
        "http://nowhere",
        RunOfSweep(name=name, uid=uid(name), role="sweep", params={name: tag}, tags={"t": tag}),
        base=SPACE.trial,
        say=lambda _: None,
        marks={},
    )
    runs._client, runs.experiment_id = Client(), "1"
    runs.write_sweep("RUNNING")
    for event in all_events(RECORDS[:2]):
        runs.write_trial(event.number, [event])
    runs.compare(RECORDS, thoroughly=True)
    assert len(asked) == 4
    assert all(re.fullmatch(r"tags\.`ckconv\.uid` = '[0-9a-f]{32}'", a) for a in asked)


@pytest.mark.fault("filters")
def test_sweeps_with_odd_names_get_exactly_their_own_runs(database: str) -> None:
    names = ["a", "a' OR tags.role = 'sweep", "%", "o'brien", 'a"b`c']
    for name in names:
        deliver(database, name, RECORDS[:1])
    for name in names:
        deliver(database, name, RECORDS[:2])
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=database)
    (experiment,) = [e for e in client.search_experiments() if e.name == keys.EXPERIMENT]
    runs = client.search_runs([experiment.experiment_id])
    found = Counter(run.data.tags[keys.TAG_SWEEP] for run in runs)
    assert found == dict.fromkeys(names, 3)


@pytest.mark.fault("tracking-down-at-start")
@pytest.mark.parametrize("kind", ["nothing there", "old", "empty"])
def test_a_required_database_that_can_be_written_is_taken_and_not_made(
    kind: str, database: str, tmp_path: Path
) -> None:
    uri = database if kind == "old" else f"sqlite:///{tmp_path}/new/mlflow.db"
    if kind == "empty":
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "mlflow.db").touch()
    before = sorted(tmp_path.rglob("*"))
    check_takes_runs(uri)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.fault("tracking-down-at-start")
@pytest.mark.parametrize("kind", ["below a file", "a folder", "no database"])
def test_a_required_database_that_cannot_be_used_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    if kind == "below a file":
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "mlflow.db"
    elif kind == "a folder":
        path.mkdir()
    else:
        path.write_text("something else")
    with pytest.raises(TrackingError, match="MLflow cannot be used"):
        check_takes_runs(f"sqlite:///{path}")


@pytest.mark.fault("tracking-down-at-start")
def test_a_required_server_that_answers_is_taken_and_left_as_it_was(server: Server) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server.uri)
    before = [e.name for e in client.search_experiments()]
    check_answers(server.uri)
    assert [e.name for e in client.search_experiments()] == before


@pytest.mark.fault("secrets")
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
        ("http://u:S3/CR3T#@host/p", "http://u:***@host/p"),
        ("http://u:S3CR3T@[::1", "http://u:***@[::1"),
        (
            "postgresql://db/x?user=u&password=S3CR3T&a=1",
            "postgresql://db/x?user=u&password=***&a=1",
        ),
        ("https://host/?api_key=S3CR3T", "https://host/?api_key=***"),
        ("file:///a@b", "file:///a@b"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert without_password(address) == shown


@pytest.mark.fault("secrets")
def test_a_reason_is_one_line_without_a_password_in_any_form() -> None:
    uri = "http://me:S3CR3T%2Fx@host:5000/"
    for text in (
        f"API request to {uri}api failed\nand more",
        "http://me:S3CR3T%2Fx@host:5000/api: 500",
        "the password S3CR3T/x is wrong",
        "S3CR3T%2Fx",
    ):
        said = reason(RuntimeError(text), uri)
        assert "S3CR3T" not in said
        assert "\n" not in said
    error = RuntimeError(uri)
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert reason(error, uri) == "Connection refused"
    assert reason(RuntimeError(), uri) == "RuntimeError"


@pytest.mark.fault("filters")
def test_a_uid_is_32_hexadecimal_digits_that_name_one_trial_for_ever() -> None:
    assert len({uid("a"), uid("a", 0), uid("a", 1), uid("b", 0)}) == 4
    assert all(len(uid("o'brien", n)) == 32 and int(uid("o'brien", n), 16) for n in range(9))


def test_the_default_database_lies_beside_the_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert default_uri(tmp_path) == "http://host:5000"
