"""Every random number of a trial, as a function of its seed and of where the number is used.

Nothing here has a state that must be saved: epoch 7 shuffles, and step 300 drops, what they would
have shuffled and dropped in a run that was never interrupted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ckconv_sweep.training import philox

Stream = Literal["init", "order"]


def generator(seed: int, stream: Stream, *place: int) -> torch.Generator:
    """A generator of its own for one use of randomness, on the CPU so that every device gets the
    same numbers."""
    text = "/".join(map(str, (stream, seed, *place)))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest) >> 1)


class Rates(float):
    """Dropout rates of several trials that are run as one. To the model it is the largest of them,
    which says whether anything is dropped; it comes back with the question for the masks."""

    each: tuple[float, ...]

    def __new__(cls, each: Iterable[float]) -> Rates:
        rates = tuple(each)
        self = super().__new__(cls, max(rates))
        self.each = rates
        return self


class DropoutMasks:
    """Dropout masks of one step of E trials, from a counter-based generator: Philox 4x64-10
    (Salmon et al. 2011), keyed by a trial's seed and the place, counting from its step.

    A rate is rounded to a multiple of 2^-16, so that 16 random bits decide each element; the
    scale of the kept ones is that of the rounded rate.
    """

    def __init__(self, seeds: Sequence[int], steps: Sequence[int], device: torch.device) -> None:
        self._trials = list(zip(seeds, steps, strict=True))
        self._device = device

    def __call__(self, place: int, shape: tuple[int, ...], rate: float) -> Tensor:
        """Factors, `(E, *shape)`: 0 where an element is dropped, else `1 / (1 - rate)`; ones for a
        trial with a rate of 0. `rate` holds one for each trial, or is the same for all."""
        rates = rate.each if isinstance(rate, Rates) else (rate,) * len(self._trials)
        thresholds = [min(round(one * 2**16), 2**16 - 1) for one in rates]
        scales = [1.0 / (1.0 - threshold / 2**16) for threshold in thresholds]
        draw = self._on_host if self._device.type in ("cpu", "meta") else self._on_device
        return draw(place, math.prod(shape), thresholds, scales).view(-1, *shape)

    def _on_host(
        self, place: int, size: int, thresholds: Sequence[int], scales: Sequence[float]
    ) -> Tensor:
        kept = np.ones((len(scales), size), dtype=bool)
        for (seed, step), threshold, row in zip(self._trials, thresholds, kept, strict=True):
            if threshold:
                stream = np.random.Philox(key=[seed, place], counter=[0, 0, step, 0])
                lanes = stream.random_raw((size + 3) // 4).view(np.uint16)[:size]
                np.greater_equal(lanes, threshold, out=row)
        scales_E1 = torch.tensor(scales)[:, None]
        return torch.from_numpy(kept).to(self._device) * scales_E1.to(self._device)

    def _on_device(
        self, place: int, size: int, thresholds: Sequence[int], scales: Sequence[float]
    ) -> Tensor:
        """The same numbers."""
        seeds, steps = zip(*self._trials, strict=True)
        arguments = (
            philox.keys(seeds, place),
            torch.tensor(steps)[:, None],
            torch.arange(1, size // 16 + 2, device=self._device),
            torch.tensor(thresholds)[:, None],
            torch.tensor(scales)[:, None],
        )
        factors = philox.fast_factors(self._device)
        flat_EP: Tensor = factors(*(one.to(self._device, non_blocking=True) for one in arguments))
        return flat_EP[:, :size].contiguous()
