"""Where a kernel is sampled: number of steps and sampling rate in, relative positions out.

Romero et al. 2022 (CKConv, arXiv:2102.02611), sec. 4 and, for other rates than that of training,
app. D.2; details as in the published code. A kernel spans the positions from -1, the oldest step of
a training sequence, to +1, the present. A centred kernel, which the published code does not have,
spans them too: the present is 0 and what is ahead is positive.

Lags, times and rates are in steps of the training sequences: where every second step is left the
rate is 2.

Shapes: K samples of the kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

SMOOTHING_DEVIATION = 0.5
"""Of the Gaussian in `smoothed`, in samples."""

ROUNDING = 1e-6
"""By how many steps a count or a lag may be wrong because a ratio or a time was rounded."""


@dataclass(frozen=True)
class Span:
    """What a kernel reaches over."""

    training_length: int
    """Steps of a training sequence, T."""
    causal: bool

    @property
    def steps(self) -> int:
        """The largest lag: T - 1 steps back, or T // 2 steps back and ahead."""
        return self.training_length - 1 if self.causal else self.training_length // 2

    @property
    def step(self) -> float:
        """How far apart in position two steps are; with a single step, anything."""
        return (2.0 if self.causal else 1.0) / max(1, self.steps)

    def sampled(self, length: int, rate: float, like: Tensor) -> Tensor:
        """The positions of a kernel for sequences of that length, in lag order.

        Causal, the first of them is the present. At the rate of training it is at +1, and the
        kernel is as long as a training sequence at most. At another rate the samples are laid so
        that the oldest is at -1, because that is where two samplings of one sequence share a step;
        the present can then be up to a sample off +1 (as published, where the length is given by
        the rate).

        Centred, the present is in the middle, at 0, and the first is the one furthest ahead.

        Args:
            length: steps of the sequences; the kernel reaches no further.
            rate: distance of two of their steps.
            like: gives device and precision.

        Returns:
            `(K,)`
        """
        return _sampled(self, length, rate, like.dtype, like.device)

    def at_lags(self, lags: Tensor) -> tuple[Tensor, Tensor]:
        """The positions of lags of any size, and whether the kernel reaches so far.

        Positions that it does not reach are moved to its nearest end. Both have the shape of
        `lags`; lags ahead are negative.
        """
        ahead = 0 if self.causal else self.steps
        reached = (lags >= -ahead - ROUNDING) & (lags <= self.steps + ROUNDING)
        present = 1.0 if self.causal else 0.0
        return (present - self.step * lags).clamp(-1.0, 1.0), reached


@cache  # as of `right_angle.rotation`
@torch.inference_mode(mode=False)
def _sampled(
    span: Span, length: int, rate: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    if not span.causal:
        reach = min(math.floor(span.steps / rate + ROUNDING), length - 1)
        lags_K = torch.arange(-reach, reach + 1, device=device, dtype=dtype)
        return lags_K * (-rate * span.step)
    if span.steps == 0:
        return torch.ones(1, device=device, dtype=dtype)
    oldest = span.steps / rate
    if rate < 1.0:
        # A sequence of T steps sampled n times as finely has n T steps, not n (T - 1) + 1: some
        # come after the last step of training.
        oldest += math.fmod(length - 1 + ROUNDING, 1.0 / rate)
    samples = math.floor(oldest + ROUNDING)
    present = 2.0 * samples * rate / span.steps - 1.0
    positions_K = torch.linspace(present, -1.0, samples + 1, device=device, dtype=dtype)
    return positions_K[:length]


def smoothed(kernel: Tensor, rate: float) -> Tensor:
    """The kernel for a sampling rate other than that of training, of the same shape `(..., K)`.

    Where steps are closer together than in training (rate < 1) the kernel was never trained between
    them: it is smoothed by a Gaussian of 2 int(1 / rate) + 1 samples, whose values do not quite add
    up to 1 (1.014), and int(1 / rate) samples at each end are left as they are; all as published.
    Then the kernel is multiplied by the rate, as there are that many fewer or more steps to sum.
    """
    if rate == 1.0:
        return kernel
    if rate < 1.0:
        half = math.floor(1.0 / rate + ROUNDING)
        if kernel.shape[-1] > 2 * half:
            offsets = torch.arange(-half, half + 1, device=kernel.device, dtype=kernel.dtype)
            weights = torch.exp(-0.5 * (offsets / SMOOTHING_DEVIATION).square())
            weights = weights / (SMOOTHING_DEVIATION * math.sqrt(2.0 * math.pi))
            rows = kernel.reshape(-1, 1, kernel.shape[-1])
            middle = functional.conv1d(rows, weights[None, None]).reshape(*kernel.shape[:-1], -1)
            kernel = torch.cat([kernel[..., :half], middle, kernel[..., -half:]], dim=-1)
    return kernel * rate
