"""Sequences of a file as a model's input: checked, prepared, in groups of one length.

Shapes: N sequences, C channels, T time steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ckconv_sweep.config.data import Kind
from ckconv_sweep.data.preparation import Preparation
from ckconv_sweep.data.sequence_files import SequenceFile
from ckconv_sweep.data.task import Split
from ckconv_sweep.errors import ConfigError

PER_STEP = ("per_step", "text")
"""The kinds of task of which every step is answered."""


@dataclass(frozen=True, eq=False)
class Group:
    """Sequences of one length."""

    positions: NDArray[np.int64]
    """Their places in the file, or the split, from 0."""
    split: Split
    """Targets are zeros where there are none."""


@dataclass(frozen=True, eq=False)
class Given:
    """All sequences of a file or a split."""

    groups: Sequence[Group]
    labelled: bool
    """Whether targets are known."""
    notes: Sequence[str] = ()
    """What the reader of the answers should know."""

    def __len__(self) -> int:
        return sum(len(group.split) for group in self.groups)


def of_split(split: Split) -> Given:
    """A split of a dataset."""
    return Given([Group(np.arange(len(split)), split)], labelled=True)


def of_file(
    file: SequenceFile,
    where: str,
    preparation: Preparation,
    kind: Kind,
    classes: Sequence[str],
) -> Given:
    """Sequences that somebody brings.

    Args:
        where: the file's name, for messages.
        preparation: of the data that the model was trained on.
        kind: what is asked of it.
        classes: their names, by number.

    Raises:
        ConfigError: the model cannot take a sequence, or a target is none of its task's.
    """
    targets = None
    if file.targets is not None:
        each = file.of_steps if kind in PER_STEP and file.of_steps is not None else file.targets
        targets = _targets(each, where, kind, classes)
    alike: dict[tuple[int, int], list[int]] = {}
    for n, raw_CT in enumerate(file.series):
        times_T = None if file.times is None else file.times[n]
        preparation.check(raw_CT, times_T, f"{where}: sequence {n}")
        alike.setdefault((raw_CT.shape[1], preparation.seen(raw_CT, times_T)), []).append(n)
    groups = []
    for members in alike.values():
        times_NT = None if file.times is None else np.stack([file.times[n] for n in members])
        raw_NCT = np.stack([file.series[n] for n in members])
        inputs_NCT, times = preparation(raw_NCT, times_NT)
        target = torch.zeros(len(members))
        if targets is not None:
            target = targets[torch.tensor(members)]
            _check_steps(target, inputs_NCT, where, kind)
        groups.append(Group(np.array(members), Split(inputs_NCT, target, times)))
    return Given(groups, labelled=targets is not None, notes=_notes(file, preparation))


def _targets(given: Any, where: str, kind: Kind, classes: Sequence[str]) -> Tensor:
    """As a `Split` has them: `(N,)`, or `(N, T)` where every step is answered."""
    if kind == "regression":
        try:
            values = np.asarray(given, dtype=np.float32)
        except ValueError as error:
            raise ConfigError(f"a target is no number: {error}", where=where) from None
        if values.ndim != 1 or not np.isfinite(values).all():
            raise ConfigError("targets must be one finite number a sequence", where=where)
        return torch.from_numpy(values)
    numbers = {name: number for number, name in enumerate(classes)}
    array = np.asarray(given)
    flat = np.array([_class(one, where, numbers) for one in array.ravel().tolist()])
    found = torch.from_numpy(flat.reshape(array.shape).astype(np.int64))
    return found.float() if kind == "binary" else found


def _class(given: Any, where: str, numbers: Mapping[str, int]) -> int:
    """Its number; `given` is its name, or a number that is one."""
    name = str(int(given)) if isinstance(given, float) and given.is_integer() else str(given)
    if name not in numbers:
        known = list(numbers)
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise ConfigError(f"a target is {name!r}; the model's classes are {shown}", where=where)
    return numbers[name]


def _check_steps(targets: Tensor, inputs_NCT: Tensor, where: str, kind: Kind) -> None:
    per_step = kind in PER_STEP
    wanted = (len(inputs_NCT), inputs_NCT.shape[-1]) if per_step else (len(inputs_NCT),)
    if tuple(targets.shape) != wanted:
        raise ConfigError(
            f"there must be one target a {'step' if per_step else 'sequence'}: an array "
            f"{wanted} expected, got {tuple(targets.shape)}",
            where=where,
        )


def _notes(file: SequenceFile, preparation: Preparation) -> list[str]:
    """What lengths it has, if they are not those of training."""
    lengths = np.array([raw_CT.shape[1] for raw_CT in file.series])
    longer = int((lengths > preparation.length).sum())
    shorter = int((lengths < preparation.length).sum()) * (not preparation.continued)
    if not longer + shorter or preparation.missing == "times":
        return []
    kinds = [f"{n:,} {word}" for n, word in ((longer, "longer"), (shorter, "shorter")) if n]
    return [
        f"of {len(lengths):,} sequences {' and '.join(kinds)} than the {preparation.length:,} "
        "steps of training: the model answers them, but has learnt from none like them"
    ]
