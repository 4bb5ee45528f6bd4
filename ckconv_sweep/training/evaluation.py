"""How well models do on a split."""

from __future__ import annotations

import torch
from torch import Tensor

from ckconv_sweep.config.data import Kind
from ckconv_sweep.config.metrics import scored_by
from ckconv_sweep.data.task import Split
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training.batches import same_for_all
from ckconv_sweep.training.objectives import OBJECTIVES, Tally
from ckconv_sweep.training.stepwise import Stepwise, to_the_end
from ckconv_sweep.training.vectorized import Vectorized

BATCH, BATCH_STEPS = 256, 2**20
"""Sequences at a time, and fewer where these have more steps together. Part of the result: sums are
rounded in another order with another number."""


def evaluate(model: SequenceModel, split: Split, kind: Kind) -> dict[str, float]:
    """The scores of `config.metrics.scored_by(kind)`, by name. The split lies on the model's
    device."""
    (scores,) = to_the_end(evaluate_all(Vectorized.of(model), 1, split, kind))
    return scores


def batch_size(split: Split) -> int:
    """How many of its sequences are answered at a time."""
    return max(1, min(BATCH, BATCH_STEPS // split.inputs.shape[-1]))


@torch.no_grad()
def evaluate_all(
    vectorized: Vectorized, models: int, split: Split, kind: Kind
) -> Stepwise[list[dict[str, float]]]:
    """The scores of each of the models whose weights were put there."""
    objective, tally, wanted = OBJECTIVES[kind], Tally(), scored_by(kind)
    keeps = any(score.given == "answers" for score in wanted.values())
    size = batch_size(split)
    kept: list[Tensor] = []
    for start in range(0, len(split), size):
        inputs, targets, sampling = same_for_all(split, slice(start, start + size), models)
        answers, _ = vectorized(inputs, sampling)
        tally.add(objective.sums(answers, targets))
        if keeps:
            kept.append(answers)
        yield
    if not keeps:
        return tally.scores(wanted)
    return tally.scores(wanted, torch.cat(kept, dim=1).cpu(), split.targets.cpu())
