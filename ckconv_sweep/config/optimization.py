"""How weights are changed: the optimisers, and the schedules of their learning rate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ckconv_sweep.config.settings import (
    Fraction,
    ListAsTuple,
    NotNegative,
    NotNegativeReal,
    OpenFraction,
    Positive,
    PositiveReal,
    Settings,
)


class Optimizer(Settings):
    """What all optimisers share."""

    learning_rate: PositiveReal = 1e-3


class Adam(Optimizer):
    name: Literal["adam"] = "adam"
    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999


class AdamW(Optimizer):
    name: Literal["adamw"] = "adamw"
    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999
    weight_decay: NotNegativeReal = 0.01


class SGD(Optimizer):
    name: Literal["sgd"] = "sgd"
    momentum: Fraction = 0.9
    weight_decay: NotNegativeReal = 0.0


class RMSprop(Optimizer):
    name: Literal["rmsprop"] = "rmsprop"
    alpha: Fraction = 0.99
    momentum: Fraction = 0.0


AnyOptimizer = Annotated[Adam | AdamW | SGD | RMSprop, Field(discriminator="name")]


class Constant(Settings):
    name: Literal["constant"] = "constant"


class Plateau(Settings):
    """Multiply the learning rate by `factor` when the metric has not improved for more than
    `patience` epochs."""

    name: Literal["plateau"] = "plateau"
    factor: OpenFraction = 0.2
    patience: NotNegative = 20


class MultiStep(Settings):
    """Multiply the learning rate by `factor` after each epoch of `milestones`."""

    name: Literal["multistep"] = "multistep"
    factor: OpenFraction = 0.1
    milestones: Annotated[tuple[Positive, ...], ListAsTuple] = ()

    @model_validator(mode="after")
    def _check(self) -> MultiStep:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, got {list(self.milestones)}")
        return self


class Cosine(Settings):
    """A linear warm-up, then half a cosine down towards zero at the last epoch."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: NotNegative = 0


AnySchedule = Annotated[Constant | Plateau | MultiStep | Cosine, Field(discriminator="name")]
