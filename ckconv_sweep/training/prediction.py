"""What a model answers, sequence by sequence: as it is computed to be scored, and kept.

Shapes: B sequences, K outputs, T time steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ckconv_sweep.config.data import Kind
from ckconv_sweep.config.metrics import scored_by
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.answers import Answers
from ckconv_sweep.data.given import PER_STEP, Given
from ckconv_sweep.data.task import IGNORED, Split
from ckconv_sweep.errors import OutOfMemory
from ckconv_sweep.models.precision import products_in
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training.batches import same_for_all
from ckconv_sweep.training.evaluation import batch_size
from ckconv_sweep.training.objectives import OBJECTIVES, Tally
from ckconv_sweep.training.room import out_of_memory_named
from ckconv_sweep.training.vectorized import Vectorized


@contextmanager
def as_trained(trial: Trial) -> Iterator[None]:
    """Within it products have the precision, and PyTorch the threads, of the trial: the same
    numbers again on the same CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(trial.training.threads)
    try:
        with products_in(trial.training.precision):
            yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def answers(
    model: SequenceModel, split: Split, say: Callable[[str], None] = lambda message: None
) -> Tensor:
    """All answers to a split, on the CPU: `(B,)`, `(B, K)` or `(B, K, T)`. A batch for which there
    is no room is split in two, and so are those after it.

    Args:
        model: on its device. The split may lie elsewhere.
        say: hears that batches become smaller.

    Raises:
        OutOfMemory: there is no room for one sequence.
    """
    vectorized, done, parts = Vectorized.of(model), 0, list[Tensor]()
    device, size = next(model.parameters()).device, batch_size(split)
    while done < len(split):
        chosen, room = slice(done, done + size), True
        try:
            with out_of_memory_named():
                inputs, _, sampling = same_for_all(split.some(chosen).to(device), slice(None), 1)
                parts.append(vectorized(inputs, sampling)[0][0].cpu())
        except OutOfMemory:
            if size == 1:
                raise
            room = False
        if room:
            done += size
            continue
        size = (min(size, len(split) - done) + 1) // 2  # outside: the batch's memory is free now
        if device.type == "cuda":
            torch.cuda.empty_cache()
        say(f"no room for so many sequences at once; {size} at a time from here")
    return torch.cat(parts)


def all_answers(
    model: SequenceModel, given: Given, say: Callable[[str], None] = lambda message: None
) -> list[Tensor]:
    """Of each group. Raises as `answers`."""
    return [answers(model, group.split, say) for group in given.groups]


def scores(given: Given, answered: list[Tensor], kind: Kind) -> dict[str, float]:
    """As `evaluation.evaluate` gives them, of answers that are kept: bit for bit where they come
    from the CPU and all sequences have one length."""
    objective, tally, wanted = OBJECTIVES[kind], Tally(), scored_by(kind)
    for group, some in zip(given.groups, answered, strict=True):
        size = batch_size(group.split)
        for start in range(0, len(some), size):
            chosen = slice(start, start + size)
            tally.add(objective.sums(some[None, chosen], group.split.targets[None, chosen]))
    together = {}
    if any(score.given == "answers" for score in wanted.values()):
        targets = torch.cat([group.split.targets for group in given.groups])
        together = {"answers_EB": torch.cat(answered)[None], "targets_B": targets}
    (found,) = tally.scores(wanted, **together)
    return found


def rows(given: Given, answered: list[Tensor], kind: Kind, classes: Sequence[str]) -> Answers:
    """A row for each sequence, or for each of its steps: those that are scored, or all where
    targets are not known."""
    columns = [
        _columns(group.positions, group.split.targets if given.labelled else None, some, kind)
        for group, some in zip(given.groups, answered, strict=True)
    ]
    sequences, steps, values, targets = map(np.concatenate, zip(*columns, strict=True))
    order = np.lexsort((steps, sequences))
    return Answers(
        kind=kind,
        classes=classes,
        sequences=sequences[order],
        steps=steps[order] if kind in PER_STEP else None,
        values=values[order],
        targets=targets[order] if given.labelled else None,
    )


def _columns(
    positions: NDArray[np.int64], targets: Tensor | None, answered: Tensor, kind: Kind
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Sequences, steps, values and targets, as in `Answers`; zeros for what there is not."""
    values = probabilities(answered, kind).numpy()
    count, steps = len(values), values.shape[-1] if kind in PER_STEP else 1
    if kind in PER_STEP:
        values = values.swapaxes(1, 2).reshape(count * steps, -1)
    columns = (
        np.repeat(positions, steps),
        np.tile(np.arange(steps), count),
        values,
        np.zeros(count * steps) if targets is None else targets.double().numpy().ravel(),
    )
    ignored = kind in PER_STEP and targets is not None
    kept = columns[3] != IGNORED if ignored else slice(None)
    return columns[0][kept], columns[1][kept], columns[2][kept], columns[3][kept]


def probabilities(answered: Tensor, kind: Kind) -> Tensor:
    """Of each class, float32, from a model's answers: their softmax, or where there is one answer
    its sigmoid and what is left; of a regression the answers themselves."""
    if kind == "regression":
        return answered.float()
    if kind == "binary":
        yes_B = answered.double().sigmoid()
        return torch.stack([1.0 - yes_B, yes_B], dim=1).float()
    return answered.double().softmax(1).float()
