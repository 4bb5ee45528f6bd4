"""The optimisers, by name. A new one is a class in `config/trial.py` and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ckconv_sweep.config.optimization import AnyOptimizer
from ckconv_sweep.models.sequence_model import SequenceModel

Groups = list[dict[str, Any]]


def optimizer_of(model: SequenceModel, settings: AnyOptimizer) -> torch.optim.Optimizer:
    """The optimiser of a model's weights. Each of its groups has a `learning_rate_factor`: its
    learning rate, in learning rates of the trial."""
    factors = model.learning_rate_factors()
    by_factor: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        by_factor.setdefault(factors.get(name, 1.0), []).append(parameter)
    groups: Groups = [
        {"params": weights, "learning_rate_factor": factor} for factor, weights in by_factor.items()
    ]
    return OPTIMIZERS[settings.name](groups, settings)


OPTIMIZERS: dict[str, Callable[[Groups, Any], torch.optim.Optimizer]] = {
    "adam": lambda groups, s: torch.optim.Adam(
        groups, lr=s.learning_rate, betas=(s.beta_1, s.beta_2)
    ),
    "adamw": lambda groups, s: torch.optim.AdamW(
        groups, lr=s.learning_rate, betas=(s.beta_1, s.beta_2), weight_decay=s.weight_decay
    ),
    "sgd": lambda groups, s: torch.optim.SGD(
        groups, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay
    ),
    "rmsprop": lambda groups, s: torch.optim.RMSprop(
        groups, lr=s.learning_rate, alpha=s.alpha, momentum=s.momentum
    ),
}
