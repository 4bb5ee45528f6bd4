"""Initial values, drawn on the CPU from the generator handed in: the same on every device.

A parameter that nobody has set yet holds NaN, so that a forgotten one is heard.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import Parameter


def unset(*shape: int) -> Parameter:
    """A parameter of that shape, to be set or loaded before use."""
    return Parameter(torch.full(shape, math.nan))


def uniform(shape: tuple[int, ...], bound: float, generator: Generator) -> Tensor:
    """Uniform on `[-bound, bound)`."""
    return torch.empty(shape, device="cpu").uniform_(-bound, bound, generator=generator)


def normal(shape: tuple[int, ...], std: float, generator: Generator) -> Tensor:
    """Normal around zero with that standard deviation."""
    return torch.empty(shape, device="cpu").normal_(0.0, std, generator=generator)


@torch.no_grad()
def put(parameter: Parameter, values: Tensor | float) -> None:
    """Set a parameter. A number fills it."""
    parameter.copy_(torch.as_tensor(values, device="cpu"))
