"""Every space and trial that comes with the package."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ckconv_sweep.config import bundled
from ckconv_sweep.config.data import DATASETS, Description
from ckconv_sweep.config.domains import Blocks, corners
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.metrics import PARAMETERS
from ckconv_sweep.config.model import CKCNNConfig, MLPConfig
from ckconv_sweep.config.optimization import Adam, Plateau
from ckconv_sweep.config.read import parse_space, read_space, read_trial
from ckconv_sweep.config.sampling import Random
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import describe
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.models.parameters import count_parameters
from ckconv_sweep.search.view import View
from ckconv_sweep.training.loop import train

ROOT = Path(__file__).parents[2]
TRIALS = sorted(ROOT.glob("trials/*.yaml"))
SPACES = sorted(ROOT.glob("search_spaces/*.yaml"))

OWN = {"digits", "copy_memory", "adding", "ptb_characters", "uea", "arrays"}
"""Trials for which no settings are published."""

PUBLISHED = {
    name: tuple(map(float, numbers))
    for name, *numbers in map(
        str.split,
        """\
smnist_98k                      98286  1   784  30  31.09195739463897 0.1 0.1   0      0   64 200
smnist_1m                     1030546  1   784 100               30.5 0.2 0.2   0      0   64 200
pmnist_98k                      98286  1   784  30  43.45667389601194   0 0.1   0      0   64 200
pmnist_1m                     1030546  1   784 100 42.161651744476515   0 0.2   0      0   64 200
scifar10_100k                  100386  3  1024  30             25.696 0.2   0   0      0   64 200
scifar10_1m                   1037546  3  1024 100             25.696 0.3   0 0.1 0.0001   64 200
character_trajectories_sr1     100696  3   182  30  21.44961185481323 0.1   0   0      0   32 200
character_trajectories_sr2     100696  3    91  30  21.44961185481323 0.1   0   0      0   32 200
character_trajectories_sr4     100696  3    46  30  21.44961185481323 0.1   0   0      0   32 200
character_trajectories_sr8     100696  3    23  30 12.589391905289371 0.1   0   0      0   32 200
character_trajectories_drop30  101746  4   182  30 17.243982444546685 0.2   0   0      0   32 200
character_trajectories_drop50  101746  4   182  30 11.997102427300288   0   0   0 0.0001   32 200
character_trajectories_drop70  101746  4   182  30  4.237433943113986 0.1   0   0      0   32 200
speech_commands_mfcc           118236 20   161  30  30.90257553169801 0.2   0   0      0   64 200
speech_commands_raw_sr1         98286  1 16000  30 39.450608806633795   0   0   0 0.0001   32 300
speech_commands_raw_sr2         98286  1  8000  30 39.450608806633795   0   0   0 0.0001   32 300
speech_commands_raw_sr4         98286  1  4000  30 39.450608806633795   0   0   0 0.0001   32 300
speech_commands_raw_sr8         98286  1  2000  30 39.450608806633795   0   0   0 0.0001   32 300
speech_commands_raw_drop30      99336  2 16000  30 35.655229877794035 0.1   0   0 0.0001   32 300
speech_commands_raw_drop50      99336  2 16000  30 31.700745675276966   0   0   0 0.0001   32 300
speech_commands_raw_drop70      99336  2 16000  30  23.29255834358289 0.1 0.1 0.1      0   32 300
physionet2019                  175707 75    72  30  9.779406396796968 0.1 0.1   0 0.0001 1024 200
""".splitlines(),
    )
}
"""dwromero/ckconv @ d44c644, runs/README.md, and the parameters of the published weights. Columns:
parameters; channels and steps of a sequence; hidden channels, omega_0; dropout, of inputs, of
kernels; kernel penalty; batch size, epochs."""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a tiny `uea` problem, the only dataset whose description is in a file."""
    folder = tmp_path_factory.mktemp("data")
    problem = folder / "uea" / "BasicMotions"
    problem.mkdir(parents=True)
    header = [
        "@problemName BasicMotions",
        "@timeStamps false",
        "@missing false",
        "@univariate false",
        "@dimensions 2",
        "@equalLength true",
        "@seriesLength 4",
        "@classLabel true Standing Running",
        "@data",
    ]
    rows = ["0.1,0.2,0.3,0.4:1,2,3,4:Standing", "0.4,0.3,0.2,0.1:4,3,2,1:Running"]
    for split in ("TRAIN", "TEST"):
        text = "\n".join([*header, *rows, *rows, *rows, ""])
        (problem / f"BasicMotions_{split}.ts").write_text(text)
    values = np.random.default_rng(0).normal(size=(12, 2, 6))
    np.savez(folder / "mine.npz", X=values, y=[0, 1] * 6)
    return folder


def parameters_of(trial: Trial, data_dir: Path) -> int:
    return count_parameters(trial.model, describe(trial.data, data_dir))


def test_every_data_set_has_a_trial_and_a_space() -> None:
    assert {read_trial(str(path)).data.name for path in TRIALS} == DATASETS.keys()
    assert {read_space(str(path)).trial.data.name for path in SPACES} == DATASETS.keys()


