from __future__ import annotations

import pytest
import torch
from torch import Generator

from ckconv_sweep.config.trial import Kernel
from ckconv_sweep.models.ckconv import CKConv, relative_positions
from ckconv_sweep.models.convolution import causal_conv


@pytest.mark.parametrize("length", [2, 3, 31, 784, 785])
def test_positions_run_from_the_present_back_to_the_oldest_step(length: int) -> None:
    positions_T = relative_positions(length, like=torch.zeros(()))
    assert positions_T[0] == 1.0
    assert positions_T[-1] == -1.0
    expected_T = torch.linspace(-1.0, 1.0, length).flip(0)
    torch.testing.assert_close(positions_T, expected_T, rtol=0, atol=2e-7)


def test_the_only_step_of_a_sequence_is_the_present() -> None:
    assert relative_positions(1, like=torch.zeros(())).tolist() == [1.0]


def test_the_output_is_the_convolution_with_the_sampled_kernel(rng: Generator) -> None:
    conv = CKConv(Kernel(hidden_channels=4), 2, 3, rng)
    x_BCT = torch.randn(2, 2, 9, generator=rng)
    y_BDT, kernel_DCT = conv.convolved(x_BCT)
    assert torch.equal(kernel_DCT, conv.kernel(9))
    assert torch.equal(y_BDT, conv(x_BCT))
    torch.testing.assert_close(y_BDT, causal_conv(x_BCT, conv.kernel(9), conv.bias))


def test_the_kernel_net_counts_input_channels_fastest(rng: Generator) -> None:
    conv = CKConv(Kernel(hidden_channels=4), 2, 3, rng)
    values_NT = conv.kernel_net(relative_positions(5, like=conv.kernel_net.omega_0))
    for d in range(3):
        for c in range(2):
            assert torch.equal(conv.kernel(5)[d, c], values_NT[d * 2 + c])


def test_the_bias_starts_at_zero_and_can_be_left_out(rng: Generator) -> None:
    with_bias = CKConv(Kernel(), 1, 3, rng)
    assert with_bias.bias is not None
    assert with_bias.bias.tolist() == [0.0, 0.0, 0.0]
    without = CKConv(Kernel(), 1, 3, rng, bias=False)
    assert without.bias is None
    assert "bias" not in without.state_dict()
    assert without(torch.ones(1, 1, 4)).shape == (1, 3, 4)


def test_the_penalty_is_the_norm_of_the_kernel_plus_that_of_the_bias(rng: Generator) -> None:
    conv = CKConv(Kernel(hidden_channels=4), 1, 2, rng)
    assert conv.bias is not None
    with torch.no_grad():
        conv.bias.copy_(torch.tensor([3.0, 4.0]))
    kernel_DCT = conv.kernel(6)
    expected = kernel_DCT.square().sum().sqrt() + 5.0
    torch.testing.assert_close(conv.penalty(kernel_DCT), expected)
    without = CKConv(Kernel(hidden_channels=4), 1, 2, rng, bias=False)
    torch.testing.assert_close(without.penalty(kernel_DCT), expected - 5.0)


def test_the_penalty_of_a_bias_of_zeros_has_a_finite_gradient(rng: Generator) -> None:
    conv = CKConv(Kernel(hidden_channels=4), 1, 2, rng)
    assert conv.bias is not None
    conv.penalty(conv.kernel(6)).backward()
    assert conv.bias.grad is not None
    assert conv.bias.grad.tolist() == [0.0, 0.0]
