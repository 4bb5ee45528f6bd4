"""A real MLflow, made once: an empty database to copy, and a server on loopback."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS", "CKCONV_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder of the test's own, in memory where the system has such."""
    from .in_process import IN_MEMORY

    with tempfile.TemporaryDirectory(prefix="ckconv-test-", dir=IN_MEMORY) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from .mlflow_real import Server

    running = Server(tmp_path_factory.mktemp("mlflow-server"))
    try:
        running.start()
        yield running
    finally:
        running.kill()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which MLflow has made its tables, to be copied."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow-empty") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> str:
    """The address of a database in which nothing is tracked yet."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(scope="module")
def ray_of_two() -> Iterator[None]:
    """A Ray of this machine with two CPUs and no GPU."""
    from ckconv_sweep.sweep import cluster

    for name, value in cluster._QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
    )
    try:
        yield
    finally:
        ray.shutdown()
