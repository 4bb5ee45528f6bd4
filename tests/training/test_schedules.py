from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.config import trial as settings
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.training.schedules import learning_rate

from .tiny import examples, make_trial

RATE = 0.03


def epochs(values: list[float], name: str = "val/accuracy") -> list[Epoch]:
    return [
        Epoch(number=i, metrics={name: value}, timestamp_ms=i) for i, value in enumerate(values, 1)
    ]


def trial_with(schedule: dict[str, Any], **blocks: Any) -> settings.Trial:
    optimizer = {"name": "adam", "learning_rate": RATE}
    return make_trial(schedule=schedule, optimizer=optimizer, **blocks)


def rates(trial: settings.Trial, values: list[float]) -> list[float]:
    """The rates of the epochs 1, 2, ... of which the last comes after all the values."""
    history = epochs(values, trial.metric.name)
    return [learning_rate(trial, history[:count]) for count in range(len(history) + 1)]


def torch_optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=RATE)


def test_the_constant_rate_is_the_optimizers() -> None:
    assert rates(trial_with({"name": "constant"}), [0.1, 0.1, 0.1]) == [RATE] * 4


@examples
@given(
    st.lists(st.integers(1, 12), unique=True).map(sorted),
    st.floats(0.05, 0.95),
)
def test_multistep_is_pytorchs(milestones: list[int], factor: float) -> None:
    trial = trial_with({"name": "multistep", "milestones": milestones, "factor": factor})
    optimizer = torch_optimizer()
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=factor)
    expected = [RATE]
    for _ in range(14):
        optimizer.step()
        theirs.step()
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(trial, [0.0] * 14) == pytest.approx(expected, rel=1e-12)


def test_cosine_rises_for_its_warmup_and_falls_over_the_rest() -> None:
    trial = trial_with({"name": "cosine", "warmup_epochs": 3}, training={"epochs": 7})
    expected = [RATE / 4, RATE / 2, RATE * 3 / 4]
    expected += [RATE * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    got = rates(trial, [0.0] * 6)
    assert got == pytest.approx(expected, rel=1e-12)
    assert max(got) == RATE
    assert min(got) > 0.0


def test_cosine_without_warmup_starts_at_the_full_rate() -> None:
    trial = trial_with({"name": "cosine"}, training={"epochs": 2})
    assert rates(trial, [0.0]) == pytest.approx([RATE, RATE / 2], rel=1e-12)


# Ties, small steps beyond and below the threshold of 1e-4, and anything else.
NEAR = st.sampled_from([0.5, 0.50001, 0.50004, 0.50006, 0.5001, 0.51, 0.49996, 0.4999, 0.0, 1.0])
VALUES = st.lists(NEAR | st.floats(0.0, 1.0), max_size=40)


@examples
@given(
    VALUES, st.sampled_from(["max", "min"]), st.integers(0, 4), st.sampled_from([0.2, 0.9, 1e-3])
)
def test_plateau_is_pytorchs(values: list[float], mode: str, patience: int, factor: float) -> None:
    trial = trial_with(
        {"name": "plateau", "patience": patience, "factor": factor},
        metric={"name": "val/accuracy" if mode == "max" else "val/loss", "mode": mode},
    )
    optimizer = torch_optimizer()
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode, factor=factor, patience=patience
    )
    expected = [RATE]
    for value in values:
        theirs.step(value)
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(trial, values) == expected


def test_plateau_makes_no_step_of_less_than_a_hundred_millionth_as_pytorch() -> None:
    adam = {"name": "adam", "learning_rate": 4e-8}
    trial = make_trial(schedule={"name": "plateau", "patience": 0, "factor": 0.5}, optimizer=adam)
    weights = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=4e-8)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.5, patience=0)
    expected = [4e-8]
    for _ in range(5):
        theirs.step(0.5)
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(trial, [0.5] * 5) == expected
    assert min(expected) == 2e-8


def test_plateau_drops_after_more_than_its_patience_without_a_better_epoch() -> None:
    trial = trial_with({"name": "plateau", "patience": 1, "factor": 0.5})
    assert rates(trial, [0.5, 0.5, 0.5, 0.5, 0.5]) == [
        RATE,
        RATE,
        RATE,
        RATE / 2,
        RATE / 2,
        RATE / 4,
    ]
