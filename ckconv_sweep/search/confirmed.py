"""What a sweep's confirmation says: which setting leads, what cannot be told apart from it, which
of these is offered, how much of the search's number was luck, and what the test split said.

How settings are compared: `search.confirming`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record import trained_data
from ckconv_sweep.record.confirmation import Confirmation, Opening, noted, openings
from ckconv_sweep.record.seeds import by_setting, training_seconds
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import BASE, TrialRecord, trial_of
from ckconv_sweep.search.confirming import (
    FEWEST,
    Difference,
    is_over,
    is_worse,
    leader_of,
    paired,
    values_of,
)
from ckconv_sweep.search.intervals import Interval, interval_of_mean


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting and what its fresh seeds reached. All values are in the metric's own units."""

    number: int
    """The trial of the search whose setting it is; `BASE` of the base trial."""
    params: Mapping[str, Any]
    """What was searched; of the base trial nothing."""
    metric: Metric
    records: tuple[TrialRecord, ...]
    """Its trials of the confirmation, by seed."""
    values: Mapping[int, float]
    """What each completed one reached, by `seed_index`."""
    difference: Difference | None
    """This minus the leader, over the seeds that both completed; None of the leader itself, and of
    less than two pairs."""
    tied: bool
    """Whether it is the leader, or cannot be told apart from it: three pairs or more, and it is not
    known to be worse."""
    search_value: float | None
    """What the search said of it; of the base trial None."""
    parameters: int | None
    """Trainable numbers of its model; None where that cannot be counted without its data."""

    @property
    def mean(self) -> float:
        """Over the completed seeds; NaN without one."""
        return math.fsum(self.values.values()) / len(self.values) if self.values else math.nan

    @functools.cached_property
    def _interval(self) -> tuple[float, float]:
        return interval_of_mean(list(self.values.values()), self.metric)

    @property
    def low(self) -> float:
        """Of the mean's 95 % interval (Student t); NaN with less than two seeds."""
        return self._interval[0]

    @property
    def high(self) -> float:
        return self._interval[1]

    @property
    def seconds(self) -> float | None:
        """How long the training of one seed took, the mean over the completed ones."""
        took = [training_seconds(r) for r in self.records if r.outcome == "completed"]
        return math.fsum(took) / len(took) if took else None

    @property
    def lost(self) -> tuple[TrialRecord, ...]:
        """Its trials that ended without completing, of seeds that no other trial completed or
        trains."""
        alive = {r.seed_index for r in self.records if r.outcome in ("completed", "running")}
        return tuple(record for record in self.records if record.seed_index not in alive)

    @property
    def shrinkage(self) -> Interval | None:
        """By how much the search's number was better than the mean over fresh seeds; below 0 where
        it was worse. Its 95 % interval is that of the mean. None without two seeds."""
        if self.search_value is None or len(self.values) < 2:
            return None
        lost = Interval(
            self.search_value - self.mean,
            self.search_value - self.high,
            self.search_value - self.low,
            len(self.values),
        )
        return lost if self.metric.mode == "max" else lost.negated()

    @property
    def size(self) -> float:
        """`parameters`, where they are compared: what is not known is larger than all."""
        return math.inf if self.parameters is None else self.parameters


FASTER = 0.8
"""Of equally small settings the fastest is offered instead of the best mean if it takes at most so
much of its time: seconds that differ by less are the machine's, not the setting's."""


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """What a confirmation says so far, or in the end."""

    plan: Confirmation
    metric: Metric
    settings: tuple[Setting, ...]
    """The leader first, then the best mean; those with fewer than three completed seeds come
    last."""
    leader: Setting | None
    """See `leader_of`; None before one has three seeds."""
    offered: Setting | None
    """Of the tie the smallest; of several by `FASTER`. One that lost a seed only where there is no
    other. Once the test split was opened it is the setting for which that was done."""
    control: Setting | None
    """The base trial's setting, which may be one of `settings`."""
    finished: bool
    openings: tuple[Opening, ...]
    """Of the test split, oldest first, those of `evaluate` included."""

    @property
    def test(self) -> tuple[Opening, ...]:
        """What `confirm` scored on the test split: the winner, and the control if that is another
        one; empty as long as it did not."""
        return tuple(opening for opening in self.openings if opening.by == "confirm")

    @property
    def winner(self) -> int | None:
        """The setting that is fixed: for it the test split was opened, or nothing is left to be
        trained. None before that."""
        is_fixed = self.finished or bool(self.test)
        return self.offered.number if is_fixed and self.offered else None

    @property
    def tie(self) -> tuple[Setting, ...]:
        """The leader and what cannot be told apart from it."""
        return tuple(setting for setting in self.settings if setting.tied)

    @property
    def shrinkage(self) -> Interval | None:
        """Of the search's winner."""
        first = self.plan.settings[0]
        return next((s.shrinkage for s in self.settings if s.number == first), None)

    @property
    def versus_base(self) -> Difference | None:
        """What is offered minus the base trial, by seed; None where it is the base trial itself."""
        if self.offered is None or self.control is None:
            return None
        if self.control.number == self.offered.number:
            return None
        return paired(self.offered.values, self.control.values)


