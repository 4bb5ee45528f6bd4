"""The temporal convolutional network of Bai et al. 2018 (arXiv:1803.01271): residual blocks of two
causal convolutions each, with short kernels that are spread wider from block to block.

Initial weights are PyTorch's default, with which the published code trains: it draws smaller ones
too, but into a tensor that its weight normalisation computes anew.

Shapes: B batch, C channels in, D channels out, T time, K kernel size.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ckconv_sweep.config.model import TCNConfig
from ckconv_sweep.models.convolution import conv1d
from ckconv_sweep.models.initial import put, uniform, unset
from ckconv_sweep.models.masks import Masks, dropped
from ckconv_sweep.models.sequence_model import (
    Penalty,
    Sampling,
    SequenceModel,
    matched,
    no_penalty,
)
from ckconv_sweep.models.weight_norm import weight_norm


class DilatedConv(nn.Module):
    """A causal convolution with K taps, `dilation` steps apart. The weights of each output channel
    have the direction of `weight_v` and the length `weight_g`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int,
        generator: Generator | None,
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.weight_g = unset(out_channels, 1, 1)
        self.weight_v = unset(out_channels, in_channels, kernel_size)
        self.bias = unset(out_channels)
        if generator is not None:
            bound = (in_channels * kernel_size) ** -0.5
            weight_DCK = uniform(self.weight_v.shape, bound, generator)
            put(self.weight_v, weight_DCK)
            put(self.weight_g, torch.linalg.vector_norm(weight_DCK, dim=(1, 2), keepdim=True))
            put(self.bias, uniform(self.bias.shape, bound, generator))

    def weight(self) -> Tensor:
        """`(D, C, K)`; the last tap weighs the present."""
        return weight_norm(self.weight_v, self.weight_g, dims=2)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """`(B, C, T) -> (B, D, T)`"""
        weight_DCK = self.weight()
        # Taps that reach back further than the sequence are left out: from block to block the
        # reach doubles, and the zeros put before the sequence with it.
        taps = min(weight_DCK.shape[-1], 1 + (x_BCT.shape[-1] - 1) // self.dilation)
        before_BCT = functional.pad(x_BCT, ((taps - 1) * self.dilation, 0))
        # One tap has no distance; torch takes none that does not fit in 64 bits.
        dilation = self.dilation if taps > 1 else 1
        y_BDT = conv1d(before_BCT, weight_DCK[..., -taps:], dilation=dilation)
        return y_BDT + self.bias[..., None, :, None]


class TCNBlock(nn.Module):
    """Convolution, ReLU, dropout, twice; then the input is added and a ReLU taken."""

    def __init__(
        self, config: TCNConfig, in_channels: int, number: int, generator: Generator | None
    ) -> None:
        """`number` counts the blocks from 0: 2 to that power is the dilation, 1 and 2 plus twice
        that are the dropout places."""
        super().__init__()
        hidden, size = config.hidden_channels, config.kernel_size
        self.place, self.dropout = 1 + 2 * number, config.dropout
        self.conv1 = DilatedConv(in_channels, hidden, size, 2**number, generator)
        self.conv2 = DilatedConv(hidden, hidden, size, 2**number, generator)
        self.shortcut = matched(in_channels, hidden, generator)

    def forward(self, x_BCT: Tensor, masks: Masks | None) -> Tensor:
        """`(B, C, T) -> (B, D, T)`"""
        h_BDT = functional.relu(self.conv1(x_BCT))
        h_BDT = dropped(h_BDT, masks, self.place, self.dropout)
        h_BDT = functional.relu(self.conv2(h_BDT))
        h_BDT = dropped(h_BDT, masks, self.place + 1, self.dropout)
        return functional.relu(h_BDT + self.shortcut(x_BCT))


class TCN(SequenceModel):
    """A step sees the last `1 + 2 (kernel_size - 1) (2^blocks - 1)` steps."""

    def build(
        self, config: TCNConfig, in_channels: int, length: int, generator: Generator | None
    ) -> None:
        channels = [in_channels] + [config.hidden_channels] * (config.blocks - 1)
        self.blocks = nn.ModuleList(
            TCNBlock(config, channels_in, number, generator)
            for number, channels_in in enumerate(channels)
        )

    def hidden(
        self, x_BCT: Tensor, masks: Masks | None, sampling: Sampling
    ) -> tuple[Tensor, Penalty]:
        for block in self.blocks:
            x_BCT = block(x_BCT, masks)
        return x_BCT, no_penalty(x_BCT)
