"""The optimisers of the table in `config/optimization.py`, for many trials at once.

Weights, gradients and moments are flat tensors with a row for each trial, so that a step is a dozen
operations for all weights of all trials. What differs among trials comes as columns. Only sums,
products, quotients and roots are used, each rounded by itself: a fused operation may round the last
elements of a tensor in another way than the others, and which these are depends on the neighbours.

Formulas as of `torch.optim`. Shapes: E trials, P weights of a trial.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from ckconv_sweep.config.optimization import OPTIMIZERS, Optimizer

EPS = 1e-8


@dataclass(frozen=True, eq=False)
class Step:
    """One step of all trials."""

    weights_EP: Tensor  # noqa: N815
    gradients_EP: Tensor  # noqa: N815
    """May be overwritten."""
    moments: tuple[Tensor, ...]
    """Each `(E, P)`."""
    coefficients: tuple[Tensor, ...]
    """Each `(E, 1)`."""
    factors: Tensor | float
    """Learning rates of the weights in learning rates of the trial, `(E, P)`, or 1."""


class Rule(ABC):
    """How weights are changed by their gradients."""

    moments: ClassVar[tuple[str, ...]]
    """What is remembered for each weight, zero at first. Named as in `torch.optim`."""

    @staticmethod
    @abstractmethod
    def coefficients(settings: Any, rate: float, step: int) -> tuple[float, ...]:
        """What one step of one trial needs to know, computed in double precision.

        Args:
            settings: the trial's, from `config.optimization`.
            rate: its learning rate in this step.
            step: counted from 1.
        """

    @staticmethod
    @abstractmethod
    def update(step: Step) -> None:
        """Make it, in place."""


def rule_of(settings: Optimizer) -> type[Rule]:
    """The rule of an optimiser."""
    rule: type[Rule] = OPTIMIZERS.maker(settings.name)
    return rule


class Adam(Rule):
    """Kingma and Ba 2015 (arXiv:1412.6980), as `torch.optim.Adam` without weight decay."""

    moments = ("exp_avg", "exp_avg_sq")

    @staticmethod
    def coefficients(settings: Any, rate: float, step: int) -> tuple[float, ...]:
        beta_1, beta_2 = settings.beta_1, settings.beta_2
        return (
            1.0 - beta_1,
            beta_2,
            1.0 - beta_2,
            math.sqrt(1.0 - beta_2**step),
            rate / (1.0 - beta_1**step),
        )

    @staticmethod
    def update(step: Step) -> None:
        first_EP, second_EP = step.moments
        share, beta_2, second_share, correction, size = step.coefficients
        first_EP.add_((step.gradients_EP - first_EP).mul_(share))
        second_EP.mul_(beta_2).add_(step.gradients_EP.square().mul_(second_share))
        divisor_EP = second_EP.sqrt().div_(correction).add_(EPS)
        step.weights_EP.sub_((first_EP * (size * step.factors)).div_(divisor_EP))


class AdamW(Adam):
    """Loshchilov and Hutter 2019 (arXiv:1711.05101): the weights decay beside the step of Adam."""

    @staticmethod
    def coefficients(settings: Any, rate: float, step: int) -> tuple[float, ...]:
        return *Adam.coefficients(settings, rate, step), rate * settings.weight_decay

    @staticmethod
    def update(step: Step) -> None:
        *of_adam, decay = step.coefficients
        step.weights_EP.sub_(step.weights_EP * (decay * step.factors))
        Adam.update(replace(step, coefficients=tuple(of_adam)))


class SGD(Rule):
    """With momentum, as `torch.optim.SGD`: weight decay is added to the gradient."""

    moments = ("momentum_buffer",)

    @staticmethod
    def coefficients(settings: Any, rate: float, step: int) -> tuple[float, ...]:
        return settings.weight_decay, settings.momentum, rate

    @staticmethod
    def update(step: Step) -> None:
        (momentum_EP,) = step.moments
        decay, momentum, rate = step.coefficients
        momentum_EP.mul_(momentum).add_(step.gradients_EP.add_(step.weights_EP * decay))
        step.weights_EP.sub_(momentum_EP * (rate * step.factors))


class RMSprop(Rule):
    """Tieleman and Hinton 2012, as `torch.optim.RMSprop`, not centred."""

    moments = ("square_avg", "momentum_buffer")

    @staticmethod
    def coefficients(settings: Any, rate: float, step: int) -> tuple[float, ...]:
        return settings.alpha, 1.0 - settings.alpha, settings.momentum, rate

    @staticmethod
    def update(step: Step) -> None:
        square_EP, momentum_EP = step.moments
        alpha, share, momentum, rate = step.coefficients
        square_EP.mul_(alpha).add_(step.gradients_EP.square().mul_(share))
        momentum_EP.mul_(momentum).add_(step.gradients_EP.div_(square_EP.sqrt().add_(EPS)))
        step.weights_EP.sub_(momentum_EP * (rate * step.factors))


def clip(gradients_EP: Tensor, largest_E1: Tensor) -> None:
    """Scale each trial's gradient down to a norm of its own, in place; as
    `torch.nn.utils.clip_grad_norm_`. Infinite is the norm of a trial that does not clip."""
    norms_E1 = gradients_EP.square().sum(1, keepdim=True).sqrt()
    scales_E1 = (largest_E1 / (norms_E1 + 1e-6)).clamp_max_(1.0)
    gradients_EP.mul_(scales_E1.masked_fill_(largest_E1.isinf(), 1.0))
