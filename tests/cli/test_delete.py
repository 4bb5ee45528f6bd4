"""`delete` and `gc`: what is not needed any more."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from ckconv_sweep.record.folder import SweepFolder

from .commands import ckconv_sweep, copied, ended, files_in, refused

pytestmark = pytest.mark.ray  # the sweep is a real one


@pytest.fixture
def small(finished: Path, here: Path) -> SweepFolder:
    copied(finished / "sweeps", here / "sweeps")
    return SweepFolder.existing(here / "sweeps", "small")


def runs(here: Path) -> list[tuple[str, int]]:
    with contextlib.closing(sqlite3.connect(here / "sweeps" / "mlflow.db")) as database:
        asked = "select lifecycle_stage, count(*) from runs group by 1"
        return database.execute(asked).fetchall()


def test_delete_takes_the_sweep_and_its_runs_and_keeps_the_best_trial(
    small: SweepFolder, here: Path
) -> None:
    before = files_in(small.root)
    assert "do not ask: --yes" in ended_refused(here, "delete", "small")
    assert files_in(small.root) == before
    with small.records.lock():
        assert "runs this sweep" in refused(ckconv_sweep("delete", "small", "--yes", cwd=here), 75)
    assert files_in(small.root) == before

    said = ended(ckconv_sweep("delete", "small", "--yes", "--keep-best", cwd=here))
    assert "this deletes small and its 3 trials:" in said
    assert "deleted small, and 4 runs in MLflow" in said
    assert not small.root.exists()
    assert runs(here) == [("deleted", 4)]
    kept = here / "sweeps" / "small-best"
    weights, trial = sorted(files_in(kept))
    assert (weights[:5], trial) == ("best-", "trial.yaml")
    said = ended(ckconv_sweep("evaluate", kept, "--split", "validation", cwd=here))
    assert "validation/accuracy 0." in said


def ended_refused(here: Path, *command: str) -> str:
    done = ckconv_sweep(*command, cwd=here)
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_delete_is_completed_by_the_same_command_where_mlflow_was_gone(
    small: SweepFolder, here: Path
) -> None:
    database = here / "sweeps" / "mlflow.db"
    content = database.read_bytes()
    database.write_bytes(b"no database")
    said = ckconv_sweep("delete", "small", "--yes", cwd=here)
    assert said.returncode == 75
    assert "or leave the runs there: --keep-runs" in said.stderr
    database.write_bytes(content)
    assert "4 runs" in ended(ckconv_sweep("delete", "small", "--yes", cwd=here))


def test_gc_deletes_what_nobody_needs_and_nothing_else(small: SweepFolder, here: Path) -> None:
    before = files_in(small.root)
    assert "0 files, 0 bytes, deleted" in ended(ckconv_sweep("gc", "small", cwd=here))
    assert files_in(small.root) == before
    left = ["trials/0001/.tmp-1", "trials/0001/checkpoint-00002-0123456789abcdef.pt"]
    left += ["trials/0007/best-0123456789abcdef.pt", ".probe-1", "tune/session/x.json"]
    for name in left:
        path = small.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("12345")
    said = ended(ckconv_sweep("gc", "small", "--dry-run", cwd=here))
    assert [line for line in left if f"{small.root / line}  5 bytes" in said] == left
    assert "5 files, 25 bytes, deleted" in ended(ckconv_sweep("gc", "small", cwd=here))
    assert files_in(small.root) == before
    assert not (small.root / "trials" / "0007").exists()
