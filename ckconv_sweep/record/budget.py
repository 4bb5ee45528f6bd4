"""How much of a sweep's budget is spent, as its records tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ckconv_sweep.config.grid import exhausted, most_settings
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.seeds import Seeds, goal_trial
from ckconv_sweep.record.trials import TrialRecord, next_position, rejected


def asked(records: Sequence[TrialRecord], space: Space, rejections: int | None = None) -> int:
    """How many trials a sweep can still have in all, those that have begun included.

    Args:
        rejections: how many draws were rejected, where the records do not tell.
    """
    lost = rejected(records) if rejections is None else rejections
    new = most_settings(space, lost) - sum(r.is_of_budget for r in records)
    return Seeds(space, records).asked(new)


def is_finished(records: Sequence[TrialRecord], space: Space) -> bool:
    """Whether the budget of trials, or the grid, is spent, or the goal is reached, and every trial
    has ended, repeats included."""
    counted = [record for record in records if record.counts]
    spent = (
        sum(record.is_of_budget for record in counted) >= space.budget.trials
        or exhausted(space, next_position(records))
        or goal_trial(counted, space) is not None
    )
    return (
        spent
        and all(record.outcome != "running" for record in counted)
        and (space.repeats is None or not Seeds(space, counted).left())
    )


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
