"""Weights of the published code, https://github.com/dwromero/ckconv, in and out.

Its linear maps are convolutions of width 1, so their weights have one more axis, of size 1. The
frequency omega_0 is in no file: it must be given in the settings, with all its digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ckconv_sweep.errors import ConfigError, DamagedData
from ckconv_sweep.models.ckcnn import CKCNN

NAMES = [
    (r"blocks\.(\d+)\.conv([12])\.bias", r"backbone.{0}.cconv{1}.bias"),
    (r"blocks\.(\d+)\.norm([12])\.(weight|bias)", r"backbone.{0}.norm{1}.layer_norm.{2}"),
    (r"blocks\.(\d+)\.shortcut\.(weight|bias)", r"backbone.{0}.shortcut.0.{1}"),
    (r"readout\.(weight|bias)", r"finallyr.{0}"),
]
KERNEL_NET = r"blocks\.(\d+)\.conv([12])\.kernel_net\.layers\.(\d+)\.(weight_g|weight_v|bias)"
NOT_WEIGHTS = ("train_length", "conv_kernel")
"""Last part of the names under which the published code keeps what it computes anew."""


def authors_name(name: str) -> str:
    """The published code's name of one of our parameters."""
    if match := re.fullmatch(KERNEL_NET, name):
        block, conv, layer, kind = match.groups()
        # Each layer of its kernel net takes four places: linear, frequency, norm, activation.
        return f"backbone.{block}.cconv{conv}.Kernel.kernel_net.{4 * int(layer)}.{kind}"
    for pattern, theirs in NAMES:
        if match := re.fullmatch(pattern, name):
            return theirs.format(*match.groups())
    raise ConfigError(
        f"the published code has no parameter like {name!r}",
        hint="its checkpoints have model.kernel.norm none",
    )


def _has_width_axis(name: str) -> bool:
    return name.endswith(("weight_g", "weight_v", "shortcut.weight"))


def to_authors(model: CKCNN) -> dict[str, Tensor]:
    """The model's weights under the published code's names and in its shapes."""
    return {
        authors_name(name): (value[..., None] if _has_width_axis(name) else value).detach().clone()
        for name, value in model.named_parameters()
    }


def from_authors(state: Mapping[str, object], model: CKCNN) -> dict[str, Tensor]:
    """A state of the published code as one for `model.load_state_dict`.

    Args:
        state: what `torch.load(path, map_location="cpu", weights_only=True)` gives.
        model: says which parameters there must be, and in which shapes; is not changed.

    Raises:
        ConfigError: the state is that of a model of another shape.
        DamagedData: a value is no tensor of finite numbers.
    """
    parameters = {authors_name(name): name for name, _ in model.named_parameters()}
    expected = {theirs: value.shape for theirs, value in to_authors(model).items()}
    weights = {key: v for key, v in state.items() if key.split(".")[-1] not in NOT_WEIGHTS}
    for key, shape in expected.items():
        if key not in weights:
            raise ConfigError(
                f"the checkpoint lacks {key!r}, which the model's settings ask for",
                hint="compare model.blocks and model.bias with the checkpoint",
            )
        value = weights[key]
        if not isinstance(value, Tensor):
            raise DamagedData(f"{key!r} must be a tensor, got {type(value).__name__}")
        if value.shape != shape:
            raise ConfigError(
                f"{key!r} must have the shape {tuple(shape)}, got {tuple(value.shape)}",
                hint="compare the channels and classes of the model with the checkpoint",
            )
        if not (value.is_floating_point() and torch.isfinite(value).all()):
            raise DamagedData(f"{key!r} must hold finite real numbers")
    for key in weights:
        if key not in expected:
            raise ConfigError(
                f"the checkpoint holds {key!r}, for which the model has no place",
                hint="compare model.blocks and model.bias with the checkpoint",
            )
    mapped: dict[str, Tensor] = {}
    for theirs, ours in parameters.items():
        value = weights[theirs]
        assert isinstance(value, Tensor)
        mapped[ours] = (value[..., 0] if _has_width_axis(ours) else value).detach().clone()
    return mapped
