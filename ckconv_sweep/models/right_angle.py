"""The transform at a right angle, by which `spectral_convolution` convolves.

A causal convolution needs the products of z-transforms at twice as many frequencies as there are
steps, or the end wraps round to the beginning. Of real sequences half of them are enough: taken at
the n roots of `z^n = -i`,

    z_f = exp(-i (pi / 2 + 2 pi f) / n),    X[f] = sum over t of x[t] z_f^t = FFT(x[t] r[t]),
    r[t] = exp(-i pi t / (2 n)),

what wraps round is multiplied by -i: it becomes imaginary, and the real part is the convolution.
So it takes one complex FFT of the sequence's own length, with no zeros put after it.

Shapes: E members, B batch, C channels in, D channels out, R = B C, T time, n frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from ckconv_sweep.models.members import empty, groups, one_by_one

PIECE_BYTES = 1 << 20
"""Of sequences that are transformed at a time, on a CPU: 1920 of 784 steps to the frequencies take
4.7 ms, all at once 5.8; and no copy of all of them is made in between."""

FACTORS = (2, 3, 5, 7, 11, 13)
"""FFTs of lengths with other prime factors take up to five times as long (797: 11.4 ms, 800: 3.4;
91 = 7 * 13: 0.27, 96: 0.17; 1920 sequences, one thread): such sequences get zeros."""


@lru_cache(maxsize=1024)
def frequencies(time: int) -> int:
    """The number n of frequencies for so many steps: the next with small prime factors."""
    while True:
        rest = time
        for factor in FACTORS:
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return time
        time += 1


@cache  # never forgotten, as a stream or a graph of a GPU may still read it
def rotation(
    first: int, time: int, size: int, dtype: torch.dtype, device: torch.device, conjugate: bool
) -> Tensor:
    """`r[t]` of `time` steps from the one numbered `first` on, or its conjugate: `(T,)`."""
    with torch.inference_mode(False), torch.no_grad():
        steps_T = torch.arange(first, first + time, dtype=torch.float64, device="cpu")
        angle_T = steps_T * ((0.5 if conjugate else -0.5) * math.pi / size)
        return torch.polar(torch.ones_like(angle_T), angle_T).to(device, dtype)


def complex_of(dtype: torch.dtype) -> torch.dtype:
    """Of the same precision."""
    return torch.complex128 if dtype in (torch.float64, torch.complex128) else torch.complex64


def to_frequencies(x: Tensor, size: int, *, first: int = 0, conjugate: bool = False) -> Tensor:
    """`(..., T)`, its first step the one numbered `first`, to the transform `(..., n)` at the
    roots, or at their conjugates."""
    time = x.shape[-1]
    x = x * rotation(first, time, size, complex_of(x.dtype), x.device, conjugate)
    x = functional.pad(x, (first, 0)) if first else x
    spectrum: Tensor = (
        torch.fft.ifft(x, n=size, norm="forward") if conjugate else torch.fft.fft(x, n=size)
    )
    return spectrum


def to_time(spectrum: Tensor, time: int, *, first: int = 0, conjugate: bool = False) -> Tensor:
    """The inverse, `(..., n)` to the real part of `time` steps from the one numbered `first` on:
    `(..., T)`, not contiguous."""
    size = spectrum.shape[-1]
    r_T = rotation(first, time, size, spectrum.dtype, spectrum.device, not conjugate)
    x: Tensor = torch.fft.fft(spectrum, norm="forward") if conjugate else torch.fft.ifft(spectrum)
    if time != size:
        x = x[..., first : first + time]
    return x.mul_(r_T).real


def _pieces(members: int, rows: int, size: int, like: Tensor) -> Iterator[tuple[slice, slice]]:
    """Which members and sequences are transformed at once. On a CPU some of one member: what lies
    between two operations then stays in its cache."""
    piece = PIECE_BYTES // (complex_of(like.dtype).itemsize * size)
    step = max(1, piece) if one_by_one(like) else rows
    for group in groups(members, like, members):
        for first in range(0, rows, step):
            yield group, slice(first, first + step)


def to_matrices(x_EBCT: Tensor, size: int, *, first: int = 0, conjugate: bool = False) -> Tensor:
    """As `to_frequencies`, one matrix a frequency: `(E, n, B, C)`, each member contiguous and
    aligned."""
    members, batch, channels, _ = x_EBCT.shape
    dtype, rows = complex_of(x_EBCT.dtype), batch * channels
    x_ERT = x_EBCT.flatten(1, 2)
    X_EnR = empty(members, size, rows, like=x_EBCT, dtype=dtype)
    for m, r in _pieces(members, rows, size, x_EBCT):
        X_EnR[m, :, r] = to_frequencies(x_ERT[m, r], size, first=first, conjugate=conjugate).mT
    return torch.unflatten(X_EnR, 2, (batch, channels))


def from_matrices(
    Y_EnBD: Tensor,
    time: int,
    bias_ED: Tensor | None = None,
    *,
    first: int = 0,
    conjugate: bool = False,
) -> Tensor:
    """As `to_time`, from one matrix a frequency, plus a bias: `(E, B, D, T)`, contiguous."""
    members, size, batch, channels = Y_EnBD.shape
    Y_EnR, rows = Y_EnBD.flatten(2), batch * channels
    y_ERT = torch.empty((members, rows, time), dtype=Y_EnBD.dtype.to_real(), device=Y_EnBD.device)
    bias_ER1 = None
    if bias_ED is not None:
        bias_ER1 = bias_ED[:, None].expand(-1, batch, -1).reshape(members, rows, 1)
    for m, r in _pieces(members, rows, size, Y_EnBD):
        y = to_time(Y_EnR[m, :, r].mT, time, first=first, conjugate=conjugate)
        if bias_ER1 is None:
            y_ERT[m, r] = y
        else:
            torch.add(y, bias_ER1[m, r], out=y_ERT[m, r])
    return torch.unflatten(y_ERT, 1, (batch, channels))
