"""Convolutions with kernels up to as long as the sequence: sequence and kernel in, sequence out.

Romero et al. 2022 (CKConv, arXiv:2102.02611) convolve by FFT with a causal, dense kernel (every
output channel sees every input channel). A centred kernel sees the future too. A depthwise kernel
keeps each channel to itself: with a linear map among channels after it, it is the separable
convolution of Romero et al. 2022 (CCNN, arXiv:2206.03398).

All take the axis of members (`members.py`) in front.

Shapes: B batch, C channels in, D channels out, T time, K kernel length, F frequencies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from ckconv_sweep.models.members import applied, each, in_front, one_by_one, product
from ckconv_sweep.models.precision import now

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


def causal_conv(x_BCT: Tensor, kernel: Tensor) -> Tensor:
    """Convolve so that the output at time t sees inputs at times <= t only.

    `y[b, d, t] = sum over c and s <= t of kernel[d, c, s] * x[b, c, t - s]`

    Args:
        x_BCT: input, `(B, C, T)`, float32 or float64; zero before its first step.
        kernel: kernel in lag order, `(D, C, K)`, or `(C, K)` where it is depthwise; index 0 weighs
            the present. What reaches back further than the input is not used.

    Returns:
        `(B, D, T)`; D is C where the kernel is depthwise.
    """
    return _conv(x_BCT, kernel[..., : x_BCT.shape[-1]], ahead=0)


def centred_conv(x_BCT: Tensor, kernel: Tensor) -> Tensor:
    """Convolve so that the output at time t sees the inputs on both sides of it.

    `y[b, d, t] = sum over c and s in [-h, h] of kernel[d, c, h + s] * x[b, c, t - s]`

    Args:
        x_BCT: input, `(B, C, T)`, float32 or float64; zero outside its steps.
        kernel: kernel of K = 2h + 1 lags from -h, the future, to h, the past, `(D, C, K)`, or
            `(C, K)` where it is depthwise. What reaches further than the input is not used.

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
    return _conv(x_BCT, kernel[..., unused : length - unused], ahead)


def legacy_odd_fft(x_BCT: Tensor, kernel_DCK: Tensor) -> Tensor:
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
        return causal_conv(x_BCT, kernel_DCK)
    y_BDF = _dense_product(torch.fft.rfft(x_BCT, n=size), torch.fft.rfft(kernel_DCK, n=size))
    y_BDT: Tensor = torch.fft.irfft(y_BDF, n=size - 1)[..., :time]
    return y_BDT


def _conv(x_BCT: Tensor, kernel: Tensor, ahead: int) -> Tensor:
    """The kernel's first `ahead` lags are in the future; it reaches no further than the input."""
    time, length = x_BCT.shape[-1], kernel.shape[-1]
    depthwise = kernel.dim() < x_BCT.dim()
    if length < DIRECT_BELOW:
        padded_BCT = functional.pad(x_BCT, (length - 1 - ahead, ahead))
        weight = (kernel.unsqueeze(-2) if depthwise else kernel).flip(-1)
        groups = kernel.shape[-2] if depthwise else 1
        return conv1d(padded_BCT, weight, groups=groups)
    # Room for every lag of every step that is kept: a shorter FFT would wrap the end round to the
    # beginning. The `ahead` sums before the first step are not kept, so that they may be wrong.
    size = fft_size(time + length - 1 - ahead)
    spectra = torch.fft.rfft(x_BCT, n=size), torch.fft.rfft(kernel, n=size)
    y_BDF = depthwise_product(*spectra) if depthwise else _dense_product(*spectra)
    # The size must be said: without it an odd length comes back as another, and wrong.
    y_BDT: Tensor = torch.fft.irfft(y_BDF, n=size)[..., ahead : ahead + time]
    return y_BDT


def _dense_product(x_BCF: Tensor, kernel_DCF: Tensor) -> Tensor:
    """Spectra `(B, C, F)` and `(D, C, F)` to that of the output, `(B, D, F)`."""
    # One small matrix product per frequency: no (B, D, C, F) tensor is ever made. Laying out the
    # factors anew takes 15 to 20 % off a training step, against einsum (98K network, one thread).
    x_FBC = x_BCF.movedim(-1, -3).contiguous()
    kernel_FCD = kernel_DCF.movedim(-1, -3).mT.contiguous()
    # Contiguous, because an inverse real FFT of other memory rounds otherwise among other members.
    y_FBD = product(x_FBC, kernel_FCD, a_dims=3, b_dims=3, precision=now())
    return y_FBD.movedim(-3, -1).contiguous()


def depthwise_product(x_BCF: Tensor, kernel_CF: Tensor) -> Tensor:
    """Spectra `(B, C, F)` and `(C, F)` to that of the output, `(B, C, F)`."""
    kernel_1CF = kernel_CF.unsqueeze(-3)
    if x_BCF.dim() == 3 or not one_by_one(x_BCF):
        return x_BCF * kernel_1CF
    return torch.stack([x * kernel for x, kernel in zip(x_BCF, kernel_1CF, strict=True)])


class _Conv1d(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: int, groups: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation, ctx.groups = dilation, groups

        def conv(x_EBCT: Tensor, weight_E: Tensor) -> Tensor:
            members = len(x_EBCT)
            y_BDT = functional.conv1d(
                _as_channels(x_EBCT), weight_E.flatten(0, 1), None, 1, 0, dilation, groups * members
            )
            return _as_members(y_BDT, members)

        y_EBDT = each(conv, in_front(x, 3), in_front(weight, 3))
        return y_EBDT.reshape(*x.shape[:-2], *y_EBDT.shape[-2:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        tensors = in_front(grad, 3), in_front(x, 3), in_front(weight, 3)

        def gradient(of_x: bool) -> Callable[..., Tensor]:
            def operation(grad_EBDT: Tensor, x_EBCT: Tensor, weight_E: Tensor) -> Tensor:
                members = len(x_EBCT)
                dx, dweight, _ = torch.ops.aten.convolution_backward(
                    _as_channels(grad_EBDT),
                    _as_channels(x_EBCT),
                    weight_E.flatten(0, 1),
                    None,
                    [1],
                    [0],
                    [ctx.dilation],
                    False,
                    [0],
                    ctx.groups * members,
                    [of_x, not of_x, False],
                )
                if of_x:
                    return _as_members(dx, members)
                of_weight: Tensor = dweight.view(weight_E.shape)
                return of_weight

            return operation

        dx = each(gradient(True), *tensors).reshape(x.shape) if ctx.needs_input_grad[0] else None
        return dx, each(gradient(False), *tensors).reshape(weight.shape), None, None


def _as_channels(x_EBCT: Tensor) -> Tensor:
    """Members as groups of channels, `(B, E C, T)`."""
    return x_EBCT.transpose(0, 1).flatten(1, 2)


def _as_members(x_BCT: Tensor, members: int) -> Tensor:
    return torch.unflatten(x_BCT, 1, (members, -1)).transpose(0, 1)


def conv1d(x_BCT: Tensor, weight: Tensor, *, dilation: int = 1, groups: int = 1) -> Tensor:
    """`torch.nn.functional.conv1d`."""
    return applied(_Conv1d, x_BCT, weight, dilation, groups)
