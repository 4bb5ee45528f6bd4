"""What a study knows of its trials, as plain values: for whoever does not open it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ckconv_sweep.config.history import Epoch, Verdict, objectives
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import REASON_CONSTRAINT, Outcome

BASE = -1
"""Stands for the base trial where a number names the setting that is confirmed."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What the study knows of one trial."""

    number: int
    outcome: Outcome
    params: Mapping[str, Any]
    history: tuple[Epoch, ...]
    reason: str = ""
    error: str = ""
    started_ms: int = 0
    ended_ms: int | None = None
    sessions: tuple[int, ...] = ()
    """The number of the driver's session in which each epoch was acknowledged."""
    data: tuple[str, ...] = ()
    """The digest of the data on which each epoch was trained; empty where that was not noted."""
    spent_seconds: float = 0.0
    """How long the sweep had run in all its sessions when the last epoch was acknowledged."""
    gpu_seconds: float = 0.0
    """How long its epochs were trained, times the GPUs, or the part of one, that it had."""
    position: int | None = None
    """How many trials the sampler had drawn before it; None where it did not draw it."""
    first: int | None = None
    """Its place among those of `space.first`; None where it is none of them."""
    repeat_of: int | None = None
    """The number of the trial whose setting it repeats with another seed."""
    request: str = ""
    """The name of the request by which a person added it; empty where the sweep tried it by
    itself."""
    retry_of: int | None = None
    """The failed trial that it is once more, if so."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """The settings that it has beside the space, by path."""
    replaces: int | None = None
    """The continued trial whose place it has; None where it is no continuation."""
    from_trial: int | None = None
    """The trial with whose checkpoint a continuation begins."""
    from_epoch: int | None = None
    """The epoch after which that was written: its own epochs follow."""
    confirms: int | None = None
    """The trial of the search whose setting it trains again with a fresh seed, `BASE` for the base
    trial; None of a trial of the search itself."""
    seed_index: int | None = None
    """Which of the fresh seeds it has, from 0; trials with the same one are compared in pairs."""
    verdict: Verdict | None = None
    """What the stopping rule answered after the last epoch; None where it was not asked."""

    @property
    def origin(self) -> dict[str, Any]:
        """Why it was tried, if the sampler did not draw it: `repeat_of`, of a continuation
        `replaces`, `from_trial` and `from_epoch`, of a confirmation `confirms` and `seed_index`,
        and if a person asked for it `request`, `retry_of` and `changes`, as far as there is
        something to say."""
        kept = {
            "repeat_of": self.repeat_of,
            "request": self.request,
            "retry_of": self.retry_of,
            "changes": dict(self.changes),
            "replaces": self.replaces,
            "from_trial": self.from_trial,
            "from_epoch": self.from_epoch,
            "confirms": self.confirms,
            "seed_index": self.seed_index,
        }
        return {name: value for name, value in kept.items() if value not in ("", None, {})}

    @property
    def counts(self) -> bool:
        """Whether it is part of the budget; a rejected trial is not."""
        return self.reason != REASON_CONSTRAINT

    @property
    def told(self) -> str:
        """What a person is told of its outcome: a rejected trial has failed for the study alone."""
        return self.outcome if self.counts else "rejected"

    @property
    def lacks(self) -> int:
        """How many trials its setting lacks to be ranked."""
        return 0

    @property
    def is_of_budget(self) -> bool:
        """Whether it is one of the trials that the budget counts. A trial and what continues it
        count once."""
        return self.counts and self.is_new and not self.request

    @property
    def is_new(self) -> bool:
        """Whether it begins with new weights and a setting of its own."""
        return self.repeat_of is None and self.replaces is None

    @property
    def teaches(self) -> bool:
        """Whether a sampler may learn from it: its settings are of the space, and what it reached
        is due to them alone."""
        return not self.changes and self.replaces is None

    @property
    def last_epoch(self) -> int:
        """The number of the last epoch that it, or what it continues, was trained."""
        return self.history[-1].number if self.history else self.from_epoch or 0

    def epochs_after(self, number: int) -> int:
        """How many of its epochs come after that of this number."""
        return sum(epoch.number > number for epoch in self.history)

    def values(self, metrics: Sequence[Metric]) -> Mapping[str, float]:
        """What it is judged by: each metric's value, by name; empty before its first epoch."""
        return objectives(self.history, metrics)

    def value(self, metric: Metric) -> float:
        """Of one metric. Raises KeyError before its first epoch."""
        return self.values((metric,))[metric.name]


def given(params: Mapping[str, Any], origin: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of a trial's settings: not the base trial's, and no fresh seed. `origin`: as of
    TrialRecord."""
    told = {**params, **origin.get("changes", {})}
    if "confirms" in origin:
        told.pop("training.seed", None)
    return told


def rejected(records: Iterable[TrialRecord]) -> int:
    """How many draws were rejected."""
    return sum(not record.counts for record in records)


def trial_of(record: TrialRecord, space: Space) -> Trial:
    """All settings of a trial. Raises ConfigError if they make none."""
    if record.confirms == BASE:  # the space may not have its settings
        return space.base(record.number, record.changes)
    return space.resolve(record.params, record.number, record.changes)


def check_runs(records: Sequence[TrialRecord], number: int) -> None:
    """Raises ConfigError if a trial is not there, or has ended."""
    record = numbered(records, number)
    if record.outcome != "running":
        raise ConfigError(f"trial {number} has ended already: {record.told}")


def check_failed(records: Sequence[TrialRecord], number: int) -> None:
    """Raises ConfigError if a trial is not there, has not failed, or is tried again already."""
    record = numbered(records, number)
    if record.outcome != "failed" or not record.counts:
        raise ConfigError(f"trial {number} has not failed: {record.told}")
    for again in records:
        if again.retry_of == number:
            raise ConfigError(f"trial {number} is tried again already, as trial {again.number}")


def numbered(records: Sequence[TrialRecord], number: int) -> TrialRecord:
    """The trial of a number. Raises ConfigError if there is none."""
    for record in records:
        if record.number == number:
            return record
    hint = f"there are 0 to {records[-1].number}" if records else "none has begun"
    if isinstance(number, str):  # from Python; the command line reads `t017`
        hint = "give its number, as in 17"
    raise ConfigError(f"there is no trial {number!r}", hint=hint)


def next_position(records: Iterable[TrialRecord]) -> int:
    """How many trials the sampler has drawn, those that were rejected included."""
    return 1 + max((r.position for r in records if r.position is not None), default=-1)


def next_first(records: Iterable[TrialRecord]) -> int:
    """How many of the trials of `space.first` have begun, those that were rejected included."""
    return 1 + max((r.first for r in records if r.first is not None), default=-1)


def listed(numbers: Sequence[int], most: int = 10) -> str:
    """Trials by their numbers, for a sentence: the first of them where there are many."""
    first = ", ".join(map(str, numbers[:most]))
    others = len(numbers) - most
    return first if others <= 0 else f"{first} and {others:,} other{'s' * (others > 1)}"
