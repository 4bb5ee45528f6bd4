"""What a data set becomes: splits of equally long sequences, one class each.

Shapes: N sequences, C channels, T time steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known of a data set before it is read: enough to count a model's parameters."""

    name: str
    in_channels: int
    length: int
    """Time steps in every sequence."""
    classes: int
    kind: Literal["classification"] = "classification"
    """Loss: cross-entropy. Metric: accuracy."""


@dataclass(frozen=True, eq=False)  # eq: comparing tensors with == gives no single answer
class Split:
    """Sequences and their classes, in one order."""

    inputs: Tensor
    """`(N, C, T)`, float32, normalised."""
    targets: Tensor
    """`(N,)`, int64, from 0 to `classes - 1`."""

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device | str) -> Split:
        """The same sequences on a device."""
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceTask:
    """What a trial sees, train and validation, and a closed door to the test split."""

    description: Description
    train: Split
    validation: Split
    test_reader: Callable[[], Split] = field(repr=False)
    """Reads the test split when called; `read_test` is the way to call it."""

    def read_test(self) -> Split:
        """Open the test split: for `confirm` and `evaluate`. No setting may be chosen by it."""
        return self.test_reader()
