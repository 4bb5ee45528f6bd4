"""What a study knows of its trials, as plain values: for whoever does not open it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ckconv_sweep.config.grid import exhausted
from ckconv_sweep.config.history import Epoch, Verdict, objectives
from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import REASON_CONSTRAINT, Outcome


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
    verdict: Verdict | None = None
    """What the stopping rule answered after the last epoch; None where it was not asked."""

    @property
    def counts(self) -> bool:
        """Whether it is part of the budget; a rejected trial is not."""
        return self.reason != REASON_CONSTRAINT


def rejected(records: Iterable[TrialRecord]) -> int:
    """How many draws were rejected."""
    return sum(not record.counts for record in records)


def is_finished(records: Sequence[TrialRecord], space: Space) -> bool:
    """Whether the budget of trials, or the grid, is spent, or the goal is reached, and every trial
    has ended."""
    counted = [record for record in records if record.counts]
    spent = (
        len(counted) >= space.budget.trials
        or exhausted(space, next_position(records))
        or any(reaches_goal(record, space) for record in counted)
    )
    return spent and all(record.outcome != "running" for record in counted)


def reaches_goal(record: TrialRecord, space: Space) -> bool:
    """Whether a trial has completed and is as good as the budget's goal, if that has one."""
    goal = space.goal
    if goal is None or record.outcome != "completed":
        return False
    return goal.holds(objectives(record.history, space.metrics)[goal.quantity])


def over(spent_seconds: float, hours: float | None) -> bool:
    """Whether so many seconds are as many hours, if there is such a bound."""
    return hours is not None and spent_seconds >= hours * 3600


def hours_are_up(records: Sequence[TrialRecord], space: Space) -> bool:
    """Whether the sessions up to now spent the hours, or the GPU-hours, of the budget."""
    spent = max((record.spent_seconds for record in records), default=0.0)
    return over(spent, space.budget.hours) or gpu_hours_are_up(records, space)


def gpu_hours_are_up(records: Iterable[TrialRecord], space: Space) -> bool:
    """Whether the trials used the GPU-hours of the budget."""
    return over(sum(record.gpu_seconds for record in records), space.budget.gpu_hours)


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
