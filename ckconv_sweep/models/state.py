"""Weights from a file: whether they are those of a model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ckconv_sweep.errors import ConfigError, DamagedData

_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_state(state: object, like: Mapping[str, Tensor], hint: str) -> dict[str, Tensor]:
    """A state, once it is known to hold a tensor of finite real numbers for each name, and nothing
    else.

    Args:
        state: as it was read, of any type.
        like: the names and shapes that it must have, as of tensors on the meta device.
        hint: for whoever has a state of another model.

    Raises:
        ConfigError: it has other names or shapes.
        DamagedData: something in it is no tensor of finite real numbers.
    """
    if not isinstance(state, Mapping):
        raise DamagedData(f"its weights must stand by name, got {type(state).__name__}")
    for name, wanted in like.items():
        if name not in state:
            raise ConfigError(f"it lacks {name!r}, which the model has", hint=hint)
        _check_value(name, state[name], wanted.shape, hint)
    for name in state:
        if name not in like:
            raise ConfigError(f"it holds {name!r}, which the model does not have", hint=hint)
    return dict(state)


def _check_value(name: str, value: object, shape: torch.Size, hint: str) -> None:
    if not isinstance(value, Tensor):
        raise DamagedData(f"{name!r} must be a tensor, got {type(value).__name__}")
    if value.shape != shape:
        raise ConfigError(
            f"{name!r} must have the shape {tuple(shape)}, got {tuple(value.shape)}", hint=hint
        )
    if not (is_plain(value) and value.dtype in _REAL and torch.isfinite(value).all()):
        raise DamagedData(f"{name!r} must hold finite real numbers")


def is_plain(value: Tensor) -> bool:
    """Whether its values are there, one after the other."""
    return value.layout is torch.strided and value.device.type == "cpu"
