"""What trials of one pack may differ in, and what they must share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.training.shape import FREE, FREE_BLOCKS, shape_key, why_alone, why_apart

from .test_pack import as_alone, joined, opened, to_the_end
from .tiny import make_trial

LRU = {"name": "lru", "hidden_channels": 2, "state_channels": 3}
GAUSSIAN = {"name": "gaussian", "width": 0.5}
LEARNED = {"learn_omega_0": True, "hidden_channels": 3, "layers": 2}
SIREN = {"hidden_channels": 3, "layers": 2, "initialization": "siren"}
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "training.epochs": ({}, {"training": {"epochs": 2}}),
    "training.seed": ({}, {"training": {"seed": 8}}),
    "training.kernel_penalty": ({}, {"training": {"kernel_penalty": 0.1}}),
    "training.clip_norm": ({}, {"training": {"clip_norm": 0.01}}),
    "training.early_stopping_epochs": ({}, {"training": {"early_stopping_epochs": 1}}),
    "model.dropout": ({}, {"model": {"dropout": 0.3}}),
    "model.input_dropout": ({}, {"model": {"input_dropout": 0.3}}),
    "model.kernel.omega_0": (
        {},
        {"model": {"kernel": {"hidden_channels": 3, "layers": 2, "omega_0": 3.0}}},
    ),
    "model.kernel.omega_0_learning_rate_factor": (
        {"model": {"kernel": LEARNED}},
        {"model": {"kernel": LEARNED | {"omega_0_learning_rate_factor": 9.0}}},
    ),
    "model.mask.width": (
        {"model": {"mask": GAUSSIAN}},
        {"model": {"mask": GAUSSIAN | {"width": 0.9}}},
    ),
    "model.mask.learning_rate_factor": (
        {"model": {"mask": GAUSSIAN}},
        {"model": {"mask": GAUSSIAN | {"learning_rate_factor": 9.0}}},
    ),
    "model.kernel.initialization": ({}, {"model": {"kernel": SIREN}}),
    "model.kernel.normalize_variance": (
        {},
        {"model": {"kernel": {"hidden_channels": 3, "layers": 2, "normalize_variance": True}}},
    ),
    "model.radius_min": ({"architecture": LRU}, {"architecture": LRU | {"radius_min": 0.5}}),
    "model.radius_max": ({"architecture": LRU}, {"architecture": LRU | {"radius_max": 0.95}}),
    "model.phase_max": ({"architecture": LRU}, {"architecture": LRU | {"phase_max": 1.0}}),
}


def test_every_setting_that_may_differ_is_tried() -> None:
    assert PAIRS.keys() == FREE


@pytest.mark.parametrize("name", PAIRS)
def test_trials_that_differ_in_this_train_together_as_alone(name: str) -> None:
    one, other = (make_trial(**blocks) for blocks in PAIRS[name])
    settings = flat(one.model_dump()), flat(other.model_dump())
    assert {key for key in settings[0] if settings[0][key] != settings[1][key]} == {name}
    assert shape_key(one) == shape_key(other)
    members = opened(one, other)
    to_the_end(joined(*members))
    assert all(as_alone(member) for member in members)


def test_what_is_not_named_as_free_must_agree() -> None:
    trial = make_trial(model={"weight_dropout": 0.1})
    names = flat(trial.model_dump()).keys() - FREE
    must = {name for name in names if name.partition(".")[0] not in FREE_BLOCKS}
    assert dict(shape_key(trial)).keys() == must | {"optimizer.name"}


def test_how_much_is_dropped_of_a_kernel_may_differ_but_not_whether() -> None:
    none, little, much = (make_trial(model={"weight_dropout": rate}) for rate in (0.0, 0.1, 0.4))
    assert why_apart(little, much) is None
    said = why_apart(none, little)
    assert said == "model.weight_dropout must be 0 for both or for none, got 0.0 and 0.1"


def test_trials_of_other_precision_are_kept_apart() -> None:
    said = why_apart(make_trial(), make_trial(training={"precision": "tf32"}))
    assert said == "training.precision must agree, got float32 and tf32"


def test_all_that_keeps_two_trials_apart_is_said() -> None:
    other = make_trial(model={"mask": GAUSSIAN}, training={"batch_size": 4})
    said = why_apart(make_trial(), other)
    assert said == (
        "model.mask.crop_below must agree, got none and 0.1; "
        "model.mask.name must agree, got none and gaussian; "
        "training.batch_size must agree, got 8 and 4"
    )


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_recurrent_trial_is_trained_alone(name: str) -> None:
    trial = make_trial(architecture={"name": name})
    said = f"a {name} is trained alone: PyTorch cannot run several of them as one"
    assert why_alone(trial) == why_apart(trial, trial) == said
    assert why_alone(make_trial()) is None


def test_the_key_of_every_published_trial_can_be_looked_up(published: list[Trial]) -> None:
    keys = {shape_key(trial) for trial in published}
    assert 1 < len(keys) <= len(published)


@pytest.fixture
def published() -> list[Trial]:
    from ckconv_sweep.config.read import read_trial

    folder = Path(__file__).parents[2] / "trials"
    return [read_trial(path, []) for path in sorted(folder.glob("*.yaml"))]
