"""Every space and trial that comes with the package, and the names in the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from ckconv_sweep.config import bundled
from ckconv_sweep.config.domains import corners
from ckconv_sweep.config.read import parse_space, read_space, read_trial
from ckconv_sweep.config.space import Asha, Median, NoScheduler, Sampler
from ckconv_sweep.config.trial import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Data,
    Kernel,
    MultiStep,
    Plateau,
    RMSprop,
)
from ckconv_sweep.data.datasets import DATASETS, describe
from ckconv_sweep.models import kernel_net
from ckconv_sweep.models.parameters import count_parameters
from ckconv_sweep.sweep import sampling, stopping
from ckconv_sweep.training.optimizers import OPTIMIZERS
from ckconv_sweep.training.schedules import SCHEDULES

ROOT = Path(__file__).parents[2]
TRIALS = sorted(ROOT.glob("trials/*.yaml"))
SPACES = sorted(ROOT.glob("search_spaces/*.yaml"))

# dwromero/ckconv @ d44c644, runs/README.md; parameters of the published weights.
PUBLISHED = {
    "smnist_98k": (98_286, 30, 31.09195739463897, 0.1, 0.1),
    "smnist_1m": (1_030_546, 100, 30.5, 0.2, 0.2),
    "pmnist_98k": (98_286, 30, 43.45667389601194, 0.0, 0.1),
    "pmnist_1m": (1_030_546, 100, 42.161651744476515, 0.0, 0.2),
}


def parameters_of(trial: Any) -> int:
    description = describe(trial.data.name)
    return count_parameters(trial.model, description.in_channels, description.classes)


@pytest.mark.parametrize("path", TRIALS, ids=lambda path: path.stem)
def test_every_trial_file_is_a_trial_on_a_known_data_set(path: Path) -> None:
    trial = read_trial(str(path))
    assert trial.data.name in DATASETS
    assert parameters_of(trial) > 0
    assert read_trial(path.stem) == trial


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_trial_has_the_published_settings(name: str) -> None:
    trial = read_trial(name)
    model, training = trial.model, trial.training
    assert (
        parameters_of(trial),
        model.hidden_channels,
        model.kernel.omega_0,
        model.dropout,
        model.input_dropout,
    ) == PUBLISHED[name]
    assert (model.kernel.hidden_channels, model.blocks) == (32, 2)
    assert trial.optimizer == Adam(learning_rate=1e-3)
    assert trial.schedule == Plateau(factor=0.2, patience=20)
    assert (training.epochs, training.batch_size, training.clip_norm) == (200, 64, 0.0)
    assert training.kernel_penalty == 0.0


def test_no_published_trial_is_left_out() -> None:
    assert {path.stem for path in TRIALS} - {"digits"} == PUBLISHED.keys()


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_space_resolves_at_its_corners(path: Path) -> None:
    space = read_space(str(path))
    for which in (0, -1):
        for block in (0, -1):  # whole blocks are choices: their first and last option

            def end(name: str, domain: Any, which: int = which, block: int = block) -> Any:
                return corners(domain)[block if name in ("schedule", "optimizer") else which]

            params = space.draw(end)
            trial = space.resolve(params, 3)
            assert trial.training.seed == space.trial.training.seed + 3
            assert parameters_of(trial) > 0


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_space_resolves_at_its_first_draws(path: Path) -> None:
    import optuna

    space = read_space(str(path))
    study = optuna.create_study()
    for number in range(5):
        study.sampler = sampling.sampler_for(space, number)
        params = sampling.draw(study.ask(), space)
        assert space.resolve(params, number).data == space.trial.data


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_space_is_read_back_as_it_is_written_down(path: Path) -> None:
    space = read_space(str(path))
    assert parse_space(space.to_yaml(), "again") == space


def test_every_file_beside_the_package_is_bundled() -> None:
    assert bundled.names("trials") == [path.stem for path in TRIALS]
    assert bundled.names("search_spaces") == [path.stem for path in SPACES]


def names_of(*kinds: Any) -> set[str]:
    return {kind.model_fields["name"].default for kind in kinds}


def literal(kind: Any, field: str) -> set[str]:
    return set(get_args(kind.model_fields[field].annotation))


TABLES: dict[str, tuple[Any, set[str]]] = {
    "DATASETS": (DATASETS, literal(Data, "name")),
    "OPTIMIZERS": (OPTIMIZERS, names_of(Adam, AdamW, SGD, RMSprop)),
    "SCHEDULES": (SCHEDULES, names_of(Constant, Plateau, MultiStep, Cosine)),
    "ACTIVATIONS": (kernel_net.ACTIVATIONS, literal(Kernel, "activation")),
    "NORMS": (kernel_net.NORMS, literal(Kernel, "norm")),
    "INITIALIZATIONS": (kernel_net.INITIALIZATIONS, literal(Kernel, "initialization")),
    "SAMPLERS": (sampling.SAMPLERS, literal(Sampler, "name")),
    "PRUNERS": (stopping.PRUNERS, names_of(Asha, Median, NoScheduler)),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_a_row_for_every_name_that_a_file_may_say(table: str) -> None:
    rows, names = TABLES[table]
    assert set(rows) == names
