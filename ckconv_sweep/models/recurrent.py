"""Recurrent networks: GRU (Cho et al. 2014, arXiv:1406.1078) and LSTM (Hochreiter and Schmidhuber
1997), as PyTorch computes them, with its initial weights.

Shapes: B batch, C channels in, D hidden channels, T time.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from ckconv_sweep.config.model import GRUConfig, LSTMConfig
from ckconv_sweep.models.initial import put, uniform, unset
from ckconv_sweep.models.masks import Masks, dropped
from ckconv_sweep.models.sequence_model import Penalty, Sampling, SequenceModel, no_penalty


def made(
    kind: type[nn.GRU] | type[nn.LSTM],
    in_channels: int,
    hidden_channels: int,
    generator: Generator | None,
) -> nn.RNNBase:
    """One recurrent layer, with all weights uniform within `1 / sqrt(hidden_channels)`, or unset
    without a generator."""
    # On the meta device its own draws, which nobody could seed, draw nothing. (skip_init does this
    # too, but not for nn.GRU, in whose signature no `device` can be seen.)
    with torch.device("meta"):
        layer = kind(in_channels, hidden_channels, batch_first=True)
    layer = layer.to_empty(device=unset().device)
    for parameter in layer.parameters():
        put(parameter, math.nan)
        if generator is not None:
            put(parameter, uniform(parameter.shape, hidden_channels**-0.5, generator))
    return layer


class Recurrent(SequenceModel):
    """Layers of one kind. Dropout is between layers: between the layers i and i + 1, counted from
    0, at the place 1 + i; a single layer has none."""

    kind: ClassVar[type[nn.GRU] | type[nn.LSTM]]

    def build(
        self,
        config: GRUConfig | LSTMConfig,
        in_channels: int,
        length: int,
        generator: Generator | None,
    ) -> None:
        self.dropout = config.dropout
        channels = [in_channels] + [config.hidden_channels] * (config.layers - 1)
        # A module for each layer: with several in one, PyTorch would draw the dropout between them.
        self.layers = nn.ModuleList(
            made(self.kind, channels_in, config.hidden_channels, generator)
            for channels_in in channels
        )

    def hidden(
        self, x_BCT: Tensor, masks: Masks | None, sampling: Sampling
    ) -> tuple[Tensor, Penalty]:
        h_BDT = x_BCT
        for number, layer in enumerate(self.layers):
            if number > 0:
                h_BDT = dropped(h_BDT, masks, number, self.dropout)
            h_BTD, _ = layer(h_BDT.transpose(1, 2))
            h_BDT = h_BTD.transpose(1, 2)
        return h_BDT, no_penalty(h_BDT)


class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014)."""

    kind = nn.GRU


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997)."""

    kind = nn.LSTM
