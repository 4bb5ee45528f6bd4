from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ckconv_sweep.config.trial import Model
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.models.parameters import count_parameters


@pytest.mark.parametrize(
    ("hidden_channels", "in_channels", "classes", "count"),
    [
        (30, 1, 10, 98_286),  # sequential and permuted MNIST
        (100, 1, 10, 1_030_546),
        (30, 3, 10, 100_386),  # sequential CIFAR-10
        (100, 3, 10, 1_037_546),
        (30, 3, 20, 100_696),  # character trajectories, and with the mask of missing values
        (30, 4, 20, 101_746),
        (30, 20, 10, 118_236),  # speech commands, MFCC
        (30, 75, 1, 175_707),  # PhysioNet
    ],
)
def test_published_networks_have_as_many_parameters_as_published(
    hidden_channels: int, in_channels: int, classes: int, count: int
) -> None:
    assert count_parameters(Model(hidden_channels=hidden_channels), in_channels, classes) == count


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias": False},
        {"blocks": 3},
        {"kernel__layers": 5},
        {"kernel__activation": "relu", "kernel__norm": "layer"},
    ],
)
def test_the_count_is_that_of_the_model_itself(
    changes: dict[str, Any], make_config: Callable[..., Model], rng: torch.Generator
) -> None:
    config = make_config(**changes)
    model = CKCNN(config, 2, 3, rng)
    assert count_parameters(config, 2, 3) == sum(p.numel() for p in model.parameters())


def test_counting_allocates_nothing() -> None:
    count = count_parameters(Model(hidden_channels=300_000), 1, 10)
    assert count > 8 * 10**12  # 32 TB, were it made


def test_a_model_can_be_built_on_the_meta_device_with_a_generator_too() -> None:
    with torch.device("meta"):
        model = CKCNN(Model(hidden_channels=4), 1, 10, torch.Generator(device="cpu"))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model(torch.empty(2, 1, 9, device="meta")).shape == (2, 10)
