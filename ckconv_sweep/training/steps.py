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


class Training:
    """What trains some members, one epoch after another."""

    def __init__(self, vectorized: Vectorized, members: Sequence[Member], split: Split) -> None:
        """
        Args:
            vectorized: a model of the members' shape; it gets `rows`.
            members: as they are between two epochs.
            split: on the device.
        """
        self.steps = steps = _Steps(vectorized, members, split)
        self.vectorized, self.rows = vectorized, steps.rows
        self.whole, self.rest = steps.of_whole_batch, steps.of_the_rest
        if vectorized.model.vectorizes:  # others compute in ways that cannot be recorded
            epochs = min(member.trial.training.epochs - len(member.history) for member in members)
            wholes, rests = steps.whole * epochs, (steps.number - steps.whole) * epochs
            self.whole = repeated(self.whole, steps.state, wholes, split.inputs.device)
            self.rest = repeated(self.rest, steps.state, rests, split.inputs.device)


def train_epoch(
    training: Training, members: Sequence[Member], rates: Sequence[float]
) -> Stepwise[Tally]:
    """Train each member over all sequences once, in an order that follows from its seed and epoch.

    Args:
        training: of these members; its `rows` become what they have become.
        members: they say how they are trained; what is theirs is not changed.
        rates: the learning rates of this epoch.

    Returns:
        What the training metrics follow from; it is still on the device.
    """
    steps = training.steps
    steps.begin(members, rates)
    for number in range(steps.number):
        (training.whole if number < steps.whole else training.rest)()
        yield
    return steps.tally


class _Steps:
    """All of them, of every epoch, read and write the same memory. `number` is how many an epoch
    has; the first `whole` of them have a whole batch."""

    def __init__(self, vectorized: Vectorized, members: Sequence[Member], split: Split) -> None:
        device, trials = split.inputs.device, [member.trial for member in members]
        settings = [trial.training for trial in trials]
        self._vectorized, self._split = vectorized, split
        self.rows: Rows = {
            name: torch.cat([member.rows[name] for member in members]).to(device)
            for name in members[0].rows
        }
        vectorized.put(self.rows["weights"], self.rows["buffers"], trained=True)
        self._objective, self.tally = OBJECTIVES[trials[0].data.kind], Tally()
        size = settings[0].batch_size
        self.whole, left = divmod(len(split), size)
        self.number = self.whole + (left > 0)
        self._batches_SEB = torch.empty(
            self.whole, len(members), size, dtype=torch.int64, device=device
        )
        self._rest_EB = torch.empty(len(members), left, dtype=torch.int64, device=device)
        self._masks = dropout_masks([one.seed for one in settings], [0] * len(members), device)
        self._rule = rule_of(trials[0].optimizer)
        self._coefficients_SKE1 = self._coefficients(members, [0.0] * len(members)).to(device)
        self._number_1 = torch.zeros(1, dtype=torch.int64, device=device)
        self._moments = tuple(self.rows[name] for name in self._rule.moments)
        self._factors = _learning_rate_factors(members, self.rows["weights"])
        penalties = [one.kernel_penalty for one in settings]
        self._penalties_E = torch.tensor(penalties, device=device) if any(penalties) else None
        largest = [[one.clip_norm or math.inf] for one in settings]
        self._largest_E1 = None
        if any(one.clip_norm for one in settings):
            self._largest_E1 = torch.tensor(largest, device=device)

    def begin(self, members: Sequence[Member], rates: Sequence[float]) -> None:
        """Get ready for the next epoch of the members, with these learning rates."""
        for name, rows in self.rows.items():
            for row, member in zip(rows, members, strict=True):
                row.copy_(member.rows[name][0])
        orders_EN = torch.stack(
            [
                torch.randperm(
                    len(self._split),
                    generator=generator(
                        member.trial.training.seed, "order", len(member.history) + 1
                    ),
                )
                for member in members
            ]
        )
        whole, _, size = self._batches_SEB.shape
        whole_EN, rest_EB = orders_EN.tensor_split([whole * size], dim=1)
        batches_ESB = torch.unflatten(whole_EN, 1, (whole, size))
        self._batches_SEB.copy_(batches_ESB.transpose(0, 1))
        self._rest_EB.copy_(rest_EB)
        self._masks.begin([len(member.history) * self.number for member in members])
        self._coefficients_SKE1.copy_(self._coefficients(members, rates))
        self._number_1.zero_()
        self.tally.clear()

    def _coefficients(self, members: Sequence[Member], rates: Sequence[float]) -> Tensor:
        """Those of the optimiser in each step, `(S, K, E, 1)`."""
        coefficients_SEK = torch.tensor(
            [
                [
                    self._rule.coefficients(
                        member.trial.optimizer, rate, len(member.history) * self.number + i + 1
                    )
                    for member, rate in zip(members, rates, strict=True)
                ]
                for i in range(self.number)
            ]
        )
        return coefficients_SEK.mT[..., None].contiguous()

    def state(self) -> list[Tensor]:
        """All that a step changes, once there has been one."""
        changed = [self.rows["weights"], *self._moments, self.tally.totals, self._number_1]
        return changed + self._masks.state

    def of_whole_batch(self) -> None:
        self._make(self._batches_SEB.index_select(0, self._number_1)[0])

    def of_the_rest(self) -> None:
        self._make(self._rest_EB)

    def _make(self, chosen_EB: Tensor) -> None:
        inputs, targets, sampling = batch(self._split, chosen_EB)
        penalized = self._penalties_E is not None
        answers, penalty_E = self._vectorized(inputs, sampling, self._masks, penalized=penalized)
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
            weights_EP = self.rows["weights"]
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
