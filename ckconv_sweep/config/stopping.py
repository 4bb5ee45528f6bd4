"""Which trials are stopped before their end. `config/table.py` says how to add a stopping rule."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from ckconv_sweep.config.metrics import METRICS
from ckconv_sweep.config.settings import NotNegative, NotNegativeReal, Positive
from ckconv_sweep.config.table import Row, Table
from ckconv_sweep.config.trial import Metric


class StoppingRule(Row):
    """What all stopping rules share."""

    grace_setting: ClassVar[str | None] = None
    """The setting that gives trials more time before they are judged, if there is one."""
    acts: ClassVar[str] = "prune"
    """What it does to a trial, in a word."""
    needs_rivals: ClassVar[bool] = True
    """Whether it compares trials: it then stops neither the only one, nor the best of all that
    reached an epoch."""

    @property
    def first_epoch(self) -> int:
        """The first epoch after which a trial may be stopped."""
        return 1

    def judges_from(self, epoch: int) -> int:
        """The first epoch, this one or a later one, after which a trial may be stopped."""
        return max(epoch, self.first_epoch)

    def note(self, epochs: int) -> str:
        """What a person should know of it where no trial has more epochs than that; empty where
        all is as one would think."""
        if self.grace_setting is None or self.first_epoch < epochs:
            return ""
        return (
            f"can {self.acts} no trial: it judges from epoch {self.first_epoch} on "
            f"(scheduler.{self.grace_setting}), and a trial has {epochs}"
        )

    def unfit(self, metric: Metric) -> str:
        """Why it makes no sense with a metric; empty where it does."""
        return ""

    def crowded(self, at_a_time: int, trials: int) -> str:
        """What a person should know where so many of the trials run at a time; empty where that
        does not matter to the rule."""
        return ""

    @property
    def kept_epochs(self) -> int:
        """The checkpoint after each so many epochs is kept, also of a trial that has ended: another
        trial may begin with it. 0: none is."""
        return 0


RULES: Table[StoppingRule] = Table("scheduler")
"""Makers: a function each, of the settings, the curves of all trials, a trial's number and the
metric's mode, that gives a `Verdict`. It must follow from these four, and not from the order in
which trials came. The reason of a `Stop` begins with the rule's name and the epoch, and has the
trial's value and the bound that it misses. `tests/search/test_rules_contract.py` runs over it."""


