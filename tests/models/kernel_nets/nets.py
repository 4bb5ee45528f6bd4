"""Settings for the tests of all kernel nets."""

from __future__ import annotations

from typing import Any

from torch import Generator

from ckconv_sweep.config.model import KERNEL_NETS
from ckconv_sweep.models.kernel_nets.base import KernelNet, make_kernel_net


def make(
    name: str,
    out_channels: int = 5,
    seed: int | None = 0,
    summed: int = 1,
    **settings: Any,
) -> KernelNet:
    """A small net of that name; unset without a seed."""
    config = KERNEL_NETS[name](**{"hidden_channels": 6, "omega_0": 2.5, **settings})
    generator = None if seed is None else Generator().manual_seed(seed)
    return make_kernel_net(config, out_channels, generator, summed)
