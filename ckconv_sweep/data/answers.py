"""What a model answered, as arrays that need no PyTorch.

Shapes: R rows (a sequence, or a step of one), K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckconv_sweep.config.data import Kind


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Rows in the order of the sequences and their steps."""

    kind: Kind
    classes: Sequence[str]
    """Names, by number; empty of a regression."""
    sequences: NDArray[np.int64]
    """`(R,)`: the place of each row's sequence in its file or split, from 0."""
    steps: NDArray[np.int64] | None
    """`(R,)`, from 0; None where a sequence has one answer."""
    values: NDArray[np.float32]
    """`(R, K)`, the probability of each class; `(R,)`, numbers."""
    targets: NDArray[np.float64] | None
    """`(R,)`: a class's number, or a number; None where they are not known."""

    @property
    def chosen(self) -> NDArray[np.int64]:
        """`(R,)`: the number of the most probable class, the first one of equals."""
        numbers: NDArray[np.int64] = self.values.argmax(1)
        return numbers

    @property
    def predicted(self) -> list[str] | list[float]:
        """The name of the most probable class, or the number, of each row."""
        if self.kind == "regression":
            return [float(value) for value in self.values]
        return [self.classes[number] for number in self.chosen]

    @property
    def right(self) -> NDArray[np.bool_]:
        """`(R,)`: whether the target was chosen."""
        assert self.targets is not None
        right: NDArray[np.bool_] = self.chosen == self.targets
        return right
