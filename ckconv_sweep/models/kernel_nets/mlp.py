"""The kernel net of CKConv: linear layers with an activation between them; with sine, a SIREN.

Romero et al. 2022 (CKConv, arXiv:2102.02611), sec. 4; sine layers from Sitzmann et al. 2020
(SIREN, arXiv:2006.09661).

    psi(p) = W3 sin(omega_0 (W2 sin(omega_0 (W1 p + b1)) + b2)) + b3

omega_0 multiplies after the bias, as in the published code, and not in the last layer.

Shapes: P positions, N channels out, H hidden channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ckconv_sweep.config.model import (
    INITIALIZATIONS,
    KERNEL_ACTIVATIONS,
    KERNEL_NORMS,
    MLPConfig,
)
from ckconv_sweep.models.initial import normal, put, uniform
from ckconv_sweep.models.kernel_nets.base import KernelNet
from ckconv_sweep.models.kernel_nets.linear import Standardize, WeightNormLinear
from ckconv_sweep.models.kernel_nets.sine_layers import sine_layers


def sine(h: Tensor, omega_0: Tensor) -> Tensor:
    """sin(omega_0 h)"""
    return torch.sin(omega_0 * h)


def relu(h: Tensor, omega_0: Tensor) -> Tensor:
    """max(h, 0)"""
    return functional.relu(h)


def leaky_relu(h: Tensor, omega_0: Tensor) -> Tensor:
    """h, or a hundredth of it below 0."""
    return functional.leaky_relu(h)


def swish(h: Tensor, omega_0: Tensor) -> Tensor:
    """h sigmoid(h)"""
    # torch's own rounds otherwise among other members (`models/members.py`).
    return 0.5 * h * (1.0 + torch.tanh(0.5 * h))


def no_norm(channels: int) -> nn.Module:
    """Nothing."""
    return nn.Identity()


def layer(channels: int) -> nn.Module:
    """Over channels and positions together, as in the published code."""
    return Standardize(channels, dims=(-2, -1), eps=1e-12)


def batch(channels: int) -> nn.Module:
    """Over the positions of each channel."""
    return Standardize(channels, dims=(-1,), eps=1e-5)


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
    if KERNEL_ACTIVATIONS[kernel.activation].has_omega_0:
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
            INITIALIZATIONS.maker(config.initialization)(layers, config, generator)
        self.layers.extend(layers)
        self.norms = nn.ModuleList(map(KERNEL_NORMS.maker(config.norm), hidden))
        self.activation = KERNEL_ACTIVATIONS.maker(config.activation)
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
