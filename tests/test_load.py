"""`load`, by whoever takes a model into Python."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep import load
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.data.datasets import load as load_task
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.training.checkpoint import save_best
from ckconv_sweep.training.seeding import generator

TRIAL = read_trial("digits", ["model.hidden_channels=2", "model.blocks=1"])
TASK = load_task(TRIAL.data, None)


def run_on(folder: Path, data: Mapping[str, Any]) -> Path:
    """The folder of a run that nobody trained, on these data."""
    model = make_model(TRIAL.model, TASK.description, generator(0, "init"))
    folder.mkdir()
    save_best(folder, TRIAL.model_dump(mode="json"), model.state_dict(), data)
    return folder


def test_a_run_whose_data_have_changed_is_loaded_with_a_warning(tmp_path: Path) -> None:
    other = dict(TASK.identity) | {"training sequences": 7, "digest": "0" * 32}
    with pytest.warns(UserWarning, match="training sequences: 7, now 1") as caught:
        load(run_on(tmp_path / "other", other))
    assert caught[0].filename == __file__
    assert str(tmp_path / "other") in str(caught[0].message)


def test_a_run_whose_data_are_the_same_or_unknown_is_loaded_without_one(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(run_on(tmp_path / "same", TASK.identity))
        load(run_on(tmp_path / "unknown", {}))
