"""A sweep in a few numbers, for `status` and `list`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ckconv_sweep.config.history import best
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.study import TrialRecord, is_finished


@dataclass(frozen=True, kw_only=True)
class Summary:
    """`state` is running (a driver holds the sweep), finished, or interrupted."""

    name: str
    state: str
    asked: int
    completed: int
    pruned: int
    failed: int
    unfinished: int
    metric: str
    best_trial: int | None
    best_value: float | None
    best_epoch: int | None


def winner(records: Sequence[TrialRecord], space: Space) -> TrialRecord | None:
    """The completed trial with the best metric, the earlier one of equals; None if none
    completed."""
    chosen: TrialRecord | None = None
    for record in records:
        if record.outcome != "completed":
            continue
        if chosen is None or space.metric.better(_value(record, space), _value(chosen, space)):
            chosen = record
    return chosen


def summarize(name: str, records: Sequence[TrialRecord], space: Space, *, held: bool) -> Summary:
    """A sweep in a few numbers; `held` says whether a driver holds its lock."""
    counted = [r for r in records if r.counts]
    outcomes = Counter(r.outcome for r in counted)
    best_record = winner(counted, space)
    chosen = best(best_record.history, space.metric) if best_record else None
    return Summary(
        name=name,
        state="running" if held else "finished" if is_finished(records, space) else "interrupted",
        asked=space.budget.trials,
        completed=outcomes["completed"],
        pruned=outcomes["pruned"],
        failed=outcomes["failed"],
        unfinished=outcomes["running"],
        metric=space.metric.name,
        best_trial=best_record.number if best_record else None,
        best_value=chosen.metrics[space.metric.name] if chosen else None,
        best_epoch=chosen.number if chosen else None,
    )


def _value(record: TrialRecord, space: Space) -> float:
    return best(record.history, space.metric).metrics[space.metric.name]
