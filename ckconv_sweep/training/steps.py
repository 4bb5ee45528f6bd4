"""The steps of one epoch, for all members of a pack at once.

Nothing is read back from the device before the end. What differs from step to step is put there
before the first, but for what the dropout masks are drawn from.

Shapes: E members, P weights of one, S steps, B sequences of a batch, N training sequences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ckconv_sweep.data.task import Split
from ckconv_sweep.training.batches import batch
from ckconv_sweep.training.member import Member, Rows
from ckconv_sweep.training.objectives import OBJECTIVES, Tally
from ckconv_sweep.training.optimizers import OPTIMIZERS, clip
from ckconv_sweep.training.seeding import DropoutMasks, generator
from ckconv_sweep.training.vectorized import Vectorized


def train_epoch(
    vectorized: Vectorized,
    members: Sequence[Member],
    rows: Rows,
    rates: Sequence[float],
    split: Split,
) -> Tally:
    """Train each member over all sequences once, in an order that follows from its seed and epoch.

    Args:
        vectorized: a model of the members' shape, with these rows.
        members: they say how they are trained; what is theirs is not changed.
        rows: changed in place.
        rates: the learning rates of this epoch.
        split: on the device.

    Returns:
        What the training metrics follow from; it is still on the device.
    """
    device, trials = split.inputs.device, [member.trial for member in members]
    settings = [trial.training for trial in trials]
    seeds = [one.seed for one in settings]
    numbers = [len(member.history) + 1 for member in members]
    orders = [
        torch.randperm(len(split), generator=generator(seed, "order", number))
        for seed, number in zip(seeds, numbers, strict=True)
    ]
    batches = torch.split(torch.stack(orders).to(device), settings[0].batch_size, dim=1)
    before = [(number - 1) * len(batches) for number in numbers]

    rule = OPTIMIZERS[trials[0].optimizer.name]
    coefficients_SEK = torch.tensor(
        [
            [
                rule.coefficients(trial.optimizer, rate, steps + i + 1)
                for trial, rate, steps in zip(trials, rates, before, strict=True)
            ]
            for i in range(len(batches))
        ],
        device=device,
    )
    coefficients_SKE1 = coefficients_SEK.transpose(1, 2)[..., None].contiguous()
    moments = tuple(rows[name] for name in rule.moments)
    factors = _learning_rate_factors(members, rows["weights"])
    penalized = any(one.kernel_penalty for one in settings)
    penalties_E = torch.tensor([one.kernel_penalty for one in settings], device=device)
    clipped = any(one.clip_norm for one in settings)
    largest_E1 = torch.tensor([[one.clip_norm or math.inf] for one in settings], device=device)

    objective, tally = OBJECTIVES[trials[0].data.kind], Tally()
    for i, chosen_EB in enumerate(batches):
        inputs, targets, times = batch(split, chosen_EB)
        masks = DropoutMasks(seeds, [number + i for number in before], device)
        answers, penalty_E = vectorized(inputs, times, split.rate, masks, penalized=penalized)
        sums = objective.sums(answers, targets)
        losses_E = sums.loss_E / sums.counted_E
        if penalty_E is not None:
            losses_E = losses_E + penalties_E * penalty_E
        # Summed over the members: each sees the gradient of its own loss only.
        gradients_EP = vectorized.gradients(losses_E.sum())
        with torch.no_grad():
            if clipped:
                clip(gradients_EP, largest_E1)
            coefficients = coefficients_SKE1[i].unbind()
            rule.update(rows["weights"], gradients_EP, moments, coefficients, factors)
        tally.add(sums)
    return tally


def _learning_rate_factors(members: Sequence[Member], like_EP: Tensor) -> Tensor | float:
    """Of each weight, `(E, P)`; 1 where no member has any."""
    if all(member.factors is None for member in members):
        return 1.0
    ones_1P = torch.ones_like(like_EP[:1])
    return torch.cat(
        [ones_1P if one.factors is None else one.factors.to(like_EP) for one in members]
    )
