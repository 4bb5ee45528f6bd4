"""The small network that is the kernel: relative position in, kernel value out.

Romero et al. 2022 (CKConv, arXiv:2102.02611), sec. 4; sine layers from Sitzmann et al. 2020
(SIREN, arXiv:2006.09661); weight normalisation from Salimans and Kingma 2016 (arXiv:1602.07868).

    psi(p) = W3 sin(omega_0 (W2 sin(omega_0 (W1 p + b1)) + b2)) + b3

omega_0 multiplies after the bias, as in the published code, and not in the last layer.

Shapes: T positions, N channels out, M channels in, H hidden channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ckconv_sweep.config.trial import Kernel
from ckconv_sweep.models.initial import normal, put, uniform, unset


class WeightNormLinear(nn.Module):
    """`y = W x + b`, where row n of W has the direction of `weight_v[n]` and the length
    `weight_g[n]`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight_g = unset(out_channels, 1)
        self.weight_v = unset(out_channels, in_channels)
        self.bias = unset(out_channels)

    @property
    def in_channels(self) -> int:
        return self.weight_v.shape[1]

    @property
    def out_channels(self) -> int:
        return self.weight_v.shape[0]

    def weight(self) -> Tensor:
        """`(N, M)`"""
        return self.weight_g * functional.normalize(self.weight_v, dim=1)

    def set_weight(self, weight_NM: Tensor) -> None:
        put(self.weight_v, weight_NM)
        put(self.weight_g, weight_NM.norm(dim=1, keepdim=True))

    def forward(self, h_MT: Tensor) -> Tensor:
        """`(M, T) -> (N, T)`"""
        return torch.addmm(self.bias[:, None], self.weight(), h_MT)


class Standardize(nn.Module):
    """Subtract the mean, divide by the standard deviation, then scale and shift each channel.

    The statistics are always those of the input at hand: a kernel net sees the same positions
    while it trains and afterwards, so there is nothing for running statistics to estimate.
    """

    def __init__(self, channels: int, dims: tuple[int, ...], eps: float) -> None:
        super().__init__()
        self.dims, self.eps = dims, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, h_HT: Tensor) -> Tensor:
        """`(H, T) -> (H, T)`"""
        centred_HT = h_HT - h_HT.mean(self.dims, keepdim=True)
        variance = centred_HT.square().mean(self.dims, keepdim=True)
        scaled_HT = centred_HT * torch.rsqrt(variance + self.eps)
        return self.weight[:, None] * scaled_HT + self.bias[:, None]


Activation = Callable[[Tensor, Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "sine": lambda h, omega_0: torch.sin(omega_0 * h),
    "relu": lambda h, omega_0: functional.relu(h),
    "leaky_relu": lambda h, omega_0: functional.leaky_relu(h),
    "swish": lambda h, omega_0: functional.silu(h),
}
"""What each layer but the last ends with, given its values and omega_0."""

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "layer": lambda channels: Standardize(channels, dims=(0, 1), eps=1e-12),
    "batch": lambda channels: Standardize(channels, dims=(1,), eps=1e-5),
}
"""Between linear layer and activation, given the channels. `layer` takes its statistics over
channels and positions together, as in the published code; `batch` over the positions."""


def authors_effective(layers: Sequence[WeightNormLinear], kernel: Kernel, rng: Generator) -> None:
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


def siren(layers: Sequence[WeightNormLinear], kernel: Kernel, rng: Generator) -> None:
    """What the papers say (SIREN, sec. 3.2), with the authors' biases, uniform on [-1, 1]."""
    for number, layer in enumerate(layers):
        bound = 1.0 if number == 0 else math.sqrt(6.0 / layer.in_channels) / kernel.omega_0
        layer.set_weight(uniform(layer.weight_v.shape, bound, rng))
    for layer in layers:
        put(layer.bias, uniform(layer.bias.shape, 1.0, rng))


INITIALIZATIONS: dict[str, Callable[[Sequence[WeightNormLinear], Kernel, Generator], None]] = {
    "authors_effective": authors_effective,
    "siren": siren,
}


class KernelNet(nn.Module):
    """Linear layers with norm and activation between them.

    `omega_0` is a buffer, not a parameter: it is a setting and no part of the state, and yet
    `torch.func.functional_call` can put another one in its place.
    """

    omega_0: Tensor

    def __init__(self, config: Kernel, out_channels: int, generator: Generator | None) -> None:
        """Without a generator the linear layers stay unset."""
        super().__init__()
        hidden = [config.hidden_channels] * (config.layers - 1)
        layers = [
            WeightNormLinear(channels_in, channels_out)
            for channels_in, channels_out in zip([1, *hidden], [*hidden, out_channels], strict=True)
        ]
        if generator is not None:
            INITIALIZATIONS[config.initialization](layers, config, generator)
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(NORMS[config.norm](channels) for channels in hidden)
        self.activation = ACTIVATIONS[config.activation]
        self.register_buffer("omega_0", torch.tensor(config.omega_0), persistent=False)

    def forward(self, positions_T: Tensor) -> Tensor:
        """Relative positions `(T,)`, within [-1, 1], to kernel values `(N, T)`."""
        *hidden, last = self.layers
        h: Tensor = positions_T[None, :]
        for layer, norm in zip(hidden, self.norms, strict=True):
            h = self.activation(norm(layer(h)), self.omega_0)
        values_NT: Tensor = last(h)
        return values_NT
