from __future__ import annotations

from typing import Any

import pytest
import torch

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import (
    CKCNNConfig,
    GRUConfig,
    LRUConfig,
    LSTMConfig,
    ModelConfig,
    TCNConfig,
)
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.models.parameters import count_parameters


def described(**changes: Any) -> Description:
    return Description(**{"name": "x", "in_channels": 1, "length": 9, "outputs": 10} | changes)


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
    config = CKCNNConfig(hidden_channels=hidden_channels)
    assert count_parameters(config, described(in_channels=in_channels, outputs=classes)) == count


@pytest.mark.parametrize(
    ("config", "count"),
    [
        # 5 readout weights and biases a class; 3 x 4 weights, recurrent ones, two biases a gate
        (GRUConfig(hidden_channels=4), 3 * (4 * 2 + 4 * 4 + 2 * 4) + 10 * 5),
        (LSTMConfig(hidden_channels=4), 4 * (4 * 2 + 4 * 4 + 2 * 4) + 10 * 5),
        # two convolutions with a length and a bias a channel, and a shortcut
        (
            TCNConfig(hidden_channels=4, blocks=1, kernel_size=3),
            (4 * 2 * 3 + 8) + (4 * 4 * 3 + 8) + (4 * 2 + 4) + 10 * 5,
        ),
        # encoder, norm, three numbers a state, complex weights in and out, skip, linear map
        (
            LRUConfig(hidden_channels=4, blocks=1, state_channels=6),
            (4 * 2 + 4) + 8 + 3 * 6 + 4 * 6 * 4 + 4 + (4 * 4 + 4) + 10 * 5,
        ),
    ],
)
def test_the_other_architectures_are_counted_as_by_hand(config: ModelConfig, count: int) -> None:
    assert count_parameters(config, described(in_channels=2)) == count


def test_weights_that_are_tied_count_once() -> None:
    text = described(kind="text", in_channels=50, outputs=50)
    tied = count_parameters(CKCNNConfig(hidden_channels=4, readout="tied"), text)
    apart = count_parameters(CKCNNConfig(hidden_channels=4, readout="every_step"), text)
    assert apart - tied == 50 * 4


@pytest.mark.parametrize(
    "config",
    [
        CKCNNConfig(hidden_channels=65_536),
        TCNConfig(hidden_channels=65_536),
        GRUConfig(hidden_channels=65_536),
        LSTMConfig(hidden_channels=65_536),
        LRUConfig(hidden_channels=65_536, state_channels=65_536),
    ],
    ids=lambda config: config.name,
)
def test_counting_allocates_nothing(config: ModelConfig) -> None:
    assert count_parameters(config, described()) > 10**10  # 40 GB, were it made


def test_a_model_can_be_built_on_the_meta_device_with_a_generator_too() -> None:
    with torch.device("meta"):
        model = CKCNN(CKCNNConfig(hidden_channels=4), described(), torch.Generator(device="cpu"))
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model(torch.empty(2, 1, 9, device="meta")).shape == (2, 10)
