from __future__ import annotations

from typing import Any

import pytest
import torch

from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.training.optimizers import OPTIMIZERS, optimizer_of

from .tiny import in_hex, make_task, make_trial, run

LEARNED: dict[str, Any] = {
    "mask": {"name": "gaussian", "learning_rate_factor": 0.1},
    "kernel": {"learn_omega_0": True, "omega_0_learning_rate_factor": 7.0},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_weight_is_trained_once_and_with_its_own_learning_rate(name: str) -> None:
    trial = make_trial(model=LEARNED, optimizer={"name": name})
    model = make_model(trial.model, make_task().description, torch.Generator().manual_seed(0))
    groups = optimizer_of(model, trial.optimizer).param_groups
    factor_of = {id(p): g["learning_rate_factor"] for g in groups for p in g["params"]}
    assert sum(len(group["params"]) for group in groups) == len(factor_of)
    for parameter_name, parameter in model.named_parameters():
        special = {"omega_0": 7.0, "width": 0.1}.get(parameter_name.split(".")[-1], 1.0)
        assert factor_of[id(parameter)] == special, parameter_name


def test_a_learning_rate_factor_scales_the_first_step_of_its_weight() -> None:
    def width_after(factor: float) -> float:
        mask = {"name": "gaussian", "width": 0.5, "learning_rate_factor": factor}
        trial = make_trial(
            model={"mask": mask},
            optimizer={"name": "sgd", "learning_rate": 0.01},
            training={"epochs": 1, "batch_size": 22},
        )
        (width,) = (
            v for k, v in run(trial)[0].named_parameters() if k.endswith("conv1.mask.width")
        )
        return width.item() - 0.5

    assert width_after(1.0) != 0.0
    assert width_after(20.0) == pytest.approx(20.0 * width_after(1.0), rel=1e-2)


def test_a_model_without_own_learning_rates_has_one_group() -> None:
    trial = make_trial()
    model = make_model(trial.model, make_task().description, torch.Generator().manual_seed(0))
    assert len(optimizer_of(model, trial.optimizer).param_groups) == 1


@pytest.mark.parametrize("model", [{"name": "gru"}, {"name": "lru", "state_channels": 4}])
def test_other_architectures_train_by_the_same_loop_and_repeat_themselves(
    model: dict[str, Any],
) -> None:
    trial = make_trial(architecture=model, training={"epochs": 2})
    assert in_hex(run(trial)[1]) == in_hex(run(trial)[1])
