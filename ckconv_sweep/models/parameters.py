"""How many parameters a model has, before there is one."""

from __future__ import annotations

import torch

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import ModelConfig
from ckconv_sweep.models.architectures import make_model


def count_parameters(config: ModelConfig, description: Description) -> int:
    """The number of trained values of `make_model(config, description, ...)`; weights that stand at
    two places count once.

    The model is built on the meta device, where tensors have shapes but no memory.
    """
    with torch.device("meta"):
        model = make_model(config, description, generator=None)
    return sum(parameter.numel() for parameter in model.parameters())
