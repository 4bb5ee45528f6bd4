"""A sweep in a few numbers, for `status`, `list` and `compare`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from ckconv_sweep.config.first import params_of
from ckconv_sweep.config.history import best
from ckconv_sweep.config.settings import short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.budget import asked, is_finished
from ckconv_sweep.record.fronts import fronts
from ckconv_sweep.record.seeds import by_setting, goal_trial, mean_of
from ckconv_sweep.record.trials import TrialRecord, listed

State = Literal["running", "interrupted", "finished"]
"""`running`: a driver holds the sweep. `finished`: its budget is spent, every trial has ended."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What `status --json` prints. Rejected trials are counted nowhere."""

    name: str
    state: State
    asked: int
    """Trials of the budget, or what its grid allows if that is less."""
    completed: int
    pruned: int
    """Stopped early."""
    continued: int
    """Replaced by a continuation of another trial, which is counted in its place."""
    failed: int
    unfinished: int
    metric: str
    best_trial: int | None
    """None, like all that begins with `best`, while no trial has completed."""
    best_value: float | None
    """Of `metric`, the primary one."""
    best_values: Mapping[str, float] | None
    """Each metric's at that epoch, by name."""
    best_epoch: int | None
    best_repeats: int | None
    """Of how many trials it is the mean; 1 without repeats."""
    best_params: Mapping[str, Any] | None
    """What was searched, in full precision."""
    started_at: str | None
    """When the first trial began: ISO 8601, UTC, in ms."""
    last_epoch_at: str | None
    """When the newest epoch ended."""


def winner(records: Sequence[TrialRecord], space: Space) -> TrialRecord | None:
    """The completed trial that ranks first, the earlier one of equals; where there are repeats the
    setting. None if none completed."""
    return next((record for record, _ in best_first(by_setting(records, space), space)), None)


def best_first(settings: Sequence[TrialRecord], space: Space) -> list[tuple[TrialRecord, int]]:
    """The completed ones of some trials or settings with their fronts, from 1. In their order: what
    has all its repeats; among several metrics front by front; on each by `standing`; of equal ones
    the earlier."""
    completed = [record for record in settings if record.outcome == "completed"]
    front = fronts([list(r.values(space.metrics).values()) for r in completed], space.metrics)
    return sorted(
        zip(completed, front, strict=True),
        key=lambda one: (one[0].lacks > 0, one[1], standing(one[0], space.metric), one[0].number),
    )


def standing(record: TrialRecord, metric: Metric) -> tuple[bool, bool, float, float]:
    """The key by which trials are ranked: lower is better, equal trials have the same. A setting
    that lacks seeds comes after those that have all. Of equal values that with the lower loss on
    that split is better."""
    sign, loss = -1.0 if metric.mode == "max" else 1.0, loss_beside(metric)
    values = record.values((metric, loss) if loss.name in record.history[-1].metrics else (metric,))
    value, beside = values[metric.name], values.get(loss.name, 0.0)
    return record.outcome != "completed", record.lacks > 0, sign * value, beside


def loss_beside(metric: Metric) -> Metric:
    """The loss on the split of a metric."""
    return Metric(name=f"{metric.name.partition('/')[0]}/loss", mode="min")


def ties_in_words(records: Sequence[TrialRecord], space: Space) -> list[str]:
    """A line that names the completed trials that are as good as the best one; none if it is
    alone."""
    best, metric = winner(records, space), space.metric
    if best is None or space.further:  # then the front decides
        return []
    tied = [
        record.number
        for record in by_setting(records, space)
        if record.outcome == "completed"
        and standing(record, metric)[:3] == standing(best, metric)[:3]
    ]
    if len(tied) == 1:
        return []
    loss = loss_beside(metric).name
    first = "the earlier" if loss == metric.name else f"the lower {loss}"
    told = f"{metric.name} {best.value(metric):.4g}"
    return [f"trials {listed(tied)} tie: {told}; {first} ranks first"]


def base_in_words(records: Sequence[TrialRecord], space: Space) -> list[str]:
    """A line that tells how good the base trial's own settings are beside the others; none where
    they were not tried."""
    try:
        base = params_of(space, space.trial)
    except ConfigError:
        return []
    records = by_setting(records, space)
    for record in records:
        if record.params != base or record.outcome == "running":
            continue
        told: str = record.outcome if record.counts else f"rejected, {record.error}"
        if record.outcome == "completed":
            order = [r.number for r, _ in best_first(records, space)]
            value = record.value(space.metric)
            told = f"{space.metric.name} {value:.4f}, rank {1 + order.index(record.number)}"
            told += f" of {len(order)}"
        return [f"the base trial's own settings ({trial_name(record.number)}): {told}"]
    return []


def goal_in_words(records: Iterable[TrialRecord], space: Space) -> list[str]:
    """A line that names a trial that reaches the budget's goal; none where none does, or there is
    no goal."""
    if (goal := space.goal) is None or (reached := goal_trial(records, space)) is None:
        return []
    value, name = reached.values(space.metrics)[goal.quantity], trial_name(reached.number)
    return [f"the goal {space.budget.goal} is reached: {name} has {value:.4f}"]


def added_in_words(records: Iterable[TrialRecord], space: Space) -> list[str]:
    """A line on the trials that people added: which ones try a failed one again, and with what
    changes; none where the sweep has tried all by itself."""
    told = []
    for record in (record for record in records if record.request and record.counts):
        again = [] if record.retry_of is None else [f"{trial_name(record.retry_of)} once more"]
        names = short_names(record.changes)
        said = again + [f"{names[path]}={value}" for path, value in record.changes.items()]
        told.append(trial_name(record.number) + f" ({', '.join(said)})" * bool(said))
    return [f"added by hand: {', '.join(told)}"] if told else []


SAID = (ties_in_words, base_in_words, goal_in_words, added_in_words)
"""Each gives lines about a sweep's trials; none where there is nothing to say."""


def state_of(records: Sequence[TrialRecord], space: Space, *, held: bool) -> State:
    """`held` says whether a driver holds the sweep's lock."""
    return "running" if held else "finished" if is_finished(records, space) else "interrupted"


def summarize(
    name: str,
    records: Sequence[TrialRecord],
    space: Space,
    *,
    held: bool,
    rejections: int | None = None,
) -> Summary:
    """A sweep in a few numbers; `held` as in `state_of`, `rejections` as in `asked`."""
    counted = [r for r in records if r.counts]
    outcomes = Counter(r.outcome for r in counted)
    won = winner(counted, space)
    values = dict(won.values(space.metrics)) if won else None
    return Summary(
        name=name,
        state=state_of(records, space, held=held),
        asked=asked(records, space, rejections),
        completed=outcomes["completed"],
        pruned=outcomes["pruned"],
        continued=outcomes["continued"],
        failed=outcomes["failed"],
        unfinished=outcomes["running"],
        metric=space.metric.name,
        best_trial=won.number if won else None,
        best_value=values[space.metric.name] if values else None,
        best_values=values,
        best_epoch=best(won.history, space.metric).number if won else None,
        best_repeats=mean_of(won) if won else None,
        best_params=dict(won.params) if won else None,
        started_at=_iso(min((r.started_ms for r in counted), default=None)),
        last_epoch_at=_iso(max((e.timestamp_ms for r in counted for e in r.history), default=None)),
    )


def _iso(ms: int | None) -> str | None:
    if ms is None:
        return None
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
