"""How far a sweep is: what has ended, what runs, the best so far, the pace, and the time left.

All of it follows from the trials' records and events, and every time from when epochs ended. So
whoever reads the study sees the numbers that the driver shows, the start of Ray is no training
time, and nothing here depends on where trials run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ckconv_sweep.config.grid import most_settings
from ckconv_sweep.config.history import Epoch, best
from ckconv_sweep.config.metrics import SECONDS
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.confirmation import Confirmation
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Rejected, Started
from ckconv_sweep.record.seeds import Seeds
from ckconv_sweep.record.trials import TrialRecord, given
from ckconv_sweep.report.spent import asked_epochs


@dataclass
class Unfinished:
    """A trial that has not ended."""

    params: Mapping[str, Any]
    epochs: int
    """How many it runs in all."""
    before: int
    """How many it, or what it continues, had before the newest session with epochs."""
    done: int
    runs: bool = False
    """Whether it was handed out in this session."""
    epoch: Epoch | None = None
    """The last one that was heard of."""
    best: float | None = None

    @property
    def share(self) -> float:
        """How much of it is done."""
        return self.done / self.epochs

    @property
    def share_now(self) -> float:
        """How much of it was done in the newest session with epochs."""
        return (self.done - self.before) / self.epochs


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best value of the primary metric so far, also of a trial that was pruned later."""

    value: float
    trial: int
    epoch: int
    params: Mapping[str, Any]


