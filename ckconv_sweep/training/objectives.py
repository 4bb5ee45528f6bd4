"""What is asked of a model, as a loss to train by and scores to judge by; one row a kind of task.

Romero et al. 2022 (CKConv, arXiv:2102.02611) train with the same losses: cross-entropy, binary
cross-entropy with logits, mean squared error.

Shapes: B sequences, K classes, T time steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ckconv_sweep.config.data import Kind
from ckconv_sweep.data.task import IGNORED

Score = Callable[[float, Tensor, Tensor], float]
"""From the mean loss of a split, all answers and all targets, on the CPU."""


@dataclass(frozen=True)
class Objective:
    """How the answers to one kind of task are judged."""

    loss: Callable[[Tensor, Tensor, str], Tensor]
    """`mean` or `sum` of the loss over all targets that count; a scalar, in nats for classes."""
    right: Callable[[Tensor, Tensor], Tensor] | None
    """How many answers are right; a scalar. None where an answer is no choice."""
    more: Mapping[str, Score]
    """The scores beside loss and accuracy."""


def counted(targets: Tensor) -> Tensor:
    """How many targets count; a scalar."""
    return (targets != IGNORED).sum()


def _cross_entropy(answers: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """`(B, K)` and `(B,)`, or `(B, K, T)` and `(B, T)`."""
    return functional.cross_entropy(answers, targets, ignore_index=IGNORED, reduction=reduction)


def _right_class(answers: Tensor, targets: Tensor) -> Tensor:
    return (answers.argmax(dim=1) == targets).sum()


def _auc(_: float, answers: Tensor, targets: Tensor) -> float:
    """Area under the receiver operating characteristic; not a number where a class is missing."""
    from sklearn.metrics import roc_auc_score

    if targets.min() == targets.max() or not answers.isfinite().all():
        return math.nan
    return float(roc_auc_score(targets.numpy(), answers.numpy()))


def _perplexity(loss: float, *_: Tensor) -> float:
    return math.exp(loss) if loss < 700.0 else math.inf  # the largest float is e^709.8


OBJECTIVES: dict[Kind, Objective] = {
    "classification": Objective(_cross_entropy, _right_class, {}),
    "per_step": Objective(_cross_entropy, _right_class, {}),
    "binary": Objective(
        lambda answers, targets, reduction: functional.binary_cross_entropy_with_logits(
            answers, targets, reduction=reduction
        ),
        lambda answers, targets: ((answers > 0.0) == (targets > 0.5)).sum(),
        {"auc": _auc},
    ),
    "regression": Objective(
        lambda answers, targets, reduction: functional.mse_loss(
            answers, targets, reduction=reduction
        ),
        None,
        {"mean_squared_error": lambda loss, *_: loss},
    ),
    "text": Objective(
        _cross_entropy,
        _right_class,
        {"bits_per_character": lambda loss, *_: loss / math.log(2.0), "perplexity": _perplexity},
    ),
}


class Tally:
    """Loss and right answers, summed on the device: reading a value would wait for it."""

    def __init__(self, objective: Objective, device: torch.device) -> None:
        self._objective = objective
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._right = torch.zeros((), dtype=torch.int64, device=device)
        self._counted = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, loss_sum: Tensor, answers: Tensor, targets: Tensor) -> None:
        """Count a batch."""
        self._loss += loss_sum
        self._counted += counted(targets)
        if self._objective.right is not None:
            self._right += self._objective.right(answers, targets)

    def scores(self) -> dict[str, float]:
        """`loss`, the mean over all that counted, and `accuracy` (0 to 1) where there is one."""
        number = self._counted.item()
        scores = {"loss": self._loss.item() / number}
        if self._objective.right is not None:
            scores["accuracy"] = self._right.item() / number
        return scores
