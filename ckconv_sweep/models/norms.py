"""Normalisations of hidden channels: subtract a mean, divide by a standard deviation, then scale
and shift each channel. They differ in the values over which the two are taken, always within one
sequence; nothing is remembered of others. They take the axis of members (`members.py`) in front.

`layer` is the published one (Romero et al. 2022, CKConv, arXiv:2102.02611).

Shapes: B batch, C channels, T time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ckconv_sweep.models.norm_activation_dropout import norm_last, norm_relu_dropout
from ckconv_sweep.models.sequence_model import Sampling

SMALLEST_VARIANCE = 1e-5
"""Added to a variance that is zero where a channel is constant, or where there is one channel."""


class OverTime(nn.Module):
    """Statistics over all steps of a group of channels.

    Not causal: they are taken over the whole sequence, so that each step sees, through two numbers
    a group, the steps after it too.
    """

    def __init__(self, channels: int, groups: int, eps: float) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCT: Tensor, present_B1T: Tensor | None = None) -> Tensor:
        """`(B, C, T) -> (B, C, T)`; `present_B1T`: as in `Sampling`."""
        if present_B1T is not None:
            return self._scaled(self._normed(x_BCT, present_B1T))
        # nn.GroupNorm is the same, but refuses a single value.
        normed_BCT = torch.group_norm(x_BCT.flatten(0, -3), self.groups, eps=self.eps)
        return self._scaled(normed_BCT.view_as(x_BCT))

    def last(self, x_BCT: Tensor) -> Tensor:
        """The last step of the output alone: `(B, C, T) -> (B, C, 1)`."""
        return self._scaled(norm_last(x_BCT, groups=self.groups, eps=self.eps)[..., None])

    def relu_dropped(self, x_BCT: Tensor, factors: Tensor | None) -> Tensor:
        """The output's ReLU, times the factors of a dropout, `(B, C, T)` or `(B, C, 1)`."""
        return norm_relu_dropout(
            x_BCT, self.weight, self.bias, factors, groups=self.groups, eps=self.eps
        )

    def _normed(self, x_BCT: Tensor, present_B1T: Tensor) -> Tensor:
        """By the statistics of the steps that there are."""
        x_BGST = torch.unflatten(x_BCT, -2, (self.groups, -1))
        present_B11T = present_B1T.unsqueeze(-3)
        values_B111 = present_B11T.sum(-1, keepdim=True) * x_BGST.shape[-2]

        def mean(y_BGST: Tensor) -> Tensor:
            return (y_BGST * present_B11T).sum(-1, keepdim=True).sum(-2, keepdim=True) / values_B111

        centred_BGST = x_BGST - mean(x_BGST)
        variance_BG11 = mean(centred_BGST.square())
        return (centred_BGST * (variance_BG11 + self.eps).rsqrt()).flatten(-3, -2)

    def _scaled(self, normed_BCT: Tensor) -> Tensor:
        return normed_BCT * self.weight[..., None, :, None] + self.bias[..., None, :, None]


class OverChannels(nn.Module):
    """Statistics over the channels of each step. Causal: a step sees itself only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCT: Tensor) -> Tensor:
        """`(B, C, T) -> (B, C, T)`"""
        normed_BTC = functional.layer_norm(x_BCT.mT, x_BCT.shape[-2:-1], eps=SMALLEST_VARIANCE)
        return normed_BTC.mT * self.weight[..., None, :, None] + self.bias[..., None, :, None]


def normed(norm: nn.Module, x_BCT: Tensor, sampling: Sampling) -> Tensor:
    """A norm's output at all steps: `(B, C, T) -> (B, C, T)`."""
    # All but `OverTime` look at each step by itself.
    if sampling.present_B1T is not None and isinstance(norm, OverTime):
        return norm.forward(x_BCT, sampling.present_B1T)
    y_BCT: Tensor = norm(x_BCT)
    return y_BCT


def last_of(norm: nn.Module, x_BCT: Tensor) -> Tensor:
    """The last step of a norm's output: `(B, C, T) -> (B, C, 1)`."""
    last_BC1: Tensor = norm.last(x_BCT) if isinstance(norm, OverTime) else norm(x_BCT[..., -1:])
    return last_BC1


def layer(channels: int) -> nn.Module:
    """Over channels and steps together, with an eps of 1e-12, as published. Not causal: it looks at
    the whole sequence."""
    return OverTime(channels, groups=1, eps=1e-12)


def instance(channels: int) -> nn.Module:
    """Over the steps of each channel. Not causal: it looks at the whole sequence."""
    return OverTime(channels, groups=channels, eps=SMALLEST_VARIANCE)


def channel(channels: int) -> nn.Module:
    """Over the channels of each step. Causal."""
    return OverChannels(channels)


def none(channels: int) -> nn.Module:
    """No normalisation. Causal."""
    return nn.Identity()
