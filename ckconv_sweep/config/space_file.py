"""A space as it is written: the settings at its top."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ckconv_sweep.config.sampling import SAMPLERS, Sampler, Tpe
from ckconv_sweep.config.settings import Positive, Settings
from ckconv_sweep.config.stopping import RULES, NoScheduler, StoppingRule
from ckconv_sweep.config.trial import Metric


class Budget(Settings):
    """When a sweep is done: once one of them is spent or reached."""

    trials: Positive
    """Number of trials; draws that were rejected do not count."""
    hours: Annotated[float, Field(gt=0.0)] | None = None
    """Hours for which the sweep runs, all its sessions together; null: without end."""
    gpu_hours: Annotated[float, Field(gt=0.0)] | None = None
    """Hours of GPUs that its trials use in all their recorded epochs; of a part of a GPU that part
    of an hour. null: without end."""
    goal: str | None = None
    """A bound such as `val/accuracy >= 0.99`; once a completed trial reaches it nothing new is
    tried. null: none."""


class Repeats(Settings):
    """How often a setting is trained: `seeds` or `folds`. It is judged by the mean. The budget
    counts settings."""

    seeds: Annotated[int, Field(ge=2, le=1000)] | None = None
    """With how many seeds a setting is trained."""
    folds: Annotated[int, Field(ge=2, le=1000)] | None = None
    """On how many splits a setting is trained: each holds out another fold of the training
    sequences (`data.folds`), and has another seed."""
    top: Positive | None = None
    """Only so many settings, the best ones, are trained again, when all have ended that the budget
    allows. null: each one that is not pruned, at once."""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.seeds is None) == (self.folds is None):
            raise ValueError("write one of seeds and folds")
        return self

    @property
    def times(self) -> int:
        """How often a setting is trained."""
        return self.seeds or self.folds or 1


class SpaceFile(Settings):
    """A space as it is written."""

    trial: str | dict[str, Any]
    """The base trial: a file beside this one, a bundled one's name, or its settings themselves.
    What is not searched keeps its value."""
    search: dict[str, Any]
    """What is searched: settings by their paths, each with a range, choices, or whole blocks."""
    budget: Budget
    """When the sweep is done."""
    metric: Metric | None = None
    """What the trials are judged by, in place of the base trial's metric. The short form of
    `metrics` with one."""
    metrics: list[Metric] = Field(default_factory=list)
    """Several metrics. The first one stops trials and chooses the epoch at which all are read; they
    are ranked front by front."""
    first: list[str | dict[str, Any]] | None = None
    """What is tried before the sampler draws: `base`, the base trial's own settings; changes of
    them, as in {model.kernel.omega_0: 31.09}; a trial's file. null: the base trial's own settings
    if the space has them, but for a grid."""
    repeats: Repeats | None = None
    """How often a setting is trained. null: once."""
    variables: dict[str, Any] = Field(default_factory=dict)
    """Numbers that are searched too, under names that are no settings: `derived` is made of
    them."""
    derived: dict[str, Any] = Field(default_factory=dict)
    """Settings that are computed from searched ones, from variables and from the base trial's, as
    in {training.batch_size: 2 ** log_batch}."""
    warm_start: list[str] = Field(default_factory=list)
    """Earlier sweeps of the same folder, whose completed and pruned trials the sampler learns from
    as far as they are points of this space, on the same data and with the same metrics."""
    constraints: list[str] = Field(default_factory=list)
    """Bounds such as `model.parameters <= 100_000` or `model.hidden_channels * model.blocks <=
    200`; draws that violate one are drawn anew."""
    sampler: Annotated[Sampler, SAMPLERS] = Tpe()
    """How the settings of the next trial are drawn."""
    scheduler: Annotated[StoppingRule, RULES] = NoScheduler()
    """Which trials are stopped before their end."""
