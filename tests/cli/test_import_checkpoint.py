"""The authors' checkpoints, from their file to a score."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import CKCNNConfig, MLPConfig
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.data.datasets import describe, read_split
from ckconv_sweep.models.authors import to_authors
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.training.evaluation import evaluate

from .commands import ckconv_sweep, ended, files_in, refused

CONFIG = CKCNNConfig(
    hidden_channels=5, blocks=3, kernel=MLPConfig(hidden_channels=6, layers=4, omega_0=9.5)
)
DIGITS = Description(name="digits", in_channels=1, length=64, outputs=10)
OMEGA_0 = ("--omega-0", 9.5)


def model() -> CKCNN:
    return CKCNN(CONFIG, DIGITS, torch.Generator().manual_seed(0))


def published(path: Path, change: Callable[[dict[str, Any]], object] = lambda state: None) -> Path:
    """A file as the published code saves it."""
    state: dict[str, Any] = to_authors(model())
    change(state)
    torch.save(state, path)
    return path


def with_length(state: dict[str, Any], length: int = 64) -> None:
    for block in range(3):
        for conv in (1, 2):
            key = f"backbone.{block}.cconv{conv}.train_length"
            state[key] = torch.tensor([length], dtype=torch.int32)


def with_kernels(state: dict[str, Any]) -> None:
    for block in range(3):
        for conv in (1, 2):
            state[f"backbone.{block}.cconv{conv}.conv_kernel"] = torch.ones(5, 5, 64)


@pytest.mark.parametrize(
    "layout",
    [
        with_kernels,
        pytest.param(with_length, marks=pytest.mark.slow),
        pytest.param(lambda state: None, marks=pytest.mark.slow),
    ],
)
def test_every_layout_of_their_files_becomes_a_checkpoint_that_scores_as_their_model(
    layout: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    published(tmp_path / "theirs.pt", layout)
    command = ("import-checkpoint", "theirs.pt", *OMEGA_0, "--dataset", "digits", "--out", "ours")
    said = ended(ckconv_sweep(*command, cwd=tmp_path))
    assert "5 hidden channels" in said
    trial = read_trial(str(tmp_path / "ours" / "trial.yaml"))
    assert trial.model == CONFIG
    scored = json.loads(ended(ckconv_sweep("evaluate", "ours", "--json", cwd=tmp_path)))
    _, test = read_split(trial.data, "test")
    assert scored["test/loss"] == evaluate(model(), test, "classification")["loss"]


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.pop(key)


def narrower(state: dict[str, Tensor]) -> None:
    state["backbone.2.norm1.layer_norm.weight"] = torch.ones(4)


@pytest.mark.parametrize(
    ("change", "options", "code", "message"),
    [
        (without("finallyr.weight"), [], 2, "no CKCNN of the published code: it lacks 'finallyr.w"),
        (without("backbone.1.cconv1.bias"), [], 2, "lacks 'backbone.1.cconv1.bias', which the mo"),
        (
            narrower,
            [],
            2,
            "'backbone.2.norm1.layer_norm.weight' must have the shape (5,), got (4,)",
        ),
        (lambda s: with_length(s, 32), [], 2, "its model is for 32 steps, and digits with these"),
        (lambda s: None, ["--dataset", "scifar10"], 2, "its model is for 1 input channels, and sc"),
        (lambda s: None, ["--set", "model.kernel.layers=3"], 2, "'backbone.0.cconv1.Kernel.kernel"),
        (lambda s: None, ["--dataset", "smnits"], 2, "did you mean 'smnist'?"),
        (lambda s: s.update({"x": torch.nn.ReLU()}), [], 65, "holds no state that can be read"),
    ],
)
def test_what_is_no_checkpoint_of_theirs_or_of_other_data_is_refused_and_nothing_is_written(
    change: Callable[[dict[str, Any]], object],
    options: list[str],
    code: int,
    message: str,
    tmp_path: Path,
) -> None:
    published(tmp_path / "theirs.pt", change)
    before = files_in(tmp_path)
    command = ("import-checkpoint", "theirs.pt", *OMEGA_0, "--dataset", "digits", "--out", "ours")
    said = refused(ckconv_sweep(*command, *options, cwd=tmp_path), code)
    assert message in said
    assert files_in(tmp_path) == before


def test_a_file_alone_is_answered_with_the_command_that_imports_it(tmp_path: Path) -> None:
    settings = read_trial("character_trajectories_sr4")
    assert isinstance(settings.model, CKCNNConfig)
    theirs = CKCNN(settings.model, describe(settings.data), torch.Generator().manual_seed(0))
    torch.save(to_authors(theirs), tmp_path / "character_trajectories_sr4.pt")
    said = ended(ckconv_sweep("import-checkpoint", "character_trajectories_sr4.pt", cwd=tmp_path))
    first, command = said.splitlines()
    assert first == (
        "the published network character_trajectories_sr4 (2 blocks of 30 channels, 3 input "
        "channels, 20 outputs); import it with:"
    )
    program, *arguments = shlex.split(command)
    assert program == "ckconv-sweep"
    said = ended(ckconv_sweep(*arguments, cwd=tmp_path))
    assert said.startswith("100,696 parameters, 30 hidden channels: ")
    found = read_trial(str(tmp_path / "character_trajectories_sr4" / "trial.yaml"))
    assert (found.data, found.model.kernel) == (settings.data, settings.model.kernel)


def test_a_rounded_omega_0_is_noticed(tmp_path: Path) -> None:
    settings = read_trial("smnist_98k")
    assert isinstance(settings.model, CKCNNConfig)
    theirs = CKCNN(settings.model, describe(settings.data), torch.Generator().manual_seed(0))
    torch.save(to_authors(theirs), tmp_path / "theirs.pt")
    command = ["import-checkpoint", "theirs.pt", "--dataset", "smnist", "--omega-0", 31.09]
    done = ckconv_sweep(*command, "--out", "ours", cwd=tmp_path)
    ended(done)
    assert done.stderr == "note: the omega_0 of smnist_98k is 31.09195739463897\n"


@pytest.mark.parametrize("options", [[], ["--dataset", "digits"], ["--omega-0", 9.5, "--out", "o"]])
def test_weights_that_nobody_knows_are_not_imported_with_guesses(
    options: list[object], tmp_path: Path
) -> None:
    published(tmp_path / "theirs.pt")
    before = files_in(tmp_path)
    said = refused(ckconv_sweep("import-checkpoint", "theirs.pt", *options, cwd=tmp_path))
    assert "theirs.pt: no published network is known that has its sizes and name: 3 blocks" in said
    assert "give --omega-0 with all digits, --dataset, --out" in said
    assert files_in(tmp_path) == before


def test_a_folder_that_holds_a_checkpoint_is_not_written_over(tmp_path: Path) -> None:
    published(tmp_path / "theirs.pt")
    command = ("import-checkpoint", "theirs.pt", *OMEGA_0, "--dataset", "digits", "--out", "ours")
    ended(ckconv_sweep(*command, cwd=tmp_path))
    said = refused(ckconv_sweep(*command, cwd=tmp_path))
    assert "this folder holds a checkpoint already" in said


@pytest.mark.slow  # a minute; the same weights on 16 images: tests/models/test_authors_weights.py
def test_the_authors_smnist_network_gets_9931_of_the_10000_test_images_right(
    shared: Path, tmp_path: Path
) -> None:
    omega_0 = ("--omega-0", 31.09195739463897)
    theirs = shared / "reference" / "smnist_98k.pt"
    command = ("import-checkpoint", theirs, *omega_0, "--dataset", "smnist", "--out", "ours")
    assert "98,286 parameters, 30 hidden channels" in ended(ckconv_sweep(*command, cwd=tmp_path))
    command = ("evaluate", "ours", "--data-dir", shared / "data", "--json")
    scored = json.loads(ended(ckconv_sweep(*command, cwd=tmp_path, timeout=280)))
    assert scored["test/accuracy"] == 0.9931
    assert scored["test/loss"] == pytest.approx(0.025152, abs=1e-5)
