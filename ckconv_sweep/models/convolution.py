"""Convolutions with kernels up to as long as the sequence: sequence and kernel in, sequence out.

Romero et al. 2022 (CKConv, arXiv:2102.02611) convolve by FFT with a causal, dense kernel (every
output channel sees every input channel). A centred kernel sees the future too. A depthwise kernel
keeps each channel to itself: with a linear map among channels after it, it is the separable
convolution of Romero et al. 2022 (CCNN, arXiv:2206.03398).

Shapes: B batch, C channels in, D channels out, T time, K kernel length, F frequencies.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

DIRECT_BELOW = 16
"""Kernels shorter than this are convolved directly, others by FFT.

Forward and backward, ms, direct / FFT, one thread of an AMD EPYC (Zen 5), torch 2.13, float32:

    dense, kernel as long as input     K = 8          12           16           24           32
      30 channels, batch 64        0.30 / 0.46  0.45 / 0.66  1.08 / 0.76  2.11 / 1.15  3.47 / 1.36
      100 channels, batch 32       1.03 / 1.40  1.89 / 2.26  3.59 / 2.75  7.82 / 4.63  13.0 / 5.80
    30 channels, batch 64, T = 784     K = 8          16           32
      dense                        14.0 / 25.0  30.2 / 24.6  78.2 / 27.4
      depthwise                    8.53 / 10.7  12.9 / 11.2  20.7 / 12.0

Only a depthwise kernel as long as its input is faster by FFT below that too, from 2 steps on: by
0.05 to 0.4 ms.
"""


@cache
def fft_size(least: int) -> int:
    """The smallest even number >= `least` with no prime factor above 7: FFTs like these."""
    size = max(2, least + least % 2)
    while not _is_smooth(size):
        size += 2
    return size


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number == 1


def causal_conv(x_BCT: Tensor, kernel: Tensor, bias_D: Tensor | None = None) -> Tensor:
    """Convolve so that the output at time t sees inputs at times <= t only.

    `y[b, d, t] = bias[d] + sum over c and s <= t of kernel[d, c, s] * x[b, c, t - s]`

    Args:
        x_BCT: input, `(B, C, T)`, float32 or float64; zero before its first step.
        kernel: kernel in lag order, `(D, C, K)`, or `(C, K)` where it is depthwise; index 0 weighs
            the present. What reaches back further than the input is not used.
        bias_D: added to each output channel, `(D,)`.

    Returns:
        `(B, D, T)`; D is C where the kernel is depthwise.
    """
    return _conv(x_BCT, kernel[..., : x_BCT.shape[-1]], bias_D, ahead=0)


def centred_conv(x_BCT: Tensor, kernel: Tensor, bias_D: Tensor | None = None) -> Tensor:
    """Convolve so that the output at time t sees the inputs on both sides of it.

    `y[b, d, t] = bias[d] + sum over c and s in [-h, h] of kernel[d, c, h + s] * x[b, c, t - s]`

    Args:
        x_BCT: input, `(B, C, T)`, float32 or float64; zero outside its steps.
        kernel: kernel of K = 2h + 1 lags from -h, the future, to h, the past, `(D, C, K)`, or
            `(C, K)` where it is depthwise. What reaches further than the input is not used.
        bias_D: added to each output channel, `(D,)`.

    Returns:
        `(B, D, T)`; D is C where the kernel is depthwise.

    Raises:
        ValueError: K is even, so that no lag is in the middle.
    """
    length = kernel.shape[-1]
    if length % 2 == 0:
        raise ValueError(f"a centred kernel must have an odd length, got {length}")
    ahead = min(length // 2, x_BCT.shape[-1] - 1)
    unused = length // 2 - ahead
    return _conv(x_BCT, kernel[..., unused : length - unused], bias_D, ahead)


def legacy_odd_fft(x_BCT: Tensor, kernel_DCK: Tensor, bias_D: Tensor | None = None) -> Tensor:
    """`causal_conv` with the fault of the published code: wrong where T is odd.

    It inverts the spectrum of an odd number of steps as if there were one step less: its inverse
    FFT is not told the size. Weights trained so need it (docs/decisions.md). Where T is even, and
    where the kernel is a single value (the published code fails there), this is `causal_conv`.

    Args, Returns: as of `causal_conv`, for a dense kernel.
    """
    time = x_BCT.shape[-1]
    kernel_DCK = kernel_DCK[..., :time]
    length = kernel_DCK.shape[-1]
    # The published code makes the length of the kernel odd by a zero and pads the input with the
    # steps before its first that such a kernel reaches.
    size = time + length - length % 2
    if size % 2 == 0 or length == 1:
        return causal_conv(x_BCT, kernel_DCK, bias_D)
    y_BDF = _product(torch.fft.rfft(x_BCT, n=size), torch.fft.rfft(kernel_DCK, n=size))
    y_BDT: Tensor = torch.fft.irfft(y_BDF, n=size - 1)[..., :time]
    return y_BDT if bias_D is None else y_BDT + bias_D[:, None]


def _conv(x_BCT: Tensor, kernel: Tensor, bias_D: Tensor | None, ahead: int) -> Tensor:
    """The kernel's first `ahead` lags are in the future; it reaches no further than the input."""
    time, length = x_BCT.shape[-1], kernel.shape[-1]
    if length < DIRECT_BELOW:
        padded_BCT = functional.pad(x_BCT, (length - 1 - ahead, ahead))
        depthwise = kernel.dim() == 2
        weight = (kernel[:, None] if depthwise else kernel).flip(-1)
        return functional.conv1d(
            padded_BCT, weight, bias_D, groups=kernel.shape[0] if depthwise else 1
        )
    # Room for every lag of every step that is kept: a shorter FFT would wrap the end round to the
    # beginning. The `ahead` sums before the first step are not kept, so that they may be wrong.
    size = fft_size(time + length - 1 - ahead)
    y_BDF = _product(torch.fft.rfft(x_BCT, n=size), torch.fft.rfft(kernel, n=size))
    # The size must be said: without it an odd length comes back as another, and wrong.
    y_BDT: Tensor = torch.fft.irfft(y_BDF, n=size)[..., ahead : ahead + time]
    return y_BDT if bias_D is None else y_BDT + bias_D[:, None]


def _product(x_BCF: Tensor, kernel: Tensor) -> Tensor:
    """Spectra `(B, C, F)` and `(D, C, F)`, or `(C, F)`, to that of the output, `(B, D, F)`."""
    if kernel.dim() == 2:
        return x_BCF * kernel
    # One small matrix product per frequency: no (B, D, C, F) tensor is ever made. Laying out the
    # factors anew takes 15 to 20 % off a training step, against einsum (98K network, one thread).
    x_FBC = x_BCF.permute(2, 0, 1).contiguous()
    kernel_FCD = kernel.permute(2, 1, 0).contiguous()
    return torch.bmm(x_FBC, kernel_FCD).permute(1, 2, 0)
