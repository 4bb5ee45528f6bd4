"""MAGNet: a product of Gabor filters, each a sine wave in a window of its own place and width.

Romero et al. 2022 (FlexConv, arXiv:2110.08059), after the multiplicative filter networks of Fathony
et al. 2021; the initial values are those of the published code of CCNN (arXiv:2206.03398).

    g_l(p) = exp(-1/2 (gamma_l (p - mu_l))^2) sin(2 pi omega_0 W_l p + b_l)
    h_0 = g_0(p),    h_l = g_l(p) (A_l h_(l-1) + a_l),    psi(p) = A h + a

In the published code 2 pi omega_0 only scales the initial W; here it multiplies in every forward
pass, so that it can be replaced or learned.

Shapes: P positions, H hidden channels.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from ckconv_sweep.config.model import MagnetConfig
from ckconv_sweep.models.initial import put, uniform, unset
from ckconv_sweep.models.kernel_nets.base import KernelNet
from ckconv_sweep.models.kernel_nets.linear import Linear


class GaborFilters(nn.Module):
    """One filter a hidden channel."""

    def __init__(self, channels: int, number: int, generator: Generator | None) -> None:
        """`number` of the layer, from 0: the later, the wider are its first windows."""
        super().__init__()
        self.weight, self.bias = unset(channels), unset(channels)
        self.mu, self.gamma = unset(channels), unset(channels)
        if generator is not None:
            shape_H = torch.full((channels,), 6.0 / (number + 1), device="cpu")
            put(self.mu, uniform((channels,), 1.0, generator))
            put(self.gamma, torch._standard_gamma(shape_H, generator=generator))
            # A narrow window holds a fast wave: each of them as many periods.
            put(self.weight, uniform((channels,), 1.0, generator) * self.gamma.detach())
            put(self.bias, 0.0)

    def forward(self, positions_P: Tensor, omega_0: Tensor) -> Tensor:
        """`(P,) -> (H, P)`"""
        positions_1P = positions_P[..., None, :]
        window_HP = self.gamma[..., None] * (positions_1P - self.mu[..., None])
        frequencies_H = 2.0 * math.pi * omega_0[..., None] * self.weight
        wave_HP = frequencies_H[..., None] * positions_1P + self.bias[..., None]
        return torch.exp(-0.5 * window_HP.square()) * torch.sin(wave_HP)


class Magnet(KernelNet):
    """The first filters count as the first of `config.layers` layers."""

    def build(self, config: MagnetConfig, out_channels: int, generator: Generator | None) -> None:
        """Filters and, between them, linear layers, whose biases start at one."""
        hidden = config.hidden_channels
        self.filters = nn.ModuleList(
            GaborFilters(hidden, number, generator) for number in range(config.layers - 1)
        )
        for channels_out in [hidden] * (config.layers - 2) + [out_channels]:
            layer = Linear(hidden, channels_out)
            if generator is not None:
                layer.set_weight(uniform((channels_out, hidden), (3.0 / hidden) ** 0.5, generator))
                put(layer.bias, 1.0)
            self.layers.append(layer)
        if generator is not None:
            put(self.last.bias, 0.0)

    def features(self, positions_P: Tensor) -> Tensor:
        """`(P,) -> (H, P)`"""
        first, *others = self.filters
        h_HP: Tensor = first(positions_P, self.omega_0)
        for gabor, layer in zip(others, self.layers, strict=False):  # there is one filter less
            h_HP = gabor(positions_P, self.omega_0) * layer(h_HP)
        return h_HP
