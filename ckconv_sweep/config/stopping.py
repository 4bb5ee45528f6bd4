"""Which trials are stopped before their end. `config/table.py` says how to add a stopping rule."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ckconv_sweep.config.settings import NotNegative, Positive
from ckconv_sweep.config.table import Row, Table


class StoppingRule(Row):
    """What all stopping rules share."""

    grace_setting: ClassVar[str | None] = None
    """The setting that gives trials more time before they are judged, if there is one."""

    @property
    def first_epoch(self) -> int:
        """The first epoch after which a trial may be stopped."""
        return 1


RULES: Table[StoppingRule] = Table("scheduler")
"""Makers: a function each, of the settings, the curves of all trials, a trial's number and the
metric's mode, that gives a `Verdict`. It must follow from these four."""


@RULES.row("ckconv_sweep.search.rules:asha")
class Asha(StoppingRule):
    """Asynchronous successive halving (Li et al. 2020): of the trials that reach an epoch
    `grace_epochs * reduction_factor^k`, one in `reduction_factor` goes on."""

    grace_setting: ClassVar[str | None] = "grace_epochs"
    name: Literal["asha"] = "asha"
    grace_epochs: Positive = 1
    """The epoch after which a trial is judged first."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """One in so many trials goes on at each rung; the next rung is so many times as late."""

    @property
    def first_epoch(self) -> int:
        return self.grace_epochs


@RULES.row("ckconv_sweep.search.rules:median")
class Median(StoppingRule):
    """Stop a trial whose best value so far is worse than the median of the completed trials at its
    epoch. The first `warmup_epochs` epochs are not judged, nor is anything before so many trials
    (`startup_trials`) have completed."""

    grace_setting: ClassVar[str | None] = "warmup_epochs"
    name: Literal["median"] = "median"
    startup_trials: NotNegative = 5
    """Trials that must have completed before any is judged."""
    warmup_epochs: NotNegative = 0
    """Epochs of a trial that are not judged."""

    @property
    def first_epoch(self) -> int:
        return self.warmup_epochs + 1


@RULES.row("ckconv_sweep.search.rules:never")
class NoScheduler(StoppingRule):
    """Every trial runs to its end."""

    name: Literal["none"] = "none"
