"""How well a model does on a split."""

from __future__ import annotations

import torch

from ckconv_sweep.config.data import Kind
from ckconv_sweep.data.task import Split
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training.batches import batch
from ckconv_sweep.training.objectives import OBJECTIVES, Tally

BATCH, BATCH_STEPS = 256, 2**20
"""Sequences at a time, and fewer where these have more steps together. Part of the result: sums are
rounded in another order with another number."""


@torch.no_grad()
def evaluate(model: SequenceModel, split: Split, kind: Kind) -> dict[str, float]:
    """The scores of `config.data.METRICS_OF[kind]`, by name. The split lies on the model's
    device."""
    objective = OBJECTIVES[kind]
    tally = Tally(objective, split.inputs.device)
    size = max(1, min(BATCH, BATCH_STEPS // split.inputs.shape[-1]))
    kept = []
    for start in range(0, len(split), size):
        inputs, targets, sampling = batch(split, slice(start, start + size))
        answers = model(inputs, sampling=sampling)
        tally.add(objective.loss(answers, targets, "sum"), answers, targets)
        if objective.more:
            kept.append(answers.cpu())
    scores = tally.scores()
    if objective.more:
        all_answers, all_targets = torch.cat(kept), split.targets.cpu()
        for name, score in objective.more.items():
            scores[name] = score(scores["loss"], all_answers, all_targets)
    return scores
