"""The optimisers, by name. A new one is a class in `config/trial.py` and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], Any], torch.optim.Optimizer]] = {
    "adam": lambda weights, s: torch.optim.Adam(
        weights, lr=s.learning_rate, betas=(s.beta_1, s.beta_2)
    ),
    "adamw": lambda weights, s: torch.optim.AdamW(
        weights, lr=s.learning_rate, betas=(s.beta_1, s.beta_2), weight_decay=s.weight_decay
    ),
    "sgd": lambda weights, s: torch.optim.SGD(
        weights, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay
    ),
    "rmsprop": lambda weights, s: torch.optim.RMSprop(
        weights, lr=s.learning_rate, alpha=s.alpha, momentum=s.momentum
    ),
}
