from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ckconv_sweep.models.convolution import (
    DIRECT_BELOW,
    causal_conv,
    centred_conv,
    fft_size,
    legacy_odd_fft,
)

from .largest import Largest

LENGTHS = [1, 2, 3, 4, 5, 7, DIRECT_BELOW - 1, DIRECT_BELOW, 23, 31, 32, 91, 97, 161]
"""Odd and even, convolved directly and by FFT."""


def plain_sum(x_BCT: Tensor, kernel: Tensor, first_lag: int = 0) -> Tensor:
    dense = kernel.dim() == 3
    y_BDT = x_BCT.new_zeros(x_BCT.shape[0], kernel.shape[0], x_BCT.shape[2])
    for t in range(x_BCT.shape[2]):
        for k in range(kernel.shape[-1]):
            if 0 <= (s := t - first_lag - k) < x_BCT.shape[2]:
                spec = "bc,dc->bd" if dense else "bc,c->bc"
                y_BDT[..., t] += torch.einsum(spec, x_BCT[..., s], kernel[..., k])
    return y_BDT


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_same(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("channels", [(4, 3), (3,)], ids=["dense", "depthwise"])
@pytest.mark.parametrize("time", LENGTHS)
def test_convolution_equals_the_sum_written_out_at_every_length(
    time: int, channels: tuple[int, ...]
) -> None:
    x_BCT, kernel = random(2, 3, time), random(*channels, time, seed=1)
    expected_BDT = plain_sum(x_BCT, kernel)
    assert_same(causal_conv(x_BCT, kernel), expected_BDT)


@pytest.mark.parametrize("channels", [(4, 3), (3,)], ids=["dense", "depthwise"])
@pytest.mark.parametrize("time", LENGTHS)
def test_centred_convolution_equals_the_sum_written_out_at_every_length(
    time: int, channels: tuple[int, ...]
) -> None:
    x_BCT = random(2, 3, time)
    for half in sorted({0, 1, time // 2, time}):
        kernel = random(*channels, 2 * half + 1, seed=1)
        expected_BDT = plain_sum(x_BCT, kernel, first_lag=-half)
        assert_same(centred_conv(x_BCT, kernel), expected_BDT)


def test_a_centred_kernel_has_a_middle() -> None:
    with pytest.raises(ValueError, match="must have an odd length, got 4"):
        centred_conv(random(1, 1, 5), random(1, 1, 4))


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
    assert_same(y_BDT, plain_sum(x_BCT, kernel_DCK))
    odd_DCK = kernel_DCK[..., : kernel_length - (kernel_length + 1) % 2]
    if odd_DCK.shape[-1]:
        half = odd_DCK.shape[-1] // 2
        assert_same(centred_conv(x_BCT, odd_DCK), plain_sum(x_BCT, odd_DCK, first_lag=-half))


@pytest.mark.parametrize("time", [784, 785])
def test_float32_convolution_is_as_exact_as_float32_allows(time: int) -> None:
    x_BCT, kernel_DCT = random(2, 3, time), random(4, 3, time, seed=1)
    y_BDT = causal_conv(x_BCT.float(), kernel_DCT.float())
    assert y_BDT.dtype == torch.float32
    torch.testing.assert_close(y_BDT.double(), causal_conv(x_BCT, kernel_DCT), rtol=1e-5, atol=3e-4)


@pytest.mark.parametrize("time", [12, 13, 40, 41])
def test_the_present_does_not_see_the_future(time: int) -> None:
    x_BCT, kernel_DCT = random(1, 2, time).requires_grad_(), random(3, 2, time, seed=1)
    causal_conv(x_BCT, kernel_DCT)[..., 7].sum().backward()
    assert x_BCT.grad is not None
    assert x_BCT.grad[..., 8:].abs().max() < 1e-12
    assert x_BCT.grad[..., :8].abs().min() > 1e-6


@pytest.mark.parametrize("length", [5, 21])
def test_a_centred_kernel_sees_as_far_ahead_as_back(length: int) -> None:
    x_BCT, kernel_DCK = random(1, 2, 41).requires_grad_(), random(3, 2, length, seed=1)
    centred_conv(x_BCT, kernel_DCK)[..., 20].sum().backward()
    assert x_BCT.grad is not None
    seen = x_BCT.grad[0].abs().amin(0) > 1e-6
    assert seen.nonzero().flatten().tolist() == list(range(20 - length // 2, 21 + length // 2))


@pytest.mark.parametrize("time", [9, 40])
def test_a_pulse_returns_the_kernel_in_lag_order(time: int) -> None:
    kernel_DCT = random(2, 1, time)
    pulse_BCT = torch.zeros(1, 1, time, dtype=torch.float64)
    pulse_BCT[..., 0] = 1.0
    assert_same(causal_conv(pulse_BCT, kernel_DCT)[0], kernel_DCT[:, 0])


@pytest.mark.parametrize("channels", [(3, 2), (2,)], ids=["dense", "depthwise"])
@pytest.mark.parametrize("conv", [causal_conv, centred_conv])
@pytest.mark.parametrize("length", [5, DIRECT_BELOW + 1])
def test_gradients_are_those_of_finite_differences(
    length: int, conv: Callable[..., Tensor], channels: tuple[int, ...]
) -> None:
    inputs = [random(1, 2, length), random(*channels, length, seed=1)]
    assert torch.autograd.gradcheck(conv, [x.requires_grad_() for x in inputs])


def test_many_convolutions_at_once_are_each_by_itself() -> None:
    for length in (5, 21):
        for channels in ((2, 3), (3,)):
            x_EBCT, kernel_E = random(4, 2, 3, length), random(4, *channels, length, seed=1)
            for conv in (causal_conv, centred_conv):
                together = conv(x_EBCT, kernel_E)
                for number in range(4):
                    assert_same(together[number], conv(x_EBCT[number], kernel_E[number]))


@pytest.mark.parametrize(
    ("time", "error"), [(3, 0.37), (23, 0.63), (31, 0.60), (91, 0.63), (161, 0.60)]
)
def test_the_published_convolution_is_wrong_by_this_share_at_odd_lengths(
    time: int, error: float
) -> None:
    x_BCT, kernel_DCT, bias_D = random(4, 3, time), random(5, 3, time, seed=1), random(5, seed=2)
    right_BDT = plain_sum(x_BCT, kernel_DCT) + bias_D[:, None]
    published_BDT = legacy_odd_fft(x_BCT, kernel_DCT) + bias_D[:, None]
    assert published_BDT.shape == right_BDT.shape
    share = ((published_BDT - right_BDT).norm() / right_BDT.norm()).item()
    assert share == pytest.approx(error, abs=0.01)


@pytest.mark.parametrize("time", [1, 2, 4, 32, 182])
def test_the_published_convolution_is_right_at_even_lengths_and_for_a_single_step(
    time: int,
) -> None:
    x_BCT, kernel_DCT = random(2, 3, time), random(5, 3, time, seed=1)
    expected_BDT = plain_sum(x_BCT, kernel_DCT)
    assert_same(legacy_odd_fft(x_BCT, kernel_DCT), expected_BDT)


@pytest.mark.parametrize(("time", "length"), [(31, 31), (31, 8), (31, 7), (32, 8), (33, 40)])
def test_the_published_convolution_is_the_published_one(time: int, length: int) -> None:
    x_BCT, kernel_DCK = random(2, 3, time), random(5, 3, length, seed=1)
    # Its steps, one by one: the kernel from the oldest step, its length made odd, the input padded,
    # correlated by an inverse FFT of unsaid size.
    old_first_DCK = kernel_DCK[..., :time].flip(-1)
    if old_first_DCK.shape[-1] % 2 == 0:
        old_first_DCK = torch.nn.functional.pad(old_first_DCK, (1, 0))
    padded_BCT = torch.nn.functional.pad(x_BCT, (old_first_DCK.shape[-1] - 1, 0))
    x_BCF = torch.fft.rfft(padded_BCT)
    kernel_DCF = torch.fft.rfft(old_first_DCK, n=padded_BCT.shape[-1])
    y_BDT = torch.fft.irfft(torch.einsum("bcf,dcf->bdf", x_BCF, kernel_DCF.conj()))[..., :time]
    assert_same(legacy_odd_fft(x_BCT, kernel_DCK), y_BDT)


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


def test_no_tensor_over_batch_and_both_channels_and_frequency_is_made() -> None:
    batch = channels = 24
    time = 50
    x_BCT = random(batch, channels, time).requires_grad_()
    kernel_DCT = random(channels, channels, time, seed=1).requires_grad_()
    with Largest() as largest:
        causal_conv(x_BCT, kernel_DCT).square().sum().backward()
    complex_bytes, frequencies = 16, fft_size(2 * time - 1) // 2 + 1
    spectrum = batch * channels * frequencies * complex_bytes
    assert spectrum <= largest.nbytes <= 2 * spectrum  # and not `channels` times as much
