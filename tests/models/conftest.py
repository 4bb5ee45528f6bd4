from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import torch

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import CKCNNConfig, MLPConfig
from ckconv_sweep.models.ckcnn import CKCNN

# `pytest tests/models --hypothesis-profile thorough`
hypothesis.settings.register_profile("thorough", max_examples=2000)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def make_description() -> Callable[..., Description]:
    """Sequences of 2 channels and 3 classes."""

    def make(**changes: Any) -> Description:
        return Description(**{"name": "x", "in_channels": 2, "length": 9, "outputs": 3} | changes)

    return make


@pytest.fixture
def make_config() -> Callable[..., CKCNNConfig]:
    """A tiny model; `kernel__layers=4` changes `model.kernel.layers`."""

    def make(**changes: Any) -> CKCNNConfig:
        kernel = {
            k.removeprefix("kernel__"): v for k, v in changes.items() if k.startswith("kernel__")
        }
        model = {k: v for k, v in changes.items() if not k.startswith("kernel__")}
        return CKCNNConfig(
            **{"hidden_channels": 4, "kernel": MLPConfig(hidden_channels=5, **kernel)} | model
        )

    return make


@pytest.fixture
def make_model(
    make_config: Callable[..., CKCNNConfig], make_description: Callable[..., Description]
) -> Callable[..., CKCNN]:
    """A tiny network for sequences of 2 channels and 3 classes, made for `length` steps."""

    def make(seed: int = 0, length: int = 9, **changes: Any) -> CKCNN:
        description = make_description(length=length)
        return CKCNN(make_config(**changes), description, torch.Generator().manual_seed(seed))

    return make
