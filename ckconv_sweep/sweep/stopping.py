"""The stopping rules, by name: Optuna's pruners, because what they remember lies in the study, so
that no interruption can make a sweep forget it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from ckconv_sweep.config.space import Space

PRUNERS: dict[str, Callable[[Any], BasePruner]] = {
    "asha": lambda s: SuccessiveHalvingPruner(
        min_resource=s.grace_epochs, reduction_factor=s.reduction_factor
    ),
    "median": lambda s: MedianPruner(
        n_startup_trials=s.startup_trials, n_warmup_steps=s.warmup_epochs
    ),
    "none": lambda s: NopPruner(),
}


def pruner_for(space: Space) -> BasePruner:
    """The stopping rule of a space."""
    return PRUNERS[space.scheduler.name](space.scheduler)
