"""What a sweep with another stopping rule would have done: recorded curves are replayed in virtual
time, thousands of trials in seconds.

A trial that begins takes a place for as long as its recorded epochs took; after each the rule is
asked as a sweep asks it (`search/rules.py`), on what has been replayed so far. No rule sees more
of a curve than a sweep would have shown it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ckconv_sweep.config.history import Continue, Go, Stop, Verdict
from ckconv_sweep.config.metrics import SECONDS
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.search.rules import Curve, Curves, of_repeat, verdict_of


@dataclass(frozen=True)
class Begun:
    """A trial that begins: a recorded one, under the number that it has in the simulated sweep."""

    number: int
    record: TrialRecord
    repeat_of: int | None = None
    """The number, in the simulated sweep, of the trial whose setting it repeats."""


@dataclass(frozen=True)
class Step:
    """An epoch of a trial has ended."""

    seconds: float
    """When, in virtual time."""
    number: int
    epoch: int
    verdict: Verdict | None
    """What the rule answered; None after a trial's last epoch, when it is not asked."""


@dataclass(frozen=True)
class Replayed:
    """A trial that has ended in virtual time."""

    begun: Begun
    epochs: int
    """How many it was given."""
    started: float
    ended: float
    """When, in virtual seconds."""
    stop: Stop | None
    """Why the rule stopped it; None where it ran to its own end."""

    @property
    def record(self) -> TrialRecord:
        """As a sweep would have recorded it."""
        return replace(
            self.begun.record,
            number=self.begun.number,
            repeat_of=self.begun.repeat_of,
            outcome="completed" if self.stop is None else "pruned",
            history=self.begun.record.history[: self.epochs],
            started_ms=round(1000 * self.started),
            ended_ms=round(1000 * self.ended),
            verdict=self.stop,
        )


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A sweep that was simulated."""

    space: Space
    """With the rule, and with the sampler where one drew."""
    steps: tuple[Step, ...]
    """Every epoch, in the order of virtual time."""
    trials: tuple[Replayed, ...]
    """In the order in which they ended."""

    @property
    def epochs(self) -> int:
        """Of all trials together."""
        return len(self.steps)

    @property
    def seconds(self) -> float:
        """From the begin of the first trial to the end of the last one."""
        return self.steps[-1].seconds if self.steps else 0.0


class Source(Protocol):
    """Where the trials of a simulated sweep come from."""

    def next(self, stopped: Container[int]) -> Begun | None:
        """The next one; None where there is none left. `stopped`: the trials that were stopped."""

    def end(self, trial: Replayed) -> None:
        """Hear that a trial has ended."""


class InOrder:
    """Recorded trials one after the other. Repeats of a setting that was stopped do not begin."""

    def __init__(self, trials: Iterable[Begun]) -> None:
        self._trials = iter(trials)

    def next(self, stopped: Container[int]) -> Begun | None:
        """See `Source`."""
        return next((trial for trial in self._trials if trial.repeat_of not in stopped), None)

    def end(self, trial: Replayed) -> None:
        """See `Source`."""


def simulate(space: Space, source: Source, *, places: int = 1) -> Simulated:
    """A sweep in virtual time.

    Args:
        space: with the rule that is asked.
        places: how many trials run at a time.

    Raises:
        ConfigError: the rule continues trials with other settings, or makes no sense for the
            metric.
    """
    rule = space.scheduler
    if rule.kept_epochs:  # it would seem to do nothing wherever it happens to continue no trial
        raise ConfigError(
            "continues trials with other settings, whose curves were not recorded, so it cannot be "
            "simulated",
            where=rule.name,
            hint="take a rule that stops trials, as in --scheduler asha",
        )
    if why := rule.unfit(space.metric):
        raise ConfigError(why, where=rule.name)
    return _Simulation(space, source).run(places)


def in_recorded_order(records: Sequence[TrialRecord]) -> InOrder:
    """Every trial, under its own number."""
    return InOrder(Begun(r.number, r, r.repeat_of) for r in records)


def in_random_order(records: Sequence[TrialRecord], seed: int) -> InOrder:
    """The settings in an order that follows from the seed, each with its repeats, numbered anew."""
    settings: dict[int, list[TrialRecord]] = {}
    for r in records:
        settings.setdefault(r.number if r.repeat_of is None else r.repeat_of, []).append(r)
    order = list(settings.values())
    random.Random(seed).shuffle(order)
    trials: list[Begun] = []
    for setting in order:
        first = len(trials)
        trials += [
            Begun(first + i, record, first if i else None) for i, record in enumerate(setting)
        ]
    return InOrder(trials)


@dataclass
class _Running:
    begun: Begun
    started: float
    epochs: int = 0

    @property
    def next_seconds(self) -> float:
        """How long its next epoch takes."""
        return self.begun.record.history[self.epochs].metrics.get(SECONDS, 0.0)

    @property
    def is_over(self) -> bool:
        return self.epochs == len(self.begun.record.history)


class _Simulation:
    def __init__(self, space: Space, source: Source) -> None:
        self._space, self._source = space, source
        self._curves, self._stopped = Curves({}), set[int]()
        self._events: list[tuple[float, int, _Running]] = []
        """The ends of epochs to come; of equal times that which began first is the first."""
        self._turns = itertools.count()
        self._steps, self._ended = list[Step](), list[Replayed]()

    def run(self, places: int) -> Simulated:
        for _ in range(places):
            self._begin(0.0)
        while self._events:
            self._end_epoch()
        return Simulated(space=self._space, steps=tuple(self._steps), trials=tuple(self._ended))

    def _begin(self, now: float) -> None:
        """Give a free place to the next trial, if there is one."""
        begun = self._source.next(self._stopped)
        if begun is not None:
            if begun.repeat_of is None:
                self._curves[begun.number] = Curve([])
            self._go_on(_Running(begun, now), now)

    def _go_on(self, running: _Running, now: float) -> None:
        event = (now + running.next_seconds, next(self._turns), running)
        heapq.heappush(self._events, event)

    def _end_epoch(self) -> None:
        now, _, running = heapq.heappop(self._events)
        begun, number = running.begun, running.begun.number
        if begun.repeat_of is None:
            metrics = begun.record.history[running.epochs].metrics
            self._curves.add(number, metrics[self._space.metric.name])
        running.epochs += 1
        verdict = None if running.is_over else self._judge(begun)
        self._steps.append(Step(now, number, running.epochs, verdict))
        if isinstance(verdict, Go):
            self._go_on(running, now)
            return
        if isinstance(verdict, Stop):
            self._stopped.add(number)
        elif begun.repeat_of is None:
            self._curves.complete(number)
        ended = Replayed(begun, running.epochs, running.started, now, verdict)
        self._ended.append(ended)
        self._source.end(ended)
        self._begin(now)

    def _judge(self, begun: Begun) -> Go | Stop:
        if begun.repeat_of is not None:
            return of_repeat(begun.repeat_of, self._stopped)
        verdict = verdict_of(self._space, self._curves, begun.number)
        assert not isinstance(verdict, Continue)
        return verdict