@RULES.row("ckconv_sweep.search.rules:asha")
class Asha(StoppingRule):
    """Asynchronous successive halving (Li et al. 2020): of the trials that reach an epoch
    `grace_epochs * reduction_factor^k`, one in `reduction_factor` goes on."""

    grace_setting: ClassVar[str | None] = "grace_epochs"
    name: Literal["asha"] = "asha"
    grace_epochs: Positive = 1
    """The epoch after which a trial is judged first."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """N: at each rung the best one in N trials continues; the next rung is N times as late."""

    @property
    def first_epoch(self) -> int:
        return self.grace_epochs

    def judges_from(self, epoch: int) -> int:
        return rung(epoch, self.grace_epochs, self.reduction_factor)


def rung(epoch: int, grace_epochs: int, reduction_factor: int) -> int:
    """The first rung of asha after which so many epochs, or more, have been trained."""
    while grace_epochs < epoch:
        grace_epochs *= reduction_factor
    return grace_epochs


@RULES.row("ckconv_sweep.search.rules:hyperband")
class Hyperband(StoppingRule):
    """Asynchronous Hyperband (Li et al. 2018, 2020): several asha side by side, the brackets. Each
    is judged first `reduction_factor` times as late as the one before it, and has fewer trials. A
    trial's bracket follows from its number."""

    grace_setting: ClassVar[str | None] = "grace_epochs"
    name: Literal["hyperband"] = "hyperband"
    grace_epochs: Positive = 1
    """The epoch after which a trial is judged first."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """N: at each rung the best one in N trials continues; the next rung is N times as late."""
    brackets: Annotated[int, Field(ge=1, le=10)] = 3
    """How many brackets there are; bracket k, from 0 on, is judged first after epoch
    `grace_epochs * reduction_factor^k`."""

    @property
    def first_epoch(self) -> int:
        return self.grace_epochs

    def judges_from(self, epoch: int) -> int:
        return rung(epoch, self.grace_epochs, self.reduction_factor)

    def grace_of(self, bracket: int) -> int:
        """The epoch after which the trials of a bracket are judged first."""
        grace: int = self.grace_epochs * self.reduction_factor**bracket
        return grace

    def bracket(self, number: int) -> int:
        """The bracket of a trial, from 0 on. Their shares are those of Hyperband's algorithm 1.
        The numbers go round the circle by the golden ratio, so that any few trials in a row, and
        also every third of them (repeats have numbers, too), are in the brackets by these shares,
        whatever period the sampler has."""
        last = self.brackets - 1
        trials = [  # s in the algorithm is last - k
            -(-self.brackets * self.reduction_factor**s // (s + 1)) for s in range(last, -1, -1)
        ]
        place = (number * _GOLDEN % 2**32) * sum(trials) >> 32
        for bracket, share in enumerate(trials):
            if place < share:
                return bracket
            place -= share
        raise AssertionError(number)

    def note(self, epochs: int) -> str:
        idle = [k for k in range(self.brackets) if self.grace_of(k) >= epochs]
        if not idle or len(idle) == self.brackets:
            return super().note(epochs)
        which = f"bracket {idle[0]}" if len(idle) == 1 else f"brackets {idle[0]} to {idle[-1]}"
        return (
            f"prunes no trial of {which}: it judges them from epoch {self.grace_of(idle[0])} on "
            f"(scheduler.brackets), and a trial has {epochs}"
        )


_GOLDEN = 2654435769
"""2^32 over the golden ratio."""


@RULES.row("ckconv_sweep.search.rules:percentile")
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

    @property
    def best_percent(self) -> float:
        """A trial must keep up with the worst of so many percent, the best, of the completed."""
        return 50.0


@RULES.row("ckconv_sweep.search.rules:percentile")
class Percentile(Median):
    """Stop a trial whose best value so far is worse than what the best `percentile` percent of the
    completed trials had at its epoch; otherwise as `median`, which is 50."""

    name: Literal["percentile"] = "percentile"  # type: ignore[assignment]
    percentile: Annotated[float, Field(gt=0.0, lt=100.0)] = 25.0
    """N: a trial must keep up with the best N % of the completed trials. A smaller N stops more
    trials."""

    @property
    def best_percent(self) -> float:
        return self.percentile


@RULES.row("ckconv_sweep.search.rules:threshold")
class Threshold(StoppingRule):
    """Stop a trial whose value after an epoch is worse than `bound`, whatever the others have."""

    grace_setting: ClassVar[str | None] = "warmup_epochs"
    needs_rivals: ClassVar[bool] = False
    name: Literal["threshold"] = "threshold"
    bound: float
    """The worst value of the metric with which a trial goes on."""
    warmup_epochs: NotNegative = 0
    """Epochs of a trial that are not judged."""

    @property
    def first_epoch(self) -> int:
        return self.warmup_epochs + 1

    def unfit(self, metric: Metric) -> str:
        low, high = METRICS[metric.name].bounds
        best = high if metric.mode == "max" else low
        if self.bound == best:
            which = f"only a trial with {best:g} goes on"
        elif low < self.bound < high:
            return ""
        else:
            beyond = (self.bound > best) if metric.mode == "max" else (self.bound < best)
            which = "no trial goes on" if beyond else "no trial is stopped"
        return f"bound {self.bound:g}: {which}, as {metric.name} is {_between(low, high)}"


def _between(low: float, high: float) -> str:
    if math.isinf(high):
        return f"{low:g} or more"
    return f"{high:g} or less" if math.isinf(low) else f"between {low:g} and {high:g}"


@RULES.row("ckconv_sweep.search.rules:patient")
class Patient(StoppingRule):
    """Another rule, which may only stop a trial whose value has not got better for some epochs. (A
    trial that has not got better ends by itself, as completed, where the trial has
    `training.early_stopping_epochs`; what this stops is pruned.)"""

    name: Literal["patient"] = "patient"
    epochs: Positive = 3
    """How many epochs in a row without a better value there must be before it may be stopped."""
    min_delta: NotNegativeReal = 0.0
    """A value is better if it is better by more than this."""
    rule: Annotated[StoppingRule, RULES] = Median()
    """The rule that it holds back, with its settings; not patient, none or pbt."""

    @field_validator("rule")
    @classmethod
    def _check_rule(cls, rule: StoppingRule) -> StoppingRule:
        if isinstance(rule, (Patient, NoScheduler)):
            raise ValueError(f"it must be another rule than patient and none, got {rule.name!r}")
        if rule.kept_epochs:
            raise ValueError(f"it must be a rule that stops trials, and {rule.name} replaces them")
        return rule

    @property
    def grace_setting(self) -> str | None:  # type: ignore[override]
        inner = self.rule.grace_setting
        held_back = inner is not None and self.rule.first_epoch > self.epochs + 1
        return f"rule.{inner}" if held_back else "epochs"

    @property
    def needs_rivals(self) -> bool:  # type: ignore[override]
        return self.rule.needs_rivals

    @property
    def first_epoch(self) -> int:
        return self.rule.judges_from(self.epochs + 1)

    def note(self, epochs: int) -> str:
        inner = self.rule.note(epochs).replace("(scheduler.", "(scheduler.rule.")
        return super().note(epochs) or inner

    def unfit(self, metric: Metric) -> str:
        return self.rule.unfit(metric)


@RULES.row("ckconv_sweep.search.rules:never")
class NoScheduler(StoppingRule):
    """Every trial runs to its end."""

    name: Literal["none"] = "none"


@RULES.row("ckconv_sweep.search.population:exploit")
class Pbt(StoppingRule):
    """Population based training (Jaderberg et al. 2017): every `interval_epochs` a trial among the
    worst ends, and a new one has its place. That begins with the checkpoint of a trial among the
    best, and with its settings, changed at random."""

    grace_setting: ClassVar[str | None] = "interval_epochs"
    acts: ClassVar[str] = "replace"
    name: Literal["pbt"] = "pbt"
    interval_epochs: Positive = 5
    """N: a trial is judged every N epochs."""
    fraction: Annotated[float, Field(gt=0.0, le=0.5)] = 0.2
    """Share of the trials at an epoch that counts as the worst, and as the best; at least one trial
    each."""
    resample_probability: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    """Probability that a setting is drawn anew. Otherwise it is multiplied by 0.8 or 1.2; a choice
    becomes one of its neighbours."""

    @property
    def first_epoch(self) -> int:
        return self.interval_epochs

    def crowded(self, at_a_time: int, trials: int) -> str:
        if at_a_time >= trials:
            return ""
        return (
            f"scheduler pbt: the {trials} trials of the population do not run side by side, so the "
            "first ones are compared with few others; more run at a time with --pack, or with a "
            "smaller --cpus-per-trial"
        )

    @property
    def kept_epochs(self) -> int:
        return self.interval_epochs
