"""The learning rate of an epoch, as a function of the trial and of the epochs before it.

A schedule keeps no state, not even the plateau: it is computed again from the history, so there is
nothing to save and nothing to restore wrongly. A new one is a function and a row of `SCHEDULES` in
`config/optimization.py`, which has its settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.optimization import SCHEDULES, Constant, Cosine, MultiStep, Plateau
from ckconv_sweep.config.trial import Trial


def learning_rate(trial: Trial, history: Sequence[Epoch]) -> float:
    """The learning rate of the epoch that follows `history`."""
    rate: float = SCHEDULES.maker(trial.schedule.name)(trial.schedule, trial, history)
    return rate


def constant(settings: Constant, trial: Trial, history: Sequence[Epoch]) -> float:
    """That of the optimiser."""
    return trial.optimizer.learning_rate


def multistep(settings: MultiStep, trial: Trial, history: Sequence[Epoch]) -> float:
    """Smaller by a factor after each milestone."""
    passed = sum(milestone <= len(history) for milestone in settings.milestones)
    return trial.optimizer.learning_rate * settings.factor**passed


def cosine(settings: Cosine, trial: Trial, history: Sequence[Epoch]) -> float:
    """Up in a line, then down along half a cosine."""
    epoch, warmup = len(history) + 1, settings.warmup_epochs
    if epoch <= warmup:
        return trial.optimizer.learning_rate * epoch / (warmup + 1)
    done = (epoch - 1 - warmup) / (trial.training.epochs - warmup)
    return trial.optimizer.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


# As in torch.optim.lr_scheduler.ReduceLROnPlateau, which the published code trained with: a value
# counts as better only beyond this share of the best, and a smaller step than this is not made.
_THRESHOLD, _SMALLEST_STEP = 1e-4, 1e-8


def plateau(settings: Plateau, trial: Trial, history: Sequence[Epoch]) -> float:
    """Smaller by a factor after each wait without a better metric."""
    rate, waited = trial.optimizer.learning_rate, 0
    metric = trial.metric
    sign = 1.0 if metric.mode == "max" else -1.0
    best = -sign * math.inf
    for epoch in history:
        value = epoch.metrics[metric.name]
        if metric.better(value, best * (1.0 + sign * _THRESHOLD)):
            best, waited = value, 0
        else:
            waited += 1
        if waited > settings.patience:
            waited = 0
            if rate - rate * settings.factor > _SMALLEST_STEP:
                rate *= settings.factor
    return rate
