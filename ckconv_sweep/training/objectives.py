"""What is asked of a model, as a loss to train by and scores to judge by; one loss a kind of task.

Romero et al. 2022 (CKConv, arXiv:2102.02611) train with the same losses: cross-entropy, binary
cross-entropy with logits, mean squared error.

Shapes: E models, B sequences, K classes, T time steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ckconv_sweep.config.data import Kind
from ckconv_sweep.config.metrics import SCORES, Score
from ckconv_sweep.data.task import IGNORED

_NEVER = torch.iinfo(torch.int64).min
"""No class has this number."""


@dataclass(frozen=True)
class Objective:
    """How the answers to one kind of task are judged."""

    losses: Callable[[Tensor, Tensor], Tensor]
    """The loss of each target, in nats for classes; zero where it does not count."""
    right: Callable[[Tensor, Tensor], Tensor] | None
    """Whether each answer is right. None where an answer is no choice."""
    ignored: int | None = None
    """The target of a step that is not scored. None where every target is: -100 is a number like
    any other in a regression."""

    def sums(self, answers: Tensor, targets: Tensor) -> Sums:
        """Of each model by itself.

        Args:
            answers: `(E, B)`, `(E, B, K)` or `(E, B, K, T)`.
            targets: `(E, B)` or `(E, B, T)`.
        """
        models = len(targets)
        rows = answers.flatten(0, 1), targets.flatten(0, 1)
        loss_E = self.losses(*rows).view(models, -1).sum(1)
        right_E = None
        if self.right is not None:
            right_E = self.right(*(row.detach() for row in rows)).view(models, -1).sum(1)
        if self.ignored is None:
            counted_E = targets.new_full((models,), targets[0].numel(), dtype=torch.int64)
        else:
            counted_E = (targets != self.ignored).view(models, -1).sum(1)
        return Sums(loss_E, counted_E, right_E)


@dataclass(frozen=True, eq=False)
class Sums:
    """Over the targets of some sequences, for each model."""

    loss_E: Tensor  # noqa: N815
    counted_E: Tensor  # noqa: N815
    """How many targets count."""
    right_E: Tensor | None  # noqa: N815
    """How many answers are right."""


def _cross_entropy(answers: Tensor, targets: Tensor) -> Tensor:
    """`(N, K)` and `(N,)`. PyTorch ignores -100 unless another number is named."""
    return functional.cross_entropy(answers, targets, ignore_index=_NEVER, reduction="none")


def _cross_entropy_of_steps(answers: Tensor, targets: Tensor) -> Tensor:
    """`(N, K, T)` and `(N, T)`."""
    return functional.cross_entropy(answers, targets, ignore_index=IGNORED, reduction="none")


def _binary_cross_entropy(answers: Tensor, targets: Tensor) -> Tensor:
    """`functional.binary_cross_entropy_with_logits` for targets of 0 and 1. The gradient of that
    one has a sigmoid, which rounds otherwise among other members (`models/members.py`)."""
    return -functional.logsigmoid((2.0 * targets - 1.0) * answers)


def _right_class(answers: Tensor, targets: Tensor) -> Tensor:
    return answers.argmax(dim=1) == targets


def itself(value: float) -> float:
    """The mean loss, or the share of right answers, as it is."""
    return value


def auc(answers: Tensor, targets: Tensor) -> float:
    """Area under the receiver operating characteristic; not a number where a class is missing."""
    from sklearn.metrics import roc_auc_score

    if targets.min() == targets.max() or not answers.isfinite().all():
        return math.nan
    return float(roc_auc_score(targets.numpy(), answers.numpy()))


def in_bits(loss: float) -> float:
    """A loss in nats, in bits."""
    return loss / math.log(2.0)


def perplexity(loss: float) -> float:
    """Of a loss in nats."""
    return math.exp(loss) if loss < 700.0 else math.inf  # the largest float is e^709.8


OBJECTIVES: dict[Kind, Objective] = {
    "classification": Objective(_cross_entropy, _right_class),
    "per_step": Objective(_cross_entropy_of_steps, _right_class, ignored=IGNORED),
    "binary": Objective(
        _binary_cross_entropy, lambda answers, targets: (answers > 0.0) == (targets > 0.5)
    ),
    "regression": Objective(
        lambda answers, targets: functional.mse_loss(answers, targets, reduction="none"), None
    ),
    "text": Objective(_cross_entropy_of_steps, _right_class, ignored=IGNORED),
}


class Tally:
    """Loss and right answers of each model, summed on the device: reading a value would wait for
    it."""

    def __init__(self) -> None:
        self._totals: Tensor | None = None

    def add(self, sums: Sums) -> None:
        """Count a batch."""
        parts = [sums.loss_E.detach(), sums.counted_E]
        if sums.right_E is not None:
            parts.append(sums.right_E)
        batch = torch.stack([part.double() for part in parts])
        self._totals = batch if self._totals is None else self._totals.add_(batch)

    def clear(self) -> None:
        """Count anew, in the same memory."""
        if self._totals is not None:
            self._totals.zero_()

    @property
    def totals(self) -> Tensor:
        """Losses, how many targets count and, where there are any, right answers: `(2 or 3, E)`,
        float64."""
        assert self._totals is not None, "nothing was counted"
        return self._totals

    def scores(
        self,
        wanted: Mapping[str, Score],
        answers_EB: Tensor | None = None,
        targets_B: Tensor | None = None,
    ) -> list[dict[str, float]]:
        """The wanted scores of each model, by name.

        Args:
            answers_EB: all answers of each model, on the CPU, where one of the scores needs them.
            targets_B: theirs.
        """
        out: list[dict[str, float]] = []
        for e, (loss, number, *right) in enumerate(self.totals.T.tolist()):
            given: dict[str, list[Any]] = {
                "loss": [loss / number],
                "right": [n / number for n in right],
                "answers": [] if answers_EB is None else [answers_EB[e], targets_B],
            }
            out.append({n: SCORES.maker(n)(*given[row.given]) for n, row in wanted.items()})
        return out
