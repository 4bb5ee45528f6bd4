"""A kernel net on random Fourier features: cosine and sine of random frequencies, then linear
layers with ReLU.

The features are from Rahimi and Recht 2007 and, as the input of a network, Tancik et al. 2020
(arXiv:2006.10739); as kernel net, in the published code of Romero et al. 2022 (CKConv,
arXiv:2102.02611).

    z(p) = [cos(omega_0 f p), sin(omega_0 f p)]
    psi(p) = W3 relu(W2 z(p) + b2) + b3

The frequencies f are drawn once, normal with the deviation 2 pi, and never trained: they are a
buffer of the state. In the published code omega_0 only scales the draw, which is then a weight,
trained like the others, with a phase; here omega_0 multiplies in every forward pass, so that it can
be replaced or learned. A phase would only turn cosine and sine into each other, which the next
layer can do.

Shapes: P positions, F = H / 2 frequencies, H hidden channels.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from ckconv_sweep.config.model import RandomFourierConfig
from ckconv_sweep.models.initial import normal, put, uniform
from ckconv_sweep.models.kernel_nets.base import KernelNet
from ckconv_sweep.models.kernel_nets.linear import Linear


class RandomFourier(KernelNet):
    """The mapping to frequencies counts as the first of `config.layers` layers."""

    frequencies: Tensor
    """`(F,)`, radians per unit of position, before omega_0."""

    def build(
        self, config: RandomFourierConfig, out_channels: int, generator: Generator | None
    ) -> None:
        """Draw the frequencies; PyTorch's default weights for the layers, as published."""
        hidden = config.hidden_channels
        shape = (hidden // 2,)
        unset_F = torch.full(shape, math.nan)
        self.register_buffer(
            "frequencies",
            unset_F if generator is None else normal(shape, 2.0 * math.pi, generator),
        )
        for channels_out in [hidden] * (config.layers - 2) + [out_channels]:
            layer = Linear(hidden, channels_out)
            if generator is not None:
                layer.set_weight(uniform((channels_out, hidden), hidden**-0.5, generator))
                put(layer.bias, uniform((channels_out,), hidden**-0.5, generator))
            self.layers.append(layer)

    def features(self, positions_P: Tensor) -> Tensor:
        """`(P,) -> (H, P)`"""
        frequencies_F = self.omega_0[..., None] * self.frequencies
        angles_FP = frequencies_F[..., None] * positions_P[..., None, :]
        h_HP = torch.cat([torch.cos(angles_FP), torch.sin(angles_FP)], dim=-2)
        for layer in self.layers[:-1]:
            h_HP = functional.relu(layer(h_HP))
        return h_HP