def confirmed_in(study: Study, data_dir: Path | None = None) -> Confirmed | None:
    """`confirmed`, with models counted by PyTorch, which is imported only where one was begun.

    Args:
        data_dir: where datasets lie; None: where they lay in the last session.
    """
    if noted(study.notes()) is None:
        return None
    from ckconv_sweep.models.parameters import parameters_of

    place = data_dir or trained_data.folder_of(study)
    return confirmed(study, functools.partial(parameters_of, data_dir=place))


def confirmed(study: Study, count_parameters: Callable[[Trial], int]) -> Confirmed | None:
    """What a sweep's confirmation says; None where none was begun. Also while it runs.

    Args:
        count_parameters: the number of trainable numbers of a trial's model. It may raise
            ConfigError where that needs data that are not there.
    """
    notes = study.notes()
    plan, metric = noted(notes), study.space.metric
    if plan is None:
        return None
    every = study.every_trial()
    records = [record for record in every if record.confirms is not None]
    values = values_of(records, metric)
    best = leader_of(plan, values, metric)
    searched = _searched(study, every)

    def setting(number: int) -> Setting:
        own = values.get(number, {})
        record = searched.get(number)
        difference = paired(own, values[best]) if best is not None and number != best else None
        pairs = 0 if difference is None else difference.count
        return Setting(
            number=number,
            params=record.params if record else {},
            metric=metric,
            records=_of_setting(records, number),
            values=own,
            difference=difference,
            tied=number == best or (pairs >= FEWEST and not is_worse(difference, metric)),
            search_value=record.value(metric) if record and record.history else None,
            parameters=_parameters(study, number, count_parameters),
        )

    settings = sorted(map(setting, plan.settings), key=functools.partial(_order, best, metric))
    by_number = {one.number: one for one in settings}
    known = tuple(openings(notes))
    fixed = next((opening.confirms for opening in known if opening.by == "confirm"), None)
    return Confirmed(
        plan=plan,
        metric=metric,
        settings=tuple(settings),
        leader=None if best is None else by_number[best],
        offered=offered([one for one in settings if one.tied])
        if fixed is None
        else by_number[fixed],
        control=None
        if plan.control is None
        else by_number.get(plan.control) or setting(plan.control),
        finished=is_over(plan, records, metric),
        openings=known,
    )


def offered(tie: Sequence[Setting]) -> Setting | None:
    """Which of a tie, best mean first, is offered."""
    return cheapest([setting for setting in tie if not setting.lost] or tie)


def cheapest(settings: Sequence[Setting]) -> Setting | None:
    """The smallest; of several the fastest or the first, by `FASTER`."""
    if not settings:
        return None
    size = min(setting.size for setting in settings)
    first, *_ = small = [setting for setting in settings if setting.size == size]
    fastest = min(small, key=_seconds)
    return fastest if _seconds(fastest) <= FASTER * _seconds(first) else first


def _seconds(setting: Setting) -> float:
    return math.inf if setting.seconds is None else setting.seconds


def _order(leader: int | None, metric: Metric, setting: Setting) -> tuple[bool, bool, bool, float]:
    sign, completed = -1.0 if metric.mode == "max" else 1.0, len(setting.values)
    mean = sign * setting.mean if completed else 0.0
    return completed < FEWEST, not completed, setting.number != leader, mean


def _searched(study: Study, every: Sequence[TrialRecord]) -> dict[int, TrialRecord]:
    """The search's trials by number; of one that it repeated, the mean over its seeds."""
    records = [record for record in every if record.confirms is None]
    own = {record.number: record for record in records}
    return own | {record.number: record for record in by_setting(records, study.space)}


def _of_setting(records: Sequence[TrialRecord], number: int) -> tuple[TrialRecord, ...]:
    own = [record for record in records if record.confirms == number]
    return tuple(sorted(own, key=lambda record: (record.seed_index or 0, record.number)))


def _parameters(study: Study, number: int, count_parameters: Callable[[Trial], int]) -> int | None:
    try:
        if number == BASE:
            return count_parameters(study.space.trial)
        return count_parameters(trial_of(study.trial(number), study.space))
    except ConfigError:
        return None
