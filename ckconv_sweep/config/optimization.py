"""How weights are changed: the optimisers, and the schedules of their learning rate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from ckconv_sweep.config.settings import (
    Fraction,
    ListAsTuple,
    NotNegative,
    NotNegativeReal,
    OpenFraction,
    Positive,
    PositiveReal,
)
from ckconv_sweep.config.table import Row, Table


class Optimizer(Row):
    """What all optimisers share."""

    learning_rate: PositiveReal = 1e-3
    """Before the schedule, which changes it from epoch to epoch."""


OPTIMIZERS: Table[Optimizer] = Table("optimizer")
"""Makers: a `training.optimizers.Rule` each."""


@OPTIMIZERS.row("ckconv_sweep.training.optimizers:Adam")
class Adam(Optimizer):
    """Kingma and Ba 2015 (arXiv:1412.6980)."""

    name: Literal["adam"] = "adam"
    beta_1: Fraction = 0.9
    """Decay of the mean of the gradients."""
    beta_2: Fraction = 0.999
    """Decay of the mean of their squares."""


@OPTIMIZERS.row("ckconv_sweep.training.optimizers:AdamW")
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

    name: Literal["adamw"] = "adamw"
    beta_1: Fraction = 0.9
    """Decay of the mean of the gradients."""
    beta_2: Fraction = 0.999
    """Decay of the mean of their squares."""
    weight_decay: NotNegativeReal = 0.01
    """Each step shrinks the weights by this times the learning rate."""


@OPTIMIZERS.row("ckconv_sweep.training.optimizers:SGD")
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    momentum: Fraction = 0.9
    """Share of the last step that is added to the next one."""
    weight_decay: NotNegativeReal = 0.0
    """Factor of the L2 penalty of the weights, as part of the gradient."""


@OPTIMIZERS.row("ckconv_sweep.training.optimizers:RMSprop")
class RMSprop(Optimizer):
    """Gradients in units of their root mean square (Tieleman and Hinton 2012)."""

    name: Literal["rmsprop"] = "rmsprop"
    alpha: Fraction = 0.99
    """Decay of the mean of the squared gradients."""
    momentum: Fraction = 0.0
    """Share of the last step that is added to the next one."""


class Schedule(Row):
    """What all schedules of the learning rate share."""

    def check_epochs(self, epochs: int) -> None:
        """Raises ValueError where a training of so many epochs is too short."""


SCHEDULES: Table[Schedule] = Table("schedule")
"""Makers: a function each, of the settings, the trial and the epochs so far, that gives the
learning rate of the next epoch."""


@SCHEDULES.row("ckconv_sweep.training.schedules:constant")
class Constant(Schedule):
    """The learning rate of the optimiser in every epoch."""

    name: Literal["constant"] = "constant"


@SCHEDULES.row("ckconv_sweep.training.schedules:plateau")
class Plateau(Schedule):
    """Multiply the learning rate by `factor` when the metric has not improved for more than
    `patience` epochs."""

    name: Literal["plateau"] = "plateau"
    factor: OpenFraction = 0.2
    """What the learning rate is multiplied by."""
    patience: NotNegative = 20
    """Epochs without a better metric before that."""


@SCHEDULES.row("ckconv_sweep.training.schedules:multistep")
class MultiStep(Schedule):
    """Multiply the learning rate by `factor` after each epoch of `milestones`."""

    name: Literal["multistep"] = "multistep"
    factor: OpenFraction = 0.1
    """What the learning rate is multiplied by."""
    milestones: Annotated[tuple[Positive, ...], ListAsTuple] = ()
    """The epochs after which it is."""

    @model_validator(mode="after")
    def _check(self) -> MultiStep:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must increase, got {list(self.milestones)}")
        return self


@SCHEDULES.row("ckconv_sweep.training.schedules:cosine")
class Cosine(Schedule):
    """A linear warm-up, then half a cosine down towards zero at the last epoch."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: NotNegative = 0
    """Epochs in which the learning rate rises to its full value."""

    def check_epochs(self, epochs: int) -> None:
        if self.warmup_epochs >= epochs:
            raise ValueError(
                f"schedule.warmup_epochs must be < training.epochs, got {self.warmup_epochs} and "
                f"{epochs}"
            )
