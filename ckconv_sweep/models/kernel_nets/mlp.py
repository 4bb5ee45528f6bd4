"""The kernel net of CKConv: linear layers with an activation between them; with sine, a SIREN.

Romero et al. 2022 (CKConv, arXiv:2102.02611), sec. 4; sine layers from Sitzmann et al. 2020
(SIREN, arXiv:2006.09661).

    psi(p) = W3 sin(omega_0 (W2 sin(omega_0 (W1 p + b1)) + b2)) + b3

omega_0 multiplies after the bias, as in the published code, and not in the last layer.

Shapes: P positions, N channels out, H hidden channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ckconv_sweep.config.model import MLPConfig
from ckconv_sweep.models.initial import normal, put, uniform
from ckconv_sweep.models.kernel_nets.base import KernelNet
from ckconv_sweep.models.kernel_nets.linear import Standardize, WeightNormLinear
from ckconv_sweep.models.kernel_nets.sine_layers import sine_layers

Activation = Callable[[Tensor, Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "sine": lambda h, omega_0: torch.sin(omega_0 * h),
    "relu": lambda h, omega_0: functional.relu(h),
    "leaky_relu": lambda h, omega_0: functional.leaky_relu(h),
    # h sigmoid(h); torch's own rounds otherwise among other members (`models/members.py`).
    "swish": lambda h, omega_0: 0.5 * h * (1.0 + torch.tanh(0.5 * h)),
}
"""What each layer but the last ends with, given its values, `(H, P)`, and omega_0, `(1, 1)`."""

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "layer": lambda channels: Standardize(channels, dims=(-2, -1), eps=1e-12),
    "batch": lambda channels: Standardize(channels, dims=(-1,), eps=1e-5),
}
"""Between linear layer and activation, given the channels. `layer` takes its statistics over
channels and positions together, as in the published code; `batch` over the positions."""


def authors_effective(
    layers: Sequence[WeightNormLinear], kernel: MLPConfig, rng: Generator
) -> None:
    """What the published code trains with.

    It writes other weights (for sine: those of `siren`), but into a tensor that its weight
    normalisation computes anew at the first forward: PyTorch's default weights and the written
    biases remain. Where the activation is not sine, those biases were computed from the weights
    that are lost; the last layer's are zero, and so are those from the third layer on.
    """
    for layer in layers:
        layer.set_weight(uniform(layer.weight_v.shape, layer.in_channels**-0.5, rng))
    if kernel.activation == "sine":
        for layer in layers:
            put(layer.bias, uniform(layer.bias.shape, 1.0, rng))
        return
    for layer in layers:
        put(layer.bias, 0.0)
    # Each hidden unit's kink at a position of its own, evenly from -1 to 1 ...
    std = 0.01
    positions_H = torch.linspace(-1.0, 1.0, kernel.hidden_channels, device="cpu")
    first_H = normal((kernel.hidden_channels,), std, rng)
    put(layers[0].bias, -positions_H * first_H)
    # ... and the second layer zero where each of them is one such step past its kink.
    if len(layers) > 2:
        step = 2.0 / max(1, kernel.hidden_channels - 1)
        second_HH = normal((kernel.hidden_channels, kernel.hidden_channels), std, rng)
        put(layers[1].bias, -second_HH @ (step * first_H))


def siren(layers: Sequence[WeightNormLinear], kernel: MLPConfig, rng: Generator) -> None:
    """What the papers say (SIREN, sec. 3.2), with the authors' biases, uniform on [-1, 1]."""
    for number, layer in enumerate(layers):
        bound = 1.0 if number == 0 else math.sqrt(6.0 / layer.in_channels) / kernel.omega_0
        layer.set_weight(uniform(layer.weight_v.shape, bound, rng))
    for layer in layers:
        put(layer.bias, uniform(layer.bias.shape, 1.0, rng))


INITIALIZATIONS: dict[str, Callable[[Sequence[WeightNormLinear], MLPConfig, Generator], None]] = {
    "authors_effective": authors_effective,
    "siren": siren,
}


class MLP(KernelNet):
    """Weight-normalised linear layers with norm and activation between them."""

    def build(self, config: MLPConfig, out_channels: int, generator: Generator | None) -> None:
        """The layers, `config.layers` of them, and the norms between them."""
        hidden = [config.hidden_channels] * (config.layers - 1)
        layers = [
            WeightNormLinear(channels_in, channels_out)
            for channels_in, channels_out in zip([1, *hidden], [*hidden, out_channels], strict=True)
        ]
        if generator is not None:
            INITIALIZATIONS[config.initialization](layers, config, generator)
        self.layers.extend(layers)
        self.norms = nn.ModuleList(NORMS[config.norm](channels) for channels in hidden)
        self.activation = ACTIVATIONS[config.activation]
        self.is_siren = config.activation == "sine"  # which has no norm

    def features(self, positions_P: Tensor) -> Tensor:
        """`(P,) -> (H, P)`"""
        if self.is_siren:
            hidden = list[Tensor]()
            for layer in self.layers[:-1]:
                assert isinstance(layer, WeightNormLinear)
                hidden += layer.weight(), layer.bias
            return sine_layers(positions_P, self.omega_0, *hidden)
        h: Tensor = positions_P[..., None, :]
        for layer, norm in zip(self.layers, self.norms, strict=False):  # there is one norm less
            h = self.activation(norm(layer(h)), self.omega_0[..., None, None])
        return h
