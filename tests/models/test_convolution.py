from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ckconv_sweep.models.convolution import causal_conv, fft_size


def plain_sum(x_BCT: Tensor, kernel_DCK: Tensor) -> Tensor:
    y_BDT = x_BCT.new_zeros(x_BCT.shape[0], kernel_DCK.shape[0], x_BCT.shape[2])
    for t in range(x_BCT.shape[2]):
        for s in range(min(t + 1, kernel_DCK.shape[2])):
            y_BDT[..., t] += torch.einsum("bc,dc->bd", x_BCT[..., t - s], kernel_DCK[..., s])
    return y_BDT


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("time", [1, 2, 3, 4, 5, 7, 16, 23, 31, 32, 91, 97])
def test_convolution_equals_the_sum_written_out_at_every_length(time: int) -> None:
    x_BCT, kernel_DCT, bias_D = random(2, 3, time), random(4, 3, time, seed=1), random(4, seed=2)
    expected = plain_sum(x_BCT, kernel_DCT) + bias_D[:, None]
    torch.testing.assert_close(
        causal_conv(x_BCT, kernel_DCT, bias_D), expected, rtol=1e-12, atol=1e-12
    )


@settings(deadline=None)
@given(
    batch=st.integers(1, 3),
    channels_in=st.integers(1, 3),
    channels_out=st.integers(1, 3),
    time=st.integers(1, 40),
    kernel_length=st.integers(1, 50),
    seed=st.integers(0, 2**32),
)
def test_convolution_equals_the_sum_for_any_shape_and_a_shorter_or_longer_kernel(
    batch: int, channels_in: int, channels_out: int, time: int, kernel_length: int, seed: int
) -> None:
    x_BCT = random(batch, channels_in, time, seed=seed)
    kernel_DCK = random(channels_out, channels_in, kernel_length, seed=seed + 1)
    y_BDT = causal_conv(x_BCT, kernel_DCK)
    assert y_BDT.shape == (batch, channels_out, time)
    torch.testing.assert_close(y_BDT, plain_sum(x_BCT, kernel_DCK), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("time", [784, 785])
def test_float32_convolution_is_as_exact_as_float32_allows(time: int) -> None:
    x_BCT, kernel_DCT = random(2, 3, time), random(4, 3, time, seed=1)
    y_BDT = causal_conv(x_BCT.float(), kernel_DCT.float())
    assert y_BDT.dtype == torch.float32
    torch.testing.assert_close(y_BDT.double(), causal_conv(x_BCT, kernel_DCT), rtol=1e-5, atol=3e-4)


@pytest.mark.parametrize("time", [12, 13])
def test_the_present_does_not_see_the_future(time: int) -> None:
    x_BCT, kernel_DCT = random(1, 2, time).requires_grad_(), random(3, 2, time, seed=1)
    causal_conv(x_BCT, kernel_DCT)[..., 7].sum().backward()
    assert x_BCT.grad is not None
    assert x_BCT.grad[..., 8:].abs().max() < 1e-12
    assert x_BCT.grad[..., :8].abs().min() > 1e-6


def test_a_pulse_returns_the_kernel_in_lag_order() -> None:
    kernel_DCT = random(2, 1, 9)
    pulse_BCT = torch.zeros(1, 1, 9, dtype=torch.float64)
    pulse_BCT[..., 0] = 1.0
    torch.testing.assert_close(causal_conv(pulse_BCT, kernel_DCT)[0], kernel_DCT[:, 0])


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = [random(2, 2, 5), random(3, 2, 5, seed=1), random(3, seed=2)]
    assert torch.autograd.gradcheck(causal_conv, [x.requires_grad_() for x in inputs])


def test_fft_size_is_the_smallest_even_smooth_number() -> None:
    def smooth(number: int) -> bool:
        return any(
            2**a * 3**b * 5**c * 7**d == number
            for a in range(12)
            for b in range(8)
            for c in range(6)
            for d in range(5)
        )

    good = [number for number in range(2, 600, 2) if smooth(number)]
    for least in range(1, 500):
        assert fft_size(least) == min(number for number in good if number >= least)
    assert fft_size(2 * 784 - 1) == 1568


class LargestStorage(TorchDispatchMode):
    """Bytes of the largest tensor that any operation returns."""

    nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, Tensor):
                self.nbytes = max(self.nbytes, tensor.untyped_storage().nbytes())
        return out


def test_no_tensor_over_batch_and_both_channels_and_frequency_is_made() -> None:
    batch = channels = 24
    time = 50
    x_BCT = random(batch, channels, time).requires_grad_()
    kernel_DCT = random(channels, channels, time, seed=1).requires_grad_()
    with LargestStorage() as largest:
        causal_conv(x_BCT, kernel_DCT).square().sum().backward()
    complex_bytes, frequencies = 16, fft_size(2 * time - 1) // 2 + 1
    spectrum = batch * channels * frequencies * complex_bytes
    assert spectrum <= largest.nbytes <= 2 * spectrum  # and not `channels` times as much
