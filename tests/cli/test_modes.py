"""Whatever the program writes is its user's alone, also where the shell says umask 000."""

from __future__ import annotations

from pathlib import Path

import pytest

from .commands import ckconv_sweep, ended, other_modes

pytestmark = pytest.mark.fault("modes")


@pytest.mark.ray
def test_everything_that_a_sweep_leaves_is_its_owners_alone(finished: Path) -> None:
    there = {path.name for path in (finished / "sweeps").iterdir()}
    assert {"small", "mlflow.db", "mlflow.lock", "mlartifacts"} <= there
    assert other_modes(finished / "sweeps") == []


@pytest.mark.ray
def test_the_best_trial_is_written_for_its_owner_alone(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "best.yaml"
    ended(ckconv_sweep("best", "small", "--out", out, cwd=finished))
    assert other_modes(out.parent) == []


def test_everything_that_a_trial_by_itself_leaves_is_its_owners_alone(trained: Path) -> None:
    assert {path.name for path in (trained / "runs" / "trial").iterdir()} >= {"trial.yaml", "lock"}
    assert other_modes(trained / "runs") == []


def test_a_mlflow_database_of_a_trial_by_itself_is_its_owners_alone(here: Path) -> None:
    ended(ckconv_sweep("train", "trial.yaml", "--set", "training.epochs=1", cwd=here))
    written = {path.name for path in here.iterdir()} - {"trial.yaml", "small.yaml"}
    assert [other_modes(here / name) for name in written] == [[]] * len(written)
    assert list(here.rglob("mlflow.db"))


def test_a_picture_is_its_owners_alone(here: Path) -> None:
    ended(ckconv_sweep("fit-kernel", "--steps", 1, "--out", "new/kernels.svg", cwd=here))
    assert other_modes(here / "new") == []
