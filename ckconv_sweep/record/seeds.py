"""Settings that are trained several times, with other seeds or folds: which trials belong to one,
what it is judged by, and which comes next. All of it follows from the records."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from ckconv_sweep.config.metrics import SECONDS
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.trials import TrialRecord


@dataclass(frozen=True, kw_only=True)
class Repeated(TrialRecord):
    """A setting and its trials. What only one trial has is the first one's, as its number, or that
    of the first one that has completed, as its epochs."""

    seeds: tuple[TrialRecord, ...]
    """Its trials, the first one included."""
    asked: int
    """With how many seeds it is to be trained to be ranked."""

    @functools.cached_property
    def completed(self) -> tuple[TrialRecord, ...]:
        return tuple(record for record in self.seeds if record.outcome == "completed")

    @property
    def lacks(self) -> int:
        return max(0, self.asked - len(self.completed))

    def values(self, metrics: Sequence[Metric]) -> Mapping[str, float]:
        """The means over the completed trials; the first one's own where there are none."""
        several = [record.values(metrics) for record in self.completed]
        if not several:
            return super().values(metrics)
        return {m.name: sum(one[m.name] for one in several) / len(several) for m in metrics}


def by_setting(records: Iterable[TrialRecord], space: Space) -> list[TrialRecord]:
    """The records, or where a space has repeats one a setting, in the order of their first trials.
    A setting has completed if one of its trials has; else it is as its first one."""
    if space.repeats is None:
        return list(records)
    groups: dict[int, list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(_setting(record), []).append(record)
    return [_together(group, space.repeats.times) for _, group in sorted(groups.items())]


def goal_trial(records: Iterable[TrialRecord], space: Space) -> TrialRecord | None:
    """The first that reaches the budget's goal: a setting where all are repeated, for which it
    needs all its seeds, else a trial: what was reached stays reached when that is repeated."""
    goal, judged = space.goal, by_setting(records, space) if space.all_repeated else records
    if goal is None:
        return None
    completed = (r for r in judged if r.outcome == "completed" and not r.lacks)
    return next((r for r in completed if goal.holds(r.values(space.metrics)[goal.quantity])), None)


def mean_of(record: TrialRecord) -> int:
    """Of how many trials its values are the mean."""
    return max(1, len(record.completed)) if isinstance(record, Repeated) else 1


def trained_one(record: TrialRecord) -> TrialRecord:
    """The trial whose settings and weights stand for it: of a setting the first that completed,
    because its first trial may have failed."""
    completed = record.completed if isinstance(record, Repeated) else ()
    return completed[0] if completed else record


def trials_of(record: TrialRecord) -> tuple[TrialRecord, ...]:
    """Those of a setting, or the trial itself."""
    return record.seeds if isinstance(record, Repeated) else (record,)


def training_seconds(record: TrialRecord) -> float:
    """How long its epochs took, those of all its attempts."""
    epochs = [epoch for one in trials_of(record) for epoch in one.history]
    return sum(e.metrics.get(SECONDS, 0.0) for e in epochs)


def as_seen(records: Iterable[TrialRecord], space: Space) -> list[TrialRecord]:
    """The records as samplers see them: each setting once. Where all are repeated it runs until all
    its seeds have ended, and is pruned if one of them was."""
    settings = by_setting(records, space)
    return [_seen(s, space) if isinstance(s, Repeated) else s for s in settings]


def _seen(setting: Repeated, space: Space) -> TrialRecord:
    again = {record.retry_of for record in setting.seeds}
    outcomes = {record.outcome for record in setting.seeds if record.number not in again}
    if space.all_repeated:
        whole = not setting.lacks or outcomes & {"pruned", "failed"}
        if "running" in outcomes or not whole:
            return replace(setting, outcome="running")
        for record in setting.seeds:
            if record.outcome == "pruned":
                return replace(record, number=setting.number, changes=setting.changes)
    return setting


def _setting(record: TrialRecord) -> int:
    return record.number if record.repeat_of is None else record.repeat_of


def _together(group: Sequence[TrialRecord], asked: int) -> Repeated:
    first = min(group, key=lambda record: record.number)
    told = next((record for record in group if record.outcome == "completed"), first)
    own = {field.name: getattr(told, field.name) for field in fields(TrialRecord)}
    own |= {name: getattr(first, name) for name in _OF_FIRST}
    return Repeated(**own, seeds=tuple(group), asked=asked)


_OF_FIRST = (
    *("number", "started_ms", "position", "first"),
    *("repeat_of", "request", "retry_of", "changes"),
)
"""What a setting has of its first trial; all else is of the first one that has completed."""


class Seeds:
    """How far each setting is, while trials begin and end.

    Args:
        records: of the sweep; those that were rejected are left out.
    """

    def __init__(self, space: Space, records: Iterable[TrialRecord] = ()) -> None:
        self._space = space
        self._begun = 0
        self._trials: dict[int, list[int]] = {}
        """Those of each setting, by the number of the first."""
        self._running: dict[int, int] = {}
        """The setting of each trial that has not ended."""
        self._dead: dict[int, int] = {}
        """The setting of each trial that was pruned or has failed and is not tried again. Such a
        setting is not repeated further."""
        self._short: set[int] = set()
        """Settings with repeats to come, where all are repeated."""
        self._losses: dict[int, float] = {}
        """What the first trial of a setting has reached, if it has completed, where the best are
        repeated; lower is better."""
        for record in records:
            if record.counts:
                self.begin(record.number, record.repeat_of, record.retry_of, record.replaces)
                if record.outcome != "running":
                    values = record.values(space.metrics) if self._top is not None else {}
                    self.end(record.number, record.outcome, values)

    def begin(
        self,
        number: int,
        repeat_of: int | None,
        retry_of: int | None = None,
        replaces: int | None = None,
    ) -> None:
        """A trial begins. A repeat that tries a failed one again takes its place. A continuation is
        no further trial: it has the place of the one that it replaces."""
        setting = number if repeat_of is None else repeat_of
        self._running[number] = setting
        self._begun += replaces is None or retry_of is not None
        trials = self._trials.setdefault(setting, [])
        if retry_of in trials:
            trials.remove(retry_of)
            self._dead.pop(retry_of, None)
        trials.append(number)
        self._weigh(setting)

    def end(self, number: int, outcome: Outcome, values: Mapping[str, float]) -> None:
        """A trial has ended. `values`: what it is judged by."""
        setting = self._running.pop(number)
        if outcome != "completed":
            self._dead[number] = setting
        elif number == setting and self._top is not None:
            metric = self._space.metric
            self._losses[setting] = values[metric.name] * (-1 if metric.mode == "max" else 1)
        self._weigh(setting)

    def reject(self, number: int) -> None:
        """A trial that has begun is none."""
        self._begun -= number in self._running
        self._trials.pop(self._running.pop(number, number), None)
        self._short.discard(number)

    def next(self, *, all_drawn: bool) -> int | None:
        """The first trial of the setting that is to be trained with another seed now. `all_drawn`:
        whether no new setting will be tried."""
        if self._short:
            return min(self._short)
        if self._top is None or not all_drawn or self._first_trials_running:
            return None
        return next((setting for setting in self._best() if self._lacking(setting)), None)

    def of(self, setting: int) -> list[int]:
        """Its trials that have begun, but for those that were tried again."""
        return self._trials[setting]

    def left(self, new: int = 0) -> int:
        """How many repeats may still begin, at most, if so many new settings do."""
        repeats = self._space.repeats
        if repeats is None:
            return 0
        if repeats.top is None:
            return sum(map(self._lacking, self._short)) + new * (repeats.times - 1)
        if waiting := new + self._first_trials_running:
            return min(repeats.top, waiting + len(self._losses)) * (repeats.times - 1)
        return sum(map(self._lacking, self._best()))

    def asked(self, new: int) -> int:
        """How many trials there are in all, at most, if so many new settings begin."""
        return self._begun + new + self.left(max(0, new))

    @property
    def _top(self) -> int | None:
        return None if self._space.repeats is None else self._space.repeats.top

    @property
    def _first_trials_running(self) -> int:
        return sum(number == setting for number, setting in self._running.items())

    def _weigh(self, setting: int) -> None:
        alive = self._space.all_repeated and setting not in self._dead.values()
        if alive and self._lacking(setting):
            self._short.add(setting)
        else:
            self._short.discard(setting)

    def _lacking(self, setting: int) -> int:
        assert self._space.repeats is not None
        return max(0, self._space.repeats.times - len(self._trials[setting]))

    def _best(self) -> list[int]:
        """The settings that are worth it, by what their first trials have reached: repeats do not
        change which these are."""
        dead = set(self._dead.values())
        order = sorted(self._losses, key=lambda setting: (self._losses[setting], setting))
        return [setting for setting in order[: self._top] if setting not in dead]
