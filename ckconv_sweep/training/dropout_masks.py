"""Dropout masks from a counter-based generator: Philox 4x64-10 (Salmon et al. 2011), keyed by a
trial's seed and the place of the mask, counting from the trial's step. So no state must be saved.

A rate is rounded to a multiple of 2^-16, so that 16 random bits decide each element; the scale of
the kept ones is that of the rounded rate.

Shapes: E trials.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ckconv_sweep.training import philox
from ckconv_sweep.training.seeding import Rates


def dropout_masks(seeds: Sequence[int], steps: Sequence[int], device: torch.device) -> DropoutMasks:
    """Those of E trials with these seeds, beginning with these steps, which count from 0."""
    made = HostMasks if device.type in ("cpu", "meta") else DeviceMasks
    return made(seeds, steps, device)


class DropoutMasks(ABC):
    """The masks of one step after another. The rates of a place stay the same."""

    def __init__(self, seeds: Sequence[int], steps: Sequence[int], device: torch.device) -> None:
        self._seeds, self._device = list(seeds), device
        self._steps_E1 = torch.tensor(steps)[:, None].to(device)
        self.state = [self._steps_E1]
        """What `next_step` changes on the device."""

    def begin(self, steps: Sequence[int]) -> None:
        """From now on they are those of these steps."""
        self._steps_E1.copy_(torch.tensor(steps)[:, None])

    def next_step(self) -> None:
        """From now on they are those of the next step of each trial."""
        self._steps_E1.add_(1)

    def __call__(self, place: int, shape: tuple[int, ...], rate: float) -> Tensor:
        """Factors, `(E, *shape)`: 0 where an element is dropped, else `1 / (1 - rate)`; ones for a
        trial with a rate of 0. `rate` holds one for each trial, or is the same for all."""
        rates = rate.each if isinstance(rate, Rates) else (rate,) * len(self._seeds)
        thresholds = [min(round(one * 2**16), 2**16 - 1) for one in rates]
        scales = [1.0 / (1.0 - threshold / 2**16) for threshold in thresholds]
        return self._flat(place, math.prod(shape), thresholds, scales).view(-1, *shape)

    @abstractmethod
    def _flat(
        self, place: int, size: int, thresholds: Sequence[int], scales: Sequence[float]
    ) -> Tensor:
        """`(E, size)`"""


class HostMasks(DropoutMasks):
    """Drawn by NumPy, in an operation of PyTorch, so that a recorded step draws too."""

    def _flat(
        self, place: int, size: int, thresholds: Sequence[int], scales: Sequence[float]
    ) -> Tensor:
        kept_EP = torch.empty(len(scales), size, dtype=torch.bool, device=self._device)
        _OPERATIONS.draw_(kept_EP, self._steps_E1, self._seeds, place, thresholds)
        return kept_EP * torch.tensor(scales)[:, None].to(self._device)


def _draw(
    kept_EP: Tensor, steps_E1: Tensor, seeds: list[int], place: int, thresholds: list[int]
) -> None:
    """Which values are kept."""
    steps = steps_E1[:, 0].tolist()
    for kept, step, seed, threshold in zip(kept_EP.numpy(), steps, seeds, thresholds, strict=True):
        kept[:] = True
        if threshold:
            stream = np.random.Philox(key=[seed, place], counter=[0, 0, step, 0])
            lanes = stream.random_raw((len(kept) + 3) // 4).view(np.uint16)[: len(kept)]
            np.greater_equal(lanes, threshold, out=kept)


_LIBRARY: Any = torch.library.Library("ckconv_sweep", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("draw_(Tensor(a!) kept, Tensor steps, int[] seeds, int place, int[] cuts) -> ()")
_LIBRARY.impl("draw_", _draw, "CPU")
_LIBRARY.impl("draw_", lambda *_: None, "Meta")
_OPERATIONS = torch.ops.ckconv_sweep


class DeviceMasks(DropoutMasks):
    """The same numbers, drawn on the device. Once a place has been asked for, all that its masks
    follow from lies there, the number of the step too."""

    def __init__(self, seeds: Sequence[int], steps: Sequence[int], device: torch.device) -> None:
        super().__init__(seeds, steps, device)
        self._places: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def _flat(
        self, place: int, size: int, thresholds: Sequence[int], scales: Sequence[float]
    ) -> Tensor:
        if place not in self._places:
            self._places[place] = (
                philox.keys(self._seeds, place).to(self._device),
                torch.tensor(thresholds)[:, None].to(self._device),
                torch.tensor(scales)[:, None].to(self._device),
            )
        keys, thresholds_E1, scales_E1 = self._places[place]
        blocks_N = torch.arange(1, size // 16 + 2, device=self._device)
        factors = philox.fast_factors(self._device)
        flat_EP: Tensor = factors(keys, self._steps_E1, blocks_N, thresholds_E1, scales_E1)
        return flat_EP[:, :size].contiguous()
