"""How many parameters a model has, before there is one."""

from __future__ import annotations

import torch

from ckconv_sweep.config.trial import Model
from ckconv_sweep.models.ckcnn import CKCNN


def count_parameters(config: Model, in_channels: int, out_channels: int) -> int:
    """The number of trained values of `CKCNN(config, in_channels, out_channels)`.

    The model is built on the meta device, where tensors have shapes but no memory.
    """
    with torch.device("meta"):
        model = CKCNN(config, in_channels, out_channels, generator=None)
    return sum(parameter.numel() for parameter in model.parameters())
