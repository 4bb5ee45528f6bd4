"""Normalisations of hidden channels: subtract a mean, divide by a standard deviation, then scale
and shift each channel. They differ in the values over which the two are taken, always within one
sequence; nothing is remembered of others.

`layer` is the published one (Romero et al. 2022, CKConv, arXiv:2102.02611).

Shapes: B batch, C channels, T time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

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

    def forward(self, x_BCT: Tensor) -> Tensor:
        """`(B, C, T) -> (B, C, T)`"""
        # nn.GroupNorm is the same, but refuses a single value.
        return torch.group_norm(x_BCT, self.groups, self.weight, self.bias, self.eps)


class OverChannels(nn.Module):
    """Statistics over the channels of each step. Causal: a step sees itself only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BCT: Tensor) -> Tensor:
        """`(B, C, T) -> (B, C, T)`"""
        x_BTC = x_BCT.transpose(1, 2)
        channels = x_BTC.shape[-1:]
        return functional.layer_norm(
            x_BTC, channels, self.weight, self.bias, SMALLEST_VARIANCE
        ).transpose(1, 2)


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


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": layer,
    "instance": instance,
    "channel": channel,
    "none": none,
}
"""The module for so many channels."""
