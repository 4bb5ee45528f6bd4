"""For all tests: the libraries' telemetry off, and where the shared reference files lie."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

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


def pytest_collection_finish() -> None:
    """What was collected stays to the end. A collection of garbage, of which a trial without room
    makes several, need not look through some 6,000 tests each time."""
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
