"""The steps of one epoch, for all members of a pack at once.

Nothing is read back from the device before the end, and what differs from step to step lies there
before the first, with the number of the step by which it is found.

Shapes: E members, P weights of one, S steps, B sequences of a batch, N training sequences, K
coefficients of an optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ckconv_sweep.data.task import Split
from ckconv_sweep.training.batches import batch
from ckconv_sweep.training.dropout_masks import dropout_masks
from ckconv_sweep.training.graphs import repeated
from ckconv_sweep.training.member import Member, Rows
from ckconv_sweep.training.objectives import OBJECTIVES, Tally
from ckconv_sweep.training.optimizers import Step, clip, rule_of
from ckconv_sweep.training.seeding import generator
from ckconv_sweep.training.stepwise import Stepwise
from ckconv_sweep.training.vectorized import Vectorized


def train_epoch(
    vectorized: Vectorized,
    members: Sequence[Member],
    rows: Rows,
    rates: Sequence[float],
    split: Split,
) -> Stepwise[Tally]:
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
    steps = _Steps(vectorized, members, rows, rates, split)
    whole = repeated(steps.of_whole_batch, steps.state, steps.whole, split.inputs.device)
    for _ in range(steps.whole):
        whole()
        yield
    if steps.whole < steps.number:
        steps.of_the_rest()
        yield
    return steps.tally


class _Steps:
    """All of them read and write the same memory. `number` is how many there are; the first `whole`
    of them have a whole batch."""

    def __init__(
        self,
        vectorized: Vectorized,
        members: Sequence[Member],
        rows: Rows,
        rates: Sequence[float],
        split: Split,
    ) -> None:
        device, trials = split.inputs.device, [member.trial for member in members]
        settings = [trial.training for trial in trials]
        seeds = [one.seed for one in settings]
        numbers = [len(member.history) + 1 for member in members]
        self._vectorized, self._split, self._rows = vectorized, split, rows
        self._objective, self.tally = OBJECTIVES[trials[0].data.kind], Tally()

        orders_EN = torch.stack(
            [
                torch.randperm(len(split), generator=generator(seed, "order", number))
                for seed, number in zip(seeds, numbers, strict=True)
            ]
        )
        size = settings[0].batch_size
        self.whole, left = divmod(len(split), size)
        self.number = self.whole + (left > 0)
        whole_EN, rest_EB = orders_EN[:, : self.whole * size], orders_EN[:, self.whole * size :]
        batches_ESB = torch.unflatten(whole_EN, 1, (self.whole, size))
        self._batches_SEB = batches_ESB.transpose(0, 1).contiguous().to(device)
        self._rest_EB = rest_EB.to(device)

        before = [(number - 1) * self.number for number in numbers]
        self._masks = dropout_masks(seeds, before, device)
        self._rule = rule_of(trials[0].optimizer)
        coefficients_SEK = torch.tensor(
            [
                [
                    self._rule.coefficients(trial.optimizer, rate, made + i + 1)
                    for trial, rate, made in zip(trials, rates, before, strict=True)
                ]
                for i in range(self.number)
            ]
        )
        self._coefficients_SKE1 = coefficients_SEK.mT[..., None].contiguous().to(device)
        self._number_1 = torch.zeros(1, dtype=torch.int64, device=device)
        self._moments = tuple(rows[name] for name in self._rule.moments)
        self._factors = _learning_rate_factors(members, rows["weights"])
        penalties = [one.kernel_penalty for one in settings]
        self._penalties_E = torch.tensor(penalties, device=device) if any(penalties) else None
        largest = [[one.clip_norm or math.inf] for one in settings]
        self._largest_E1 = None
        if any(one.clip_norm for one in settings):
            self._largest_E1 = torch.tensor(largest, device=device)

    def state(self) -> list[Tensor]:
        """All that a step changes, once there has been one."""
        changed = [self._rows["weights"], *self._moments, self.tally.totals, self._number_1]
        return changed + self._masks.state

    def of_whole_batch(self) -> None:
        self._make(self._batches_SEB.index_select(0, self._number_1)[0])

    def of_the_rest(self) -> None:
        self._make(self._rest_EB)

    def _make(self, chosen_EB: Tensor) -> None:
        inputs, targets, times = batch(self._split, chosen_EB)
        penalized = self._penalties_E is not None
        answers, penalty_E = self._vectorized(
            inputs, times, self._split.rate, self._masks, penalized=penalized
        )
        sums = self._objective.sums(answers, targets)
        losses_E = sums.loss_E / sums.counted_E
        if self._penalties_E is not None and penalty_E is not None:
            losses_E = losses_E + self._penalties_E * penalty_E
        # Summed over the members: each sees the gradient of its own loss only.
        gradients_EP = self._vectorized.gradients(losses_E.sum())
        with torch.no_grad():
            if self._largest_E1 is not None:
                clip(gradients_EP, self._largest_E1)
            coefficients = self._coefficients_SKE1.index_select(0, self._number_1)[0].unbind()
            weights_EP = self._rows["weights"]
            step = Step(weights_EP, gradients_EP, self._moments, coefficients, self._factors)
            self._rule.update(step)
        self.tally.add(sums)
        self._number_1.add_(1)
        self._masks.next_step()


def _learning_rate_factors(members: Sequence[Member], like_EP: Tensor) -> Tensor | float:
    """Of each weight, `(E, P)`; 1 where no member has any."""
    if all(member.factors is None for member in members):
        return 1.0
    ones_1P = torch.ones_like(like_EP[:1])
    return torch.cat(
        [ones_1P if one.factors is None else one.factors.to(like_EP) for one in members]
    )
