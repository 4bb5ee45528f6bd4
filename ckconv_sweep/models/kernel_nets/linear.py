"""The linear layers of the kernel nets, and what standardizes between them: `(M, P)` in, `(N, P)`
out, at every position by itself.

They take the axis of members (`ckconv_sweep.models.members`) in front.

Shapes: P positions, N channels out, M channels in, H hidden channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ckconv_sweep.models.initial import put, unset
from ckconv_sweep.models.members import product
from ckconv_sweep.models.weight_norm import weight_norm


class LinearLayer(nn.Module, ABC):
    """`y = W x + b`. Unset until `set_weight` and a value for the bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.make_weight()
        self.bias = unset(out_channels)

    @abstractmethod
    def make_weight(self) -> None:
        """Make the parameters of which `weight` is made."""

    @abstractmethod
    def weight(self) -> Tensor:
        """W, `(N, M)`."""

    @abstractmethod
    def set_weight(self, weight_NM: Tensor) -> None:
        """Give W its initial value."""

    @property
    @abstractmethod
    def amplitude(self) -> Parameter:
        """The parameter to which W is proportional."""

    def forward(self, h_MP: Tensor) -> Tensor:
        """`(M, P) -> (N, P)`"""
        weight_NM = self.weight()
        # Of one channel nothing is summed, and the positions may be those of all members.
        summed_NP = weight_NM * h_MP if self.in_channels == 1 else product(weight_NM, h_MP)
        return summed_NP + self.bias[..., None]


class Linear(LinearLayer):
    """W is a parameter, called `matrix`."""

    def make_weight(self) -> None:
        self.matrix = unset(self.out_channels, self.in_channels)

    def weight(self) -> Tensor:
        return self.matrix

    def set_weight(self, weight_NM: Tensor) -> None:
        put(self.matrix, weight_NM)

    @property
    def amplitude(self) -> Parameter:
        return self.matrix


class WeightNormLinear(LinearLayer):
    """Row n of W has the direction of `weight_v[n]` and the length `weight_g[n]`."""

    def make_weight(self) -> None:
        self.weight_g = unset(self.out_channels, 1)
        self.weight_v = unset(self.out_channels, self.in_channels)

    def weight(self) -> Tensor:
        return weight_norm(self.weight_v, self.weight_g)

    def set_weight(self, weight_NM: Tensor) -> None:
        put(self.weight_v, weight_NM)
        put(self.weight_g, weight_NM.norm(dim=1, keepdim=True))

    @property
    def amplitude(self) -> Parameter:
        return self.weight_g


class Standardize(nn.Module):
    """Subtract the mean, divide by the standard deviation, then scale and shift each channel.

    The statistics are always those of the input at hand: a kernel net sees the same positions
    while it trains and afterwards, so there is nothing for running statistics to estimate.
    """

    def __init__(self, channels: int, dims: tuple[int, ...], eps: float) -> None:
        super().__init__()
        self.dims, self.eps = dims, eps
        self.weight = Parameter(torch.ones(channels))
        self.bias = Parameter(torch.zeros(channels))

    def forward(self, h_HP: Tensor) -> Tensor:
        """`(H, P) -> (H, P)`"""
        centred_HP = h_HP - h_HP.mean(self.dims, keepdim=True)
        variance = centred_HP.square().mean(self.dims, keepdim=True)
        scaled_HP = centred_HP * torch.rsqrt(variance + self.eps)
        return self.weight[..., None] * scaled_HP + self.bias[..., None]
