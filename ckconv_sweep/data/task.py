"""What a dataset becomes: splits of equally long sequences, and what is asked of each.

Shapes: N sequences, C channels, T time steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ckconv_sweep.config.data import Description
from ckconv_sweep.data.identity import Identity, identity_of

if TYPE_CHECKING:
    from ckconv_sweep.data.preparation import Preparation

IGNORED = -100
"""A target of `per_step` and `text` that is not scored (PyTorch's own word for it)."""


@dataclass(frozen=True, eq=False)  # eq: comparing tensors with == gives no single answer
class Split:
    """Sequences and what is asked of them, in one order."""

    inputs: Tensor
    """`(N, C, T)`, float32, normalised. For `text` the characters' numbers, `(N, T)`, int64."""
    targets: Tensor
    """`classification`: `(N,)`, int64, from 0 to `outputs - 1`. `per_step` and `text`: the same for
    every step, `(N, T)`, or `IGNORED`. `binary`: `(N,)`, float32, 0 or 1. `regression`: `(N,)`,
    float32."""
    times: Tensor | None = None
    """When each step was, `(N, T)`, float32, rising, in steps of the whole sequence; None where
    steps are equally far apart."""
    rate: float = 1.0
    """Distance of two steps, in steps of the training split."""
    lengths: Tensor | None = None
    """How many steps each sequence has, `(N,)`, int64, at least one; what comes after them is no
    part of it, and 0. None where all have T."""

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Those that it has, by their names here; each has a row a sequence."""
        named = {name: getattr(self, name) for name in ("inputs", "targets", "times", "lengths")}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def to(self, device: torch.device | str) -> Split:
        """The same sequences on a device."""
        return self._with({name: part.to(device) for name, part in self.tensors.items()})

    def some(self, chosen: slice) -> Split:
        """These sequences; no copy is made."""
        return self._with({name: part[chosen] for name, part in self.tensors.items()})

    def _with(self, tensors: dict[str, Any]) -> Split:
        return replace(self, **tensors)

    def sequence(self, number: int) -> Tensor:
        """The input with this number, to its end: `(C, T)`."""
        length = None if self.lengths is None else int(self.lengths[number])
        return self.inputs[number, ..., :length]

    def first(self, number: int) -> Split:
        """The first sequences; no copy is made."""
        return self.some(slice(number))

    def every_nth(self, n: int) -> Split:
        """Sequences that are continuous, sampled more coarsely: every n-th step, the first one
        included."""
        lengths = None if self.lengths is None else (self.lengths + n - 1) // n
        return Split(self.inputs[..., ::n], self.targets, None, self.rate * n, lengths)


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceTask:
    """What a trial sees, train and validation, and a closed door to the test split."""

    description: Description
    train: Split
    validation: Split
    test_reader: Callable[[], Split] = field(repr=False)
    """Reads the test split when called; `read_test` is the way to call it."""
    classes: Sequence[str] = ()
    """The name of each class, by its number; empty: these numbers."""
    preparation: Preparation | None = None
    """How other sequences become what a model sees; None where only the dataset knows."""

    @functools.cached_property
    def identity(self) -> Identity:
        """Which data these are. Reads them once, at a gigabyte a second."""
        return identity_of(self)

    def read_test(self) -> Split:
        """Open the test split: for `confirm` and `evaluate`. No setting may be chosen by it."""
        return self.test_reader()
