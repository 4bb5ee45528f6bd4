"""For all tests: the libraries' telemetry off, where the shared reference files lie, and a real
MLflow and a real Ray, made once."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# The user's own settings must not reach the tests.
for name in (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "CKCONV_DATA",
    "CKCONV_SWEEPS",
    "RAY_ADDRESS",
):
    os.environ.pop(name, None)

ROOT = Path(__file__).resolve().parents[1]

# The same examples in each `make test`, so that what it says is about the change; `make fuzz`
# (HYPOTHESIS_EXAMPLES) tries new ones.
settings.register_profile("the same", derandomize="HYPOTHESIS_EXAMPLES" not in os.environ)
settings.load_profile("the same")

gc.set_threshold(50_000, 20, 50)  # as in the program
# A script that runs the tests in its background (`make test &`) has them ignore Ctrl-C, and so
# would the programs that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = ("e2e", "execution", "cli", "tracking")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin first (`--no-loadscope-reorder`), so that none is left over at the
    end for one process alone."""

    def place(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return LONG.index(folder) if folder in LONG else len(LONG)

    items.sort(key=place)


@pytest.fixture(scope="module", autouse=True)
def _what_is_there_stays() -> None:
    """A collection of garbage, of which a trial without room or on the wrong node makes several,
    need not look through the 6,000 tests and all that was imported each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the authors' reference files and real MNIST, which are no part of the
    repository."""
    folder = Path(os.environ.get("CKCONV_SHARED", ROOT.parent / "shared"))
    if not (folder / "reference").is_dir() or not (folder / "data" / "mnist").is_dir():
        pytest.skip("needs ../shared or CKCONV_SHARED: the authors' reference files, real MNIST")
    return folder


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder of the test's own, in memory where the system has such."""
    from sweep.in_process import IN_MEMORY

    with tempfile.TemporaryDirectory(prefix="ckconv-test-", dir=IN_MEMORY) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """One for all tests of a process: each leaves it running, and without runs that another could
    take for its own."""
    from tracking.mlflow_real import served

    with served(tmp_path_factory.mktemp("mlflow-server")) as running:
        yield running


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


@pytest.fixture
def nothing_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report has its pictures, each with its words, but empty: drawing takes most of its time."""
    from ckconv_sweep.report import page

    def picture(drawing: object, alt: str) -> page.Picture:
        return page.Picture(address="data:,", narrow="data:,", alt=alt)

    monkeypatch.setattr(page, "_picture", picture)


@pytest.fixture(scope="module")
def ray_of_two() -> Iterator[None]:
    """A Ray of this machine with two CPUs and no GPU."""
    from ckconv_sweep.execution import cluster, local_ray

    for name, value in cluster._QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    with local_ray.bare():
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
