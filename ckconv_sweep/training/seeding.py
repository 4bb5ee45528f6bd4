"""Every random number of a trial, as a function of its seed and of where the number is used.

Nothing here has a state that must be saved: epoch 7 shuffles, and step 300 drops, what they would
have shuffled and dropped in a run that was never interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import torch

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
