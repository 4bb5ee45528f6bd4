"""How well a model does on a split."""

from __future__ import annotations

import torch
from torch.nn import functional

from ckconv_sweep.data.task import Split
from ckconv_sweep.models.ckcnn import CKCNN

BATCH = 256
"""Sequences at a time. Part of the result: sums are rounded in another order with another one."""


@torch.no_grad()
def evaluate(model: CKCNN, split: Split) -> dict[str, float]:
    """`loss` (mean cross-entropy, nats) and `accuracy` (share right, 0 to 1). The split lies on
    the model's device; one value each is read from it."""
    loss = torch.zeros((), dtype=torch.float64, device=split.inputs.device)
    right = torch.zeros((), dtype=torch.int64, device=split.inputs.device)
    batches = torch.split(split.inputs, BATCH), torch.split(split.targets, BATCH)
    for inputs, targets in zip(*batches, strict=True):
        logits = model(inputs)
        loss += functional.cross_entropy(logits, targets, reduction="sum")
        right += (logits.argmax(dim=1) == targets).sum()
    return {"loss": loss.item() / len(split), "accuracy": right.item() / len(split)}
