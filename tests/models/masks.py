"""Dropout masks for tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class SeededMasks:
    """The same for the same place. Remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[int, ...], float]] = []

    def __call__(self, place: int, shape: tuple[int, ...], rate: float) -> Tensor:
        self.asked.append((place, shape, rate))
        draws = np.random.default_rng(place).random(shape, dtype=np.float32)
        return torch.from_numpy(draws >= rate) / (1.0 - rate)