class Progress:
    """What is known of a sweep, or of a trial that runs alone.

    Pace and time left are those of the newest session that has epochs, from the beginning of its
    first epoch to the end of its last: breaks between sessions count for nothing, and a resumed
    sweep shows the last session's pace until it has its own.

    Args:
        metrics: the primary one first.
        space: of the sweep; None for a trial that runs alone.
        rejected: as in `most_settings`.
        plan: of a confirmation, whose trials these are then.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        space: Space | None = None,
        rejected: int = 0,
        plan: Confirmation | None = None,
    ) -> None:
        self.plan = plan
        self._metric = metrics[0]
        self._at_best = metrics[0].model_copy(update={"at": "best"})
        self._space = space
        self._most = None if space is None else most_settings(space, rejected)
        self.begin(())

    def begin(self, records: Sequence[TrialRecord]) -> None:
        """Forget everything but what these records say: all of the sweep that count."""
        self._tried = sum(record.is_of_budget for record in records)
        self.counts = Counter[Outcome]()
        """How many trials ended in each way."""
        self.unfinished: dict[int, Unfinished] = {}
        self.best: Best | None = None
        self._seeds = Seeds(self._space, records) if self._space and not self.plan else None
        self._session = max((s for r in records for s in r.sessions), default=0)
        self._start_ms = self._end_ms = 0.0
        self._epochs, self._ended = 0, 0.0
        for record in records:
            self._read(record)
        for record in records:
            if record.outcome != "running":
                self.counts[record.outcome] += 1
                # It may have failed before its first epoch.
                if self._epochs and (record.ended_ms or 0) >= self._start_ms:
                    continued = record.outcome == "continued"
                    of = self._epochs_of(record)
                    self._ended += record.last_epoch / of if continued else 1
                    self._ended -= self._before(record) / of
        self._spent = max((r.spent_seconds for r in records), default=0.0)
        self._spent_at_ms = self._end_ms

    @property
    def asked(self) -> int | None:
        """How many trials the sweep, or its confirmation, can have in all."""
        if self.plan is not None:
            return self.plan.most
        if self._most is None or self._seeds is None or self._space is None:
            return None
        return self._seeds.asked(self._most - self._tried)

    @property
    def ended(self) -> int:
        """How many trials have ended, a continued one with what continues it."""
        return sum(self.counts.values()) - self.counts["continued"]

    @property
    def running(self) -> dict[int, Unfinished]:
        """The trials that run, by number."""
        return {n: trial for n, trial in sorted(self.unfinished.items()) if trial.runs}

    def hear(self, event: Event) -> None:
        """Something happened to a trial."""
        match event:
            case Started():
                kept = self.unfinished.get(event.number)
                before = event.epochs_before
                origin = event.origin
                if kept is None and self._seeds is not None:
                    repeat_of = origin.get("repeat_of")
                    replaces = origin.get("replaces")
                    self._seeds.begin(event.number, repeat_of, origin.get("retry_of"), replaces)
                    self._tried += {repeat_of, replaces} == {None} and "request" not in origin
                self.unfinished[event.number] = Unfinished(
                    params=given(event.params, origin),
                    epochs=event.trial.training.epochs,
                    before=before if kept is None else kept.before,
                    done=before,
                    runs=True,
                )
            case EpochEnded():
                trial = self.unfinished[event.number]
                if event.epoch.number > trial.done:
                    self._count(event.epoch, event.session)
                    trial.done = event.epoch.number
                trial.epoch, trial.best = event.epoch, event.best
                self._offer(event.best, event.number, event.epoch.number, trial.params)
            case Rejected():
                self._most = event.most
            case Ended():
                if (left := self.unfinished.pop(event.number, None)) is not None:
                    continued = event.outcome == "continued"
                    self._ended += left.share_now if continued else 1 - left.before / left.epochs
                    if self._seeds is not None:
                        self._seeds.end(event.number, event.outcome, event.values)
                self.counts[event.outcome] += 1

    @property
    def epochs_a_minute(self) -> float | None:
        """None before the first epoch has ended."""
        seconds = self._seconds
        return 60 * self._epochs / seconds if seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Until the last trial has ended at the present pace, early stopping included, or the
        hours are up. None while that cannot be told."""
        if self._epochs <= len(self.running) or self._seconds <= 0:  # a first epoch is slow
            return None
        trials = self.unfinished.values()
        if self.asked is None:
            left = sum(1 - trial.share for trial in trials)
        else:
            left = self.asked - self.ended - sum(trial.share for trial in trials)
        through = self._ended + sum(trial.share_now for trial in trials)
        if left <= 0 or through <= 0:
            return None
        seconds = self._seconds * left / through
        hours = None if self._seeds is None or not self._space else self._space.budget.hours
        if hours is not None:
            spent = self._spent + (self._end_ms - self._spent_at_ms) / 1000
            seconds = min(seconds, max(0.0, hours * 3600 - spent))
        return seconds

    @property
    def _seconds(self) -> float:
        return (self._end_ms - self._start_ms) / 1000

    def _read(self, record: TrialRecord) -> None:
        for epoch, session in zip(record.history, record.sessions, strict=False):
            if session == self._session:
                self._count(epoch, session)
        if record.outcome == "running":
            self.unfinished[record.number] = Unfinished(
                params=given(record.params, record.origin),
                epochs=self._epochs_of(record),
                before=self._before(record),
                done=record.last_epoch,
            )
        if record.history:
            chosen = best(record.history, self._at_best)
            value = chosen.metrics[self._metric.name]
            self._offer(value, record.number, chosen.number, record.params)

    def _before(self, record: TrialRecord) -> int:
        earlier = sum(session != self._session for session in record.sessions)
        return earlier + (record.from_epoch or 0)

    def _epochs_of(self, record: TrialRecord) -> int:
        assert self._space is not None
        return asked_epochs(record, self._space)

    def _count(self, epoch: Epoch, session: int) -> None:
        """An epoch that was not known."""
        if session > self._session:
            self._session, self._epochs, self._ended = session, 0, 0.0
            for trial in self.unfinished.values():
                trial.before = trial.done
        start_ms = epoch.timestamp_ms - 1000 * epoch.metrics.get(SECONDS, 0.0)
        if self._epochs == 0:
            self._start_ms, self._end_ms = start_ms, float(epoch.timestamp_ms)
            self._spent_at_ms = start_ms
        self._start_ms = min(self._start_ms, start_ms)
        self._end_ms = max(self._end_ms, float(epoch.timestamp_ms))
        self._epochs += 1

    def _offer(self, value: float, trial: int, epoch: int, params: Mapping[str, Any]) -> None:
        if self.best is None or self._metric.better(value, self.best.value):
            self.best = Best(value=value, trial=trial, epoch=epoch, params=params)
