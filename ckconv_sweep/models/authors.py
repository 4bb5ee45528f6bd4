"""Weights of the published code, https://github.com/dwromero/ckconv, in and out.

Its linear maps are convolutions of width 1, so their weights have one more axis, of size 1. The
frequency omega_0 is in no file: it must be given in the settings, with all its digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ckconv_sweep.errors import ConfigError
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.models.state import check_state, is_plain

NAMES = [
    (r"blocks\.(\d+)\.conv([12])\.bias", r"backbone.{0}.cconv{1}.bias"),
    (r"blocks\.(\d+)\.norm([12])\.(weight|bias)", r"backbone.{0}.norm{1}.layer_norm.{2}"),
    (r"blocks\.(\d+)\.shortcut\.(weight|bias)", r"backbone.{0}.shortcut.0.{1}"),
    (r"readout\.(weight|bias)", r"finallyr.{0}"),
]
KERNEL_NET = r"blocks\.(\d+)\.conv([12])\.kernel_net\.layers\.(\d+)\.(weight_g|weight_v|bias)"
PUBLISHED = {
    "block": "residual",
    "norm": "layer",
    "activation": "relu",
    "readout": "last",
    "causal": True,
}
"""Settings which the names and shapes of the weights do not tell."""
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
        hint="its checkpoints have model.kernel.norm none, model.mask none, model.separable false "
        "and an omega_0 that is not learned",
    )


def _refuse_another_network(model: CKCNN) -> None:
    for name, published in PUBLISHED.items():
        if (got := getattr(model.config, name)) != published:
            raise ConfigError(
                f"model.{name} must be {published} for weights of the published code, got {got}"
            )
    if model.config.kernel.name != "mlp":
        raise ConfigError(
            f"model.kernel must be mlp for weights of the published code, got "
            f"{model.config.kernel.name}"
        )


def _has_width_axis(name: str) -> bool:
    return name.endswith(("weight_g", "weight_v", "shortcut.weight"))


def to_authors(model: CKCNN) -> dict[str, Tensor]:
    """The model's weights under the published code's names and in its shapes.

    Raises:
        ConfigError: the published code has no such network.
    """
    _refuse_another_network(model)
    return {
        authors_name(name): (value[..., None] if _has_width_axis(name) else value).detach().clone()
        for name, value in model.named_parameters()
    }


def from_authors(state: Mapping[str, object], model: CKCNN) -> dict[str, Tensor]:
    """A state of the published code as one for `model.load_state_dict`.

    Args:
        state: what `torch.load(path, map_location="cpu", weights_only=True)` gives.
        model: says which parameters there must be, and in which shapes; may be on the meta device.

    Raises:
        ConfigError: the state is that of a model of another shape, or the model is none of the
            published code.
        DamagedData: a value is no tensor of finite numbers.
    """
    given = {key: v for key, v in state.items() if key.split(".")[-1] not in NOT_WEIGHTS}
    weights = check_state(
        given, to_authors(model), "compare the model's blocks, bias, channels and layers with it"
    )
    ours = {name: weights[authors_name(name)].detach() for name, _ in model.named_parameters()}
    return {
        name: (value[..., 0] if _has_width_axis(name) else value).clone()
        for name, value in ours.items()
    }


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the names and shapes of a published checkpoint tell."""

    in_channels: int
    outputs: int
    length: int | None
    """Steps of its training sequences, where the file says so."""
    hidden_channels: int
    blocks: int
    bias: bool
    kernel_hidden_channels: int
    kernel_layers: int


def described_by(state: Mapping[str, object]) -> Published:
    """Read a model's sizes from a state of the published code.

    Raises:
        ConfigError: it is none of a CKCNN with a multi-layer kernel net.
    """
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    sizes = {key: v.shape[0] for key, v in tensors.items() if v.ndim and v.numel()}

    def size(key: str) -> int:
        if key not in sizes:
            raise ConfigError(
                f"this is no CKCNN of the published code: it lacks {key!r}",
                hint="those are read whose kernel nets are multi-layer perceptrons, and whose "
                "answer is of the last step",
            )
        return sizes[key]

    net = "backbone.0.cconv1.Kernel.kernel_net"
    layers = sum(
        re.fullmatch(rf"{re.escape(net)}\.\d+\.weight_v", key) is not None for key in sizes
    )
    hidden = size("backbone.0.norm1.layer_norm.weight")
    lengths = [v for key, v in tensors.items() if key.endswith(".train_length")]
    return Published(
        in_channels=size(f"{net}.{4 * (layers - 1)}.weight_v") // hidden,
        outputs=size("finallyr.weight"),
        length=next(filter(None, map(_length, lengths)), None),
        hidden_channels=hidden,
        blocks=len({key.split(".")[1] for key in sizes if key.startswith("backbone.")}),
        bias="backbone.0.cconv1.bias" in sizes,
        kernel_hidden_channels=size(f"{net}.0.weight_v"),
        kernel_layers=layers,
    )


def _length(value: Tensor) -> int | None:
    """Some files hold something else under this name: a length is one whole number above 0."""
    if value.dtype is torch.int32 and value.numel() == 1 and is_plain(value):
        return max(int(value), 0) or None
    return None
