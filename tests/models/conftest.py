from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import torch

from ckconv_sweep.config.trial import Kernel, Model
from ckconv_sweep.models.ckcnn import CKCNN

# `pytest tests/models --hypothesis-profile thorough`
hypothesis.settings.register_profile("thorough", max_examples=2000)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def make_config() -> Callable[..., Model]:
    """A tiny model; `kernel__layers=4` changes `model.kernel.layers`."""

    def make(**changes: Any) -> Model:
        kernel = {k.removeprefix("kernel__"): v for k, v in changes.items() if "__" in k}
        model = {k: v for k, v in changes.items() if "__" not in k}
        return Model(**{"hidden_channels": 4, **model}, kernel=Kernel(hidden_channels=5, **kernel))

    return make


@pytest.fixture
def make_model(make_config: Callable[..., Model]) -> Callable[..., CKCNN]:
    """A tiny network for sequences of 2 channels and 3 classes."""

    def make(seed: int = 0, **changes: Any) -> CKCNN:
        return CKCNN(make_config(**changes), 2, 3, torch.Generator().manual_seed(seed))

    return make
