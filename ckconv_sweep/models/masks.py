"""Dropout is handed in: whoever trains decides how the masks are drawn.

The places are numbered along the network: 0 is the dropout of the input, then two for each block;
the kernels have numbers of their own, from a million on.
A model called without masks drops nothing; that is evaluation.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Masks(Protocol):
    def __call__(self, place: int, shape: tuple[int, ...], rate: float) -> Tensor:
        """The factors for one place: 0 with probability `rate`, otherwise `1 / (1 - rate)`.

        Args:
            place: number of the dropout site.
            shape: shape of the factors: `(B, C, T)`, `(B, C, 1)` where whole channels are dropped
                or where only the last step counts, or that of a sampled kernel.
            rate: `0 < rate < 1`; a place with rate 0 is never asked for.

        Returns:
            a tensor of that shape, on the device and in the precision of the model; for several
            members (`members.py`) one of each, `(E, *shape)`, also of ones for a rate of 0.
        """


def dropped(x: Tensor, masks: Masks | None, place: int, rate: float, *, dims: int = 3) -> Tensor:
    """`x` after the dropout at `place`, of the same shape. All but the last `dims` axes are those
    of members."""
    if masks is None or rate == 0.0:
        return x
    return x * masks(place, tuple(x.shape[-dims:]), rate)
