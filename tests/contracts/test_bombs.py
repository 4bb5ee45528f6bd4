"""A file whose content would run code, wherever the program reads a file that others wrote."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ckconv_sweep.config.read import parse_space, read_space, read_trial
from ckconv_sweep.data.sequence_files import read_sequences
from ckconv_sweep.errors import CkconvSweepError, ConfigError, DamagedData
from ckconv_sweep.training import promoted
from ckconv_sweep.training.published import import_published
from ckconv_sweep.training.weights import read_trained

pytestmark = pytest.mark.fault("no-unsafe-load")


class Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def as_torch(path: Path, canary: Path) -> None:
    torch.save({"trial": {}, "best_weights": Bomb(canary)}, path)


def as_old_torch(path: Path, canary: Path) -> None:
    torch.save({"module.w": Bomb(canary)}, path, _use_new_zipfile_serialization=False)


def as_pickle(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(canary)))


def as_numpy(path: Path, canary: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([[Bomb(canary)]], dtype=object))


FORMS = [as_torch, as_old_torch, as_pickle]
READERS: dict[str, Callable[[Path], object]] = {
    "evaluate": read_trained,
    "import-checkpoint": lambda path: import_published(
        path, path.parent / "out", omega_0=30.0, dataset="smnist"
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_weights_that_would_run_code_are_damaged_and_run_none(
    form: Callable[[Path, Path], None], reader: str, tmp_path: Path
) -> None:
    path, canary = tmp_path / "weights.pt", tmp_path / "canary"
    form(path, canary)
    with pytest.raises(DamagedData, match=r"weights\.pt: holds no state that can be read"):
        READERS[reader](path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"weights.pt"}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_these_bombs_would_have_worked(form: Callable[[Path, Path], None], tmp_path: Path) -> None:
    path, canary = tmp_path / "weights.pt", tmp_path / "canary"
    form(path, canary)
    if form is as_pickle:
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert canary.exists()


TAGS = [
    "!!python/object/apply:pathlib.Path.touch [{canary}]",
    "!!python/object/apply:os.system ['touch {canary}']",
    "!!python/object/new:subprocess.check_call [[touch, {canary}]]",
    "!!python/name:os.system",
    "!!python/module:antigravity",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {canary}']",
]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("read", [read_space, read_trial], ids=["space", "trial"])
def test_a_settings_file_that_would_run_code_is_refused_and_runs_none(
    read: Callable[[str], object], tag: str, tmp_path: Path
) -> None:
    path, canary = tmp_path / "file.yaml", tmp_path / "canary"
    path.write_text(f"data: {{name: smnist}}\nmodel: {tag.format(canary=canary)}\n")
    with pytest.raises(ConfigError, match=r"file\.yaml:2: tags \(!\) are refused"):
        read(str(path))
    assert not canary.exists()


@pytest.mark.parametrize("text", ["runtime_env: {pip: [x]}", "__class__: {}", "python: os.system"])
def test_a_space_knows_no_key_that_would_run_something(text: str) -> None:
    with pytest.raises(CkconvSweepError, match="no setting is called"):
        parse_space(f"trial: {{}}\nsearch: {{}}\nbudget: {{trials: 1}}\n{text}\n", "space.yaml")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".ts"])
@pytest.mark.parametrize("form", [*FORMS, as_numpy], ids=lambda form: form.__name__)
def test_sequences_that_would_run_code_are_damaged_and_run_none(
    form: Callable[[Path, Path], None], suffix: str, tmp_path: Path
) -> None:
    path, canary = tmp_path / f"x{suffix}", tmp_path / "canary"
    form(path, canary)
    with pytest.raises(DamagedData):
        read_sequences(path)
    assert not canary.exists()


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_promoted_folder_that_would_run_code_runs_none(
    form: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    for name in ("model.json", "model.safetensors", "trial.yaml"):
        form(tmp_path / name, canary)
    with pytest.raises(DamagedData):
        read_trained(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(DamagedData):
        promoted.weights_of(content, "a")
    assert not canary.exists()
