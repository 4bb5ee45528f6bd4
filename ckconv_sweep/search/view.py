"""The trials of a sweep as samplers see them.

A sampler never sees the study. It sees an Optuna study in memory, built from the records, so that a
draw is a function of the records, a killed driver leaves no half-drawn trial, and what samplers
learn from is decided in one place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from ckconv_sweep.config.domains import Choices, Interval, Scalar, from_unit
from ckconv_sweep.config.sampling import Sampler
from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.fronts import fronts
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.search.samplers import ENDED, distribution, sampler_for, seen_parameters
from ckconv_sweep.search.seen import as_seen, seen, value_of


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What a trial is to try. `position`: how many trials the sampler had drawn before it."""

    params: Mapping[str, Scalar]
    distributions: Mapping[str, BaseDistribution]
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What a sampler learns from a finished trial. All finished trials of a sweep are held, and
    their records would be ten times as large."""

    number: int
    ended_ms: int
    outcome: Outcome
    params: Mapping[str, Any]
    values: tuple[float, ...]
    """What it is judged by, a number a metric; empty before its first epoch."""
    curve: tuple[tuple[int, float], ...]
    """Its epochs with the primary metric."""

    @classmethod
    def of(cls, record: TrialRecord, space: Space) -> Learnt:
        name = space.metric.name
        return cls(
            number=record.number,
            ended_ms=record.ended_ms or 0,
            outcome=record.outcome,
            params=record.params,
            values=tuple(record.values(space.metrics).values()),
            curve=tuple((epoch.number, epoch.metrics[name]) for epoch in record.history),
        )


class View:
    """Completed trials with the values by which they are judged, pruned and continued ones with the
    primary metric of each epoch, running ones with their parameters. Failed ones count for no
    sampler, and neither do those that a person has changed beside the space and those that continue
    another one: what these reach is not due to their settings alone.

    Of more than `Sampler.newest` the oldest are forgotten, a tenth at a time, but for the
    `Sampler.best`: those of the first fronts, and on one front by the primary metric. Which these
    are follows from the records alone. Those of earlier sweeps (`WarmStart.records`) have negative
    numbers, and are older than all others.
    """

    def __init__(self, space: Space, records: Iterable[TrialRecord] = ()) -> None:
        self._space = space
        self._sampler = space.sampler
        self._domains = {name: distribution(d) for name, d in space.parameters().items()}
        self._parameters, domains = space.parameters(), seen_parameters(space)
        self._seen = {name: distribution(domain) for name, domain in domains.items()}
        fills = self._sampler.fills
        self._middles = {n: from_unit(domain, 0.5) for n, domain in domains.items() if fills}
        self._running: dict[int, Mapping[str, Any]] = {}
        """The parameters of the trials that have not finished, by number."""
        self._finished: dict[int, Learnt] = {}
        """Without those that failed: a rejected draw must take no learnt trial's place."""
        for record in records:
            if not record.teaches:
                continue
            if record.outcome == "running":
                self._running[record.number] = record.params
            elif record.outcome != "failed":
                self._finished[record.number] = Learnt.of(record, space)
        self._build()

    def show(self, record: TrialRecord) -> None:
        """A trial as it is now. One that was drawn here and has a number since is shown, too. What
        has finished may be shown as another one: a setting that is trained with further seeds."""
        if not record.teaches:
            return
        finished_before = self._finished.pop(record.number, None) is not None
        self._running.pop(record.number, None)
        if record.outcome == "running":
            self._running[record.number] = record.params
        elif record.outcome != "failed":
            self._finished[record.number] = Learnt.of(record, self._space)
        if finished_before or _forgotten(len(self._finished), self._sampler) != self._hidden:
            self._build()
        elif record.outcome == "failed":
            self._fail(record.number)
        else:
            self._begin(record.number, record.params)
            if record.outcome != "running":
                self._end(self._finished[record.number])

    def _build(self) -> None:
        """The study that samplers see, anew."""
        self._study = optuna.create_study(
            directions=["maximize" if m.mode == "max" else "minimize" for m in self._space.metrics]
        )
        self._ids: dict[int, int] = {}
        self._hidden = _forgotten(len(self._finished), self._sampler)
        shown = {r.number: r for r in learnt_from(self._finished.values(), self._space)}
        for number in sorted([*shown, *self._running]):
            if number in shown:
                self._begin(number, shown[number].params)
                self._end(shown[number])
            else:
                self._begin(number, self._running[number])

    def _begin(self, number: int, drawn: Mapping[str, Any]) -> None:
        if number in self._ids:
            return
        params = self._middles | self._as_seen(drawn)
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions={name: self._seen[name] for name in params},
        )
        self._ids[number] = self._study._storage.create_new_trial(self._study._study_id, trial)

    def _as_seen(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """A trial's parameters as samplers see them."""
        domains = self._parameters
        return {n: as_seen(domains[n], value) for n, value in drawn.items() if n in domains}

    def _fail(self, number: int) -> None:
        if number in self._ids:
            storage, trial_id = self._study._storage, self._ids.pop(number)
            storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _end(self, trial: Learnt) -> None:
        storage, several = self._study._storage, len(self._space.metrics) > 1
        trial_id = self._ids[trial.number]
        storage.set_trial_system_attr(trial_id, ENDED, (trial.ended_ms, trial.number))
        for epoch, value in trial.curve:
            storage.set_trial_intermediate_value(trial_id, epoch, value)
        if trial.outcome in ("pruned", "continued") and several:
            # TPE ranks pruned trials by their last value, for which one direction is needed. Among
            # several it ranks a violated constraint likewise: below all completed trials, and the
            # higher, the less is violated.
            stopped = optuna.trial.Trial(self._study, trial_id)
            epochs = max((epoch for epoch, _ in trial.curve), default=1)
            stopped.set_constraint("pruned", 1.0 / epochs)
        valued = self._sampler.values_pruned and not several
        if trial.outcome == "completed" or (valued and trial.curve):
            storage.set_trial_state_values(trial_id, TrialState.COMPLETE, trial.values)
        else:
            storage.set_trial_state_values(trial_id, TrialState.PRUNED)

    def draw(self, position: int, number: int | None = None) -> Draw:
        """What the space's sampler tries next.

        Args:
            position: how many trials it has drawn before.
            number: which trial of the sweep that will be; it is shown as a running one from now
                on. Without one nothing is.
        """
        study = self._study
        study.sampler = sampler_for(self._space, position)
        trial = study.ask()
        params = self._space.draw(lambda name, domain: _suggest(trial, name, domain))
        # What a sampler left beside the trial would be missing in a view that is built later.
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        if number is not None:
            self._running[number] = params
            self._begin(number, params)
        distributions = self.distributions(params)
        return Draw(params=params, distributions=distributions, position=position)

    def distributions(self, params: Mapping[str, Scalar]) -> dict[str, BaseDistribution]:
        """What a record says that parameters are drawn from."""
        return {name: self._domains[name] for name in params}


def learnt_from(finished: Iterable[Learnt], space: Space) -> list[Learnt]:
    """The completed and pruned trials that a space's sampler sees."""
    by_end = sorted(finished, key=lambda trial: (trial.number >= 0, trial.ended_ms, trial.number))
    hidden = _forgotten(len(by_end), space.sampler)
    old = [trial for trial in by_end[:hidden] if trial.outcome == "completed"]
    return by_end[hidden:] + _best(old, space)


def _forgotten(finished: int, sampler: Sampler) -> int:
    """How many of so many finished trials are old."""
    at_once = max(1, sampler.newest // 10)
    return max(0, math.ceil((finished - sampler.newest) / at_once)) * at_once


def _best(completed: Sequence[Learnt], space: Space) -> list[Learnt]:
    """The first `Sampler.best` of them, the best first."""
    if not completed:
        return []
    best, sign = space.sampler.best, -1.0 if space.metric.mode == "max" else 1.0
    values = [list(trial.values) for trial in completed]
    front = fronts(values, space.metrics, enough=best)
    order = sorted(range(len(values)), key=lambda i: (front[i], sign * values[i][0]))
    return [completed[i] for i in order[:best]]


def _suggest(trial: optuna.Trial, name: str, domain: Interval | Choices) -> Any:
    match distribution(seen(domain)):
        case CategoricalDistribution(choices=choices):
            drawn: Any = trial.suggest_categorical(name, choices)
        case IntDistribution() as whole:
            drawn = trial.suggest_int(name, whole.low, whole.high, step=whole.step, log=whole.log)
        case FloatDistribution() as real:
            drawn = trial.suggest_float(name, real.low, real.high, step=real.step, log=real.log)
        case _:
            raise AssertionError("a domain has one of three distributions")
    return value_of(domain, drawn)
