from __future__ import annotations

import contextlib
import fcntl
import sqlite3
from pathlib import Path

import pytest

from .commands import NOBODY, SPACE, TRIAL, ckconv_sweep, ended


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a small space, `small.yaml`, and its base trial."""
    return _with_files(tmp_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever looks at the sweep `finished` needs the Ray that ran it."""
    for item in items:
        if "finished" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder in which the sweep `small` was launched, and ran to its end. Not to be changed.
    The processes that run tests share it: one launches, the others wait."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished"
    with folder.with_name("finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "said").exists():
            folder.mkdir()
            said = ended(ckconv_sweep("launch", "small.yaml", cwd=_with_files(folder)))
            # The fork ended without closing it: what is in its log would move while others copy.
            with contextlib.closing(sqlite3.connect(folder / "sweeps" / "mlflow.db")) as database:
                database.execute("pragma wal_checkpoint(truncate)")
            (folder / "said").write_text(said)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `trial.yaml` was trained. Not to be changed."""
    folder = _with_files(tmp_path_factory.mktemp("trained"))
    said = ended(ckconv_sweep("train", "trial.yaml", "--tracking-uri", NOBODY, cwd=folder))
    (folder / "said").write_text(said)
    return folder


def _with_files(folder: Path) -> Path:
    (folder / "trial.yaml").write_text(TRIAL)
    (folder / "small.yaml").write_text(SPACE)
    return folder
