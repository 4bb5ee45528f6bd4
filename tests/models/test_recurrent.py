from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import GRUConfig, LSTMConfig
from ckconv_sweep.models.recurrent import GRU, LSTM, Recurrent

from .masks import SeededMasks


def gru_step(layer: nn.RNNBase, x_BC: Tensor, state: Any) -> tuple[Tensor, Any]:
    h_BD = x_BC.new_zeros(x_BC.shape[0], layer.hidden_size) if state is None else state
    ir, iz, i_n = (x_BC @ layer.weight_ih_l0.T + layer.bias_ih_l0).chunk(3, 1)
    hr, hz, hn = (h_BD @ layer.weight_hh_l0.T + layer.bias_hh_l0).chunk(3, 1)
    update = torch.sigmoid(iz + hz)
    h_BD = (1 - update) * torch.tanh(i_n + torch.sigmoid(ir + hr) * hn) + update * h_BD
    return h_BD, h_BD


def lstm_step(layer: nn.RNNBase, x_BC: Tensor, state: Any) -> tuple[Tensor, Any]:
    zeros_BD = x_BC.new_zeros(x_BC.shape[0], layer.hidden_size)
    h_BD, cell_BD = state or (zeros_BD, zeros_BD)
    x4 = x_BC @ layer.weight_ih_l0.T + layer.bias_ih_l0
    i, f, g, o = (x4 + h_BD @ layer.weight_hh_l0.T + layer.bias_hh_l0).chunk(4, 1)
    cell_BD = torch.sigmoid(f) * cell_BD + torch.sigmoid(i) * torch.tanh(g)
    h_BD = torch.sigmoid(o) * torch.tanh(cell_BD)
    return h_BD, (h_BD, cell_BD)


def unrolled(step: Callable[..., Any], layer: nn.RNNBase, x_BCT: Tensor) -> Tensor:
    state, out = None, []
    for x_BC in x_BCT.unbind(-1):
        h_BD, state = step(layer, x_BC, state)
        out.append(h_BD)
    return torch.stack(out, -1)


def description(in_channels: int) -> Description:
    return Description(name="x", in_channels=in_channels, length=7, outputs=3)


CASES = [(GRU, GRUConfig, gru_step), (LSTM, LSTMConfig, lstm_step)]


@pytest.mark.parametrize(("architecture", "settings", "step"), CASES)
def test_two_layers_with_dropout_between_are_the_formula_written_out(
    architecture: type[Recurrent], settings: Any, step: Any, rng: Generator
) -> None:
    config = settings(hidden_channels=4, layers=2, dropout=0.5)
    model = architecture(config, description(2), rng).double()
    x_BCT = torch.randn(3, 2, 7, generator=rng).double()
    masks = SeededMasks()
    h_BDT = unrolled(step, model.layers[0], x_BCT) * masks(1, (3, 4, 7), 0.5)
    h_BDT = unrolled(step, model.layers[1], h_BDT)
    expected_BK = h_BDT[..., -1] @ model.readout.weight.T + model.readout.bias
    torch.testing.assert_close(model(x_BCT, masks), expected_BK)


@pytest.mark.parametrize(("architecture", "settings", "step"), CASES)
def test_one_layer_drops_nothing(
    architecture: type[Recurrent], settings: Any, step: Any, rng: Generator
) -> None:
    masks = SeededMasks()
    config = settings(hidden_channels=4, dropout=0.5)
    architecture(config, description(2), rng)(torch.ones(3, 2, 7), masks)
    assert masks.asked == []


@pytest.mark.parametrize(("architecture", "settings", "step"), CASES)
def test_weights_start_uniform_as_in_pytorch(
    architecture: type[Recurrent], settings: Any, step: Any, rng: Generator
) -> None:
    model = architecture(settings(hidden_channels=25), description(30), rng)
    for parameter in model.layers.parameters():
        assert 0.17 < parameter.abs().max() <= 0.2  # 1 / sqrt(25)
        assert parameter.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.2)
