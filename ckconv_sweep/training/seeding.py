"""Every random number of a trial, as a function of its seed and of where the number is used.

Nothing here has a state that must be saved: epoch 7 shuffles, and step 300 drops, what they would
have shuffled and dropped in a run that was never interrupted.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Stream = Literal["init", "order"]


def generator(seed: int, stream: Stream, *place: int) -> torch.Generator:
    """A generator of its own for one use of randomness, on the CPU so that every device gets the
    same numbers."""
    text = "/".join(map(str, (stream, seed, *place)))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest) >> 1)


class DropoutMasks:
    """Dropout masks of one training step, from a counter-based generator: Philox 4x64-10
    (Salmon et al. 2011), keyed by seed and place, counting from the step.

    A rate is rounded to a multiple of 2^-16, so that 16 random bits decide each element; the
    scale of the kept ones is that of the rounded rate.
    """

    def __init__(self, seed: int, step: int, device: torch.device) -> None:
        self.seed = seed
        self.step = step
        self.device = device

    def __call__(self, place: int, shape: tuple[int, ...], rate: float) -> Tensor:
        """Factors of shape `shape`: 0 where an element is dropped, else `1 / (1 - rate)`."""
        size = int(np.prod(shape))
        philox = np.random.Philox(key=[self.seed, place], counter=[0, 0, self.step, 0])
        lanes = philox.random_raw((size + 3) // 4).view(np.uint16)[:size]
        threshold = min(round(rate * 2**16), 2**16 - 1)
        kept = torch.from_numpy(lanes >= threshold).to(self.device)
        return kept.view(shape) * (1.0 / (1.0 - threshold / 2**16))
