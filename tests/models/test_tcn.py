from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import TCNConfig
from ckconv_sweep.models.tcn import TCN, DilatedConv, TCNBlock

from .masks import SeededMasks


def summed(conv: DilatedConv, x_BCT: Tensor) -> Tensor:
    """The convolution as a plain sum; `weight` is the last tap's for the present."""
    weight_DCK = conv.weight_g * conv.weight_v / conv.weight_v.square().sum((1, 2), True).sqrt()
    taps = weight_DCK.shape[-1]
    steps = []
    for t in range(x_BCT.shape[-1]):
        y_BD = conv.bias.expand(x_BCT.shape[0], -1)
        for k in range(taps):
            s = t - (taps - 1 - k) * conv.dilation
            if s >= 0:
                y_BD = y_BD + x_BCT[..., s] @ weight_DCK[..., k].T
        steps.append(y_BD)
    return torch.stack(steps, -1)


@pytest.mark.parametrize("kernel_size", [2, 3, 7])
@pytest.mark.parametrize("dilation", [1, 2, 5, 12, 13, 2**70])
def test_the_convolution_is_the_sum_written_out(
    dilation: int, kernel_size: int, rng: Generator
) -> None:
    conv = DilatedConv(2, 3, kernel_size, dilation, rng).double()
    x_BCT = torch.randn(2, 2, 13, generator=rng).double()
    torch.testing.assert_close(conv(x_BCT), summed(conv, x_BCT))


@pytest.mark.parametrize("in_channels", [2, 4])
def test_a_block_is_the_formula_written_out(in_channels: int, rng: Generator) -> None:
    config = TCNConfig(hidden_channels=4, kernel_size=3, dropout=0.5)
    block = TCNBlock(config, in_channels, 2, rng).double()
    assert block.conv1.dilation == block.conv2.dilation == 4
    x_BCT = torch.randn(2, in_channels, 13, generator=rng).double()
    masks = SeededMasks()
    h_BDT = torch.relu(summed(block.conv1, x_BCT)) * masks(5, (2, 4, 13), 0.5)
    h_BDT = torch.relu(summed(block.conv2, h_BDT)) * masks(6, (2, 4, 13), 0.5)
    expected_BDT = torch.relu(h_BDT + block.shortcut(x_BCT))
    torch.testing.assert_close(block(x_BCT, masks), expected_BDT)


def test_the_last_step_sees_as_far_back_as_its_docstring_says(rng: Generator) -> None:
    config = TCNConfig(hidden_channels=8, blocks=3, kernel_size=3)
    model = TCN(config, Description(name="x", in_channels=1, length=40, outputs=2), rng).double()
    x_BCT = torch.randn(4, 1, 40, generator=rng).double().requires_grad_()
    (gradient_BCT,) = torch.autograd.grad(model(x_BCT).sum(), x_BCT)
    reach = 1 + 2 * (3 - 1) * (2**3 - 1)
    assert gradient_BCT[..., -reach].abs().max() > 0.0
    assert gradient_BCT[..., :-reach].abs().max() == 0.0


def test_weights_start_as_in_pytorch(rng: Generator) -> None:
    conv = DilatedConv(10, 100, 10, 1, rng)
    assert 0.099 < conv.weight().abs().max() <= 0.1 * (1 + 1e-6)  # 1 / sqrt(100)
    assert conv.weight().std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)
    assert 0.09 < conv.bias.abs().max() <= 0.1