@pytest.mark.parametrize("path", TRIALS, ids=lambda path: path.stem)
def test_every_trial_file_is_a_trial_on_a_known_data_set(path: Path, data_dir: Path) -> None:
    trial = read_trial(str(path))
    assert trial.data.name in DATASETS
    assert parameters_of(trial, data_dir) > 0
    assert read_trial(path.stem) == trial


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_trial_has_the_published_settings(name: str) -> None:
    trial = read_trial(name)
    described = describe(trial.data)
    model, training = trial.model, trial.training
    assert isinstance(model, CKCNNConfig)
    assert (
        count_parameters(model, described),
        described.in_channels,
        described.length,
        model.hidden_channels,
        model.kernel.omega_0,
        model.dropout,
        model.input_dropout,
        model.weight_dropout,
        training.kernel_penalty,
        training.batch_size,
        training.epochs,
    ) == PUBLISHED[name]
    assert model == CKCNNConfig(
        hidden_channels=model.hidden_channels,
        blocks=2,
        dropout=model.dropout,
        input_dropout=model.input_dropout,
        weight_dropout=model.weight_dropout,
        kernel=MLPConfig(hidden_channels=32, layers=3, omega_0=model.kernel.omega_0),
    )
    assert trial.optimizer == Adam(learning_rate=1e-3)
    patience = 15 if name == "speech_commands_mfcc" else 20
    assert trial.schedule == Plateau(factor=0.2, patience=patience)
    assert (training.clip_norm, training.early_stopping_epochs) == (0.0, 100)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_trial_normalises_as_published(name: str) -> None:
    data = read_trial(name).data
    published = {
        "scifar10": "imagenet",
        "character_trajectories": "per_time_step",
        "speech_commands": "per_time_step",
    }
    assert getattr(data, "normalization", None) == published.get(data.name)
    assert getattr(data, "dropped_as", "mask") == "mask"


def test_no_published_trial_is_left_out() -> None:
    assert {path.stem for path in TRIALS} - OWN == PUBLISHED.keys()


class FirstEpochEnded(Exception):
    """Ends a run."""


LARGE = re.compile(r".*_1m|speech_commands_raw_(sr[124]|drop\d\d)")
"""Trials that differ from a smaller one in their size alone: these take most of the time."""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] if LARGE.fullmatch(path.stem) else [])
        for path in TRIALS
    ],
    ids=lambda path: path.stem,
)
def test_every_trial_file_trains(path: Path, data_dir: Path) -> None:
    """One batch of two random sequences of the shape that is described."""
    trial = read_trial(str(path))
    one_thread = trial.training.model_copy(update={"threads": 1})
    epochs: list[Epoch] = []

    def report(epoch: Epoch) -> None:
        epochs.append(epoch)
        raise FirstEpochEnded

    task = random_task(describe(trial.data, data_dir))
    with pytest.raises(FirstEpochEnded):
        train(trial.model_copy(update={"training": one_thread}), task, report)
    assert torch.tensor(list(epochs[0].metrics.values())).isfinite().all()
    assert trial.metric.name in epochs[0].metrics


def random_task(described: Description) -> SequenceTask:
    split = random_split(described)
    return SequenceTask(
        description=described, train=split, validation=split, test_reader=lambda: split
    )


def random_split(described: Description) -> Split:
    """Two sequences, of two classes."""
    draw = torch.Generator().manual_seed(0)
    shape = (2, described.in_channels, described.length)
    match described.kind:
        case "text":
            characters = torch.randint(
                described.in_channels, (2, described.length + 1), generator=draw
            )
            return Split(characters[:, :-1], characters[:, 1:])
        case "per_step":
            targets = torch.randint(described.outputs, (2, described.length), generator=draw)
        case "classification":
            targets = torch.tensor([0, 1])
        case "binary" | "regression":
            targets = torch.tensor([0.0, 1.0])
    return Split(torch.randn(shape, generator=draw), targets)


def is_small_enough(trial: Trial, space: Space, data_dir: Path) -> bool:
    assert all(constraint.names == {PARAMETERS} for constraint in space.constraints)
    parameters = parameters_of(trial, data_dir)
    return not any(
        constraint.broken_by({PARAMETERS: parameters}) for constraint in space.constraints
    )


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_space_resolves_at_its_corners(path: Path, data_dir: Path) -> None:
    space = read_space(str(path))
    blocks = [domain for domain in space.search.values() if isinstance(domain, Blocks)]
    labels = max((len(block.options) for block in blocks), default=1)
    for which in (0, -1):
        for number in range(labels):  # whole blocks are choices: each option in turn

            def end(name: str, domain: Any, which: int = which, number: int = number) -> Any:
                values = corners(domain)
                in_blocks = isinstance(space.search.get(name), Blocks)
                return values[number % len(values) if in_blocks else which]

            drawn = space.draw(end)
            trial = space.resolve(drawn, 3)
            assert trial.training.seed == drawn.get("training.seed", space.trial.training.seed + 3)
            assert parameters_of(trial, data_dir) > 0


def first_draws(space: Space, number: int) -> list[Trial]:
    view = View(space)
    return [space.resolve(view.draw(n).params, n) for n in range(number)]


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_space_resolves_at_its_first_draws(path: Path) -> None:
    space = read_space(str(path))
    for trial in first_draws(space, 5):
        assert trial.data == space.trial.data


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_good_share_of_a_space_meets_its_constraints(path: Path, data_dir: Path) -> None:
    """Of every architecture that it compares, and its base trial too."""
    space = read_space(str(path))
    assert is_small_enough(space.trial, space, data_dir)
    at_random = dataclasses.replace(space, sampler=Random(seed=0))
    met: dict[str, list[bool]] = {}
    for trial in first_draws(at_random, 50):
        met.setdefault(trial.model.name, []).append(is_small_enough(trial, space, data_dir))
    searched = space.search.get("model")
    assert len(met) == (len(searched.options) if isinstance(searched, Blocks) else 1)
    for name, ones in met.items():
        assert sum(ones) / len(ones) > 0.4, name


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_space_is_read_back_as_it_is_written_down(path: Path) -> None:
    space = read_space(str(path))
    assert parse_space(space.to_yaml(), "again") == space


def test_every_file_beside_the_package_is_bundled() -> None:
    assert bundled.names("trials") == [path.stem for path in TRIALS]
    assert bundled.names("search_spaces") == [path.stem for path in SPACES]
