"""`--require-tracking`: nothing starts unless MLflow answers; without it, training goes on."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .commands import NOBODY, ckconv_sweep, copied, ended, files_in, refused

COMMANDS = {
    "launch": "launch small.yaml",
    "resume": "resume small --trials 9",
    "train": "train trial.yaml",
}


@contextlib.contextmanager
def hanging() -> Iterator[str]:
    """The address of somebody who accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder."""
    folders: dict[str, bytes | None] = {
        str(p.relative_to(folder)): None for p in folder.rglob("*") if p.is_dir()
    }
    return folders | dict(files_in(folder))


@pytest.mark.fault("tracking-down-at-start")
@pytest.mark.fault("secrets")
@pytest.mark.parametrize(
    "command", ["launch", *(pytest.param(c, marks=pytest.mark.slow) for c in ("resume", "train"))]
)
def test_where_nobody_listens_nothing_is_begun(command: str, finished: Path, here: Path) -> None:
    if command == "resume":
        copied(finished / "sweeps", here / "sweeps")
    before = everything(here)
    uri = NOBODY.replace("//", "//me:S3CR3T@")
    done = ckconv_sweep(
        *COMMANDS[command].split(), "--require-tracking", "--tracking-uri", uri, cwd=here
    )
    said = refused(done, 75)
    assert said.startswith(
        "error: http://me:***@127.0.0.1:1: MLflow does not answer: Connection refused\n  start it"
    )
    assert "--require-tracking" in said
    assert "S3CR3T" not in said
    assert everything(here) == before


@pytest.mark.fault("tracking-hangs")
def test_a_server_that_hangs_is_given_three_seconds(here: Path) -> None:
    before = everything(here)
    with hanging() as address:
        begin = time.monotonic()
        done = ckconv_sweep(
            *("launch", "small.yaml", "--require-tracking"),
            cwd=here,
            MLFLOW_TRACKING_URI=f"http://me:S3CR3T@{address}",
        )
        # Three for the server, the rest for Python and MLflow's import on a busy machine.
        assert time.monotonic() - begin < 30
        said = refused(done, 75)
    assert f"error: http://me:***@{address}: MLflow does not answer: no answer within 3 s" in said
    assert "S3CR3T" not in said
    assert everything(here) == before


@pytest.mark.fault("tracking-down-at-start")
def test_a_database_that_can_be_written_answers(here: Path) -> None:
    said = ended(ckconv_sweep("train", "trial.yaml", "--require-tracking", cwd=here))
    assert "best epoch" in said
    assert (here / "runs" / "mlflow.db").exists()


@pytest.mark.fault("tracking-down-at-start")
def test_a_finished_sweep_is_shown_all_the_same(finished: Path, here: Path) -> None:
    copied(finished / "sweeps", here / "sweeps")
    command = ["launch", "small.yaml", "--require-tracking", "--tracking-uri", NOBODY]
    assert "3 trials completed" in ended(ckconv_sweep(*command, cwd=here))


@pytest.mark.fault("tracking-down-at-end")
def test_sync_says_how_much_is_missing_and_delivers_it_when_the_server_is_there(
    finished: Path, here: Path, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    copied(finished / "sweeps", here / "sweeps")
    said = refused(ckconv_sweep("sync", "small", "--tracking-uri", NOBODY, cwd=here), 75)
    assert (
        f"error: {NOBODY}: 17 records not delivered\n" in said
    )  # 3 x (3 epochs + 2), 2 of its own
    other = f"sqlite:///{tmp_path}/other.db"
    for _ in range(2):
        ended(ckconv_sweep("sync", "small", "--tracking-uri", other, cwd=here))
    client = MlflowClient(tracking_uri=other)
    (experiment,) = [e for e in client.search_experiments() if e.name == "ckconv-sweep"]
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["small", "t000", "t001", "t002"]
    for run in runs:
        if run.info.run_name != "small":
            points = client.get_metric_history(run.info.run_id, "val/accuracy")
            assert sorted(point.step for point in points) == [1, 2, 3]
    assert json.loads(ended(ckconv_sweep("status", "small", "--json", cwd=here)))["completed"] == 3
