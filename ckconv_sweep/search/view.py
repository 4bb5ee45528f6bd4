"""The trials of a sweep as samplers see them.

A sampler never sees the study. It sees an Optuna study in memory, built from the records, so that a
draw is a function of the records, a killed driver leaves no half-drawn trial, and what samplers
learn from is decided in one place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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

from ckconv_sweep.config.domains import Choices, Interval, Scalar
from ckconv_sweep.config.history import objective, objectives
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.search.samplers import distribution, sampler_for


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What a trial is to try. `position`: how many trials the sampler had drawn before it."""

    params: Mapping[str, Scalar]
    distributions: Mapping[str, BaseDistribution]
    position: int


MOST_FINISHED = 1_000
"""So many of the newest completed and pruned trials a sampler sees at most. The more it sees, the
longer TPE takes to draw: 214 ms with 10,000."""
_AT_ONCE = 100
"""So many are forgotten at a time."""
BEST_KEPT = 100
"""So many of the forgotten are seen all the same, the best. TPE takes at most 25 for good."""


class View:
    """Completed trials with the values by which they are judged, pruned ones with the primary
    metric of each epoch, running ones with their parameters; failed ones count for no sampler.

    Of more than `MOST_FINISHED` the oldest are forgotten, but for the best by the primary metric.
    Which these are follows from the records alone. Those of earlier sweeps (`WarmStart.records`)
    have negative numbers, and are older than all others.
    """

    def __init__(self, space: Space, records: Iterable[TrialRecord] = ()) -> None:
        self._space = space
        self._domains = {name: distribution(d) for name, d in space.parameters().items()}
        self._running: dict[int, Mapping[str, Any]] = {}
        """The parameters of the trials that have not finished, by number."""
        self._finished: dict[int, TrialRecord] = {}
        """Without those that failed: a rejected draw must take no learnt trial's place."""
        for record in records:
            if record.outcome == "running":
                self._running[record.number] = record.params
            elif record.outcome != "failed":
                self._finished[record.number] = record
        self._build()

    def show(self, record: TrialRecord) -> None:
        """A trial as it is now. One that was drawn here and has a number since is shown, too."""
        if record.number in self._finished:
            return
        if record.outcome == "running":
            self._running[record.number] = record.params
            self._begin(record.number, record.params)
            return
        self._running.pop(record.number, None)
        if record.outcome == "failed":
            self._fail(record.number)
            return
        self._finished[record.number] = record
        if _forgotten(len(self._finished)) != self._hidden:
            self._build()
        else:
            self._begin(record.number, record.params)
            self._end(record)

    def _build(self) -> None:
        """The study that samplers see, anew."""
        self._study = optuna.create_study(
            directions=["maximize" if m.mode == "max" else "minimize" for m in self._space.metrics]
        )
        self._ids: dict[int, int] = {}
        self._hidden = _forgotten(len(self._finished))
        shown = {record.number: record for record in seen(self._finished.values(), self._space)}
        for number in sorted([*shown, *self._running]):
            if number in shown:
                self._begin(number, shown[number].params)
                self._end(shown[number])
            else:
                self._begin(number, self._running[number])

    def _begin(self, number: int, drawn: Mapping[str, Any]) -> None:
        if number in self._ids:
            return
        params = {name: value for name, value in drawn.items() if name in self._domains}
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=self.distributions(params),
        )
        self._ids[number] = self._study._storage.create_new_trial(self._study._study_id, trial)

    def _fail(self, number: int) -> None:
        if number in self._ids:
            storage, trial_id = self._study._storage, self._ids.pop(number)
            storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _end(self, record: TrialRecord) -> None:
        storage, metrics = self._study._storage, self._space.metrics
        trial_id = self._ids[record.number]
        for epoch in record.history:
            value = epoch.metrics[metrics[0].name]
            storage.set_trial_intermediate_value(trial_id, epoch.number, value)
        if record.outcome == "pruned" and len(metrics) > 1:
            # TPE ranks pruned trials by their last value, for which one direction is needed. Among
            # several it ranks a violated constraint likewise: below all completed trials, and the
            # higher, the less is violated.
            stopped = optuna.trial.Trial(self._study, trial_id)
            epochs = max((epoch.number for epoch in record.history), default=1)
            stopped.set_constraint("pruned", 1.0 / epochs)
        if record.outcome == "completed":
            values = list(objectives(record.history, metrics).values())
            storage.set_trial_state_values(trial_id, TrialState.COMPLETE, values)
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
        drawn = study._storage.get_trial(trial._trial_id)
        if number is None:
            study.tell(trial, state=TrialState.FAIL)
        else:
            self._ids[number] = trial._trial_id
            self._running[number] = params
        return Draw(params=params, distributions=drawn.distributions, position=position)

    def distributions(self, params: Mapping[str, Scalar]) -> dict[str, BaseDistribution]:
        """What parameters that no sampler drew are drawn from."""
        return {name: self._domains[name] for name in params}


def seen(finished: Iterable[TrialRecord], space: Space) -> list[TrialRecord]:
    """What a sampler sees of completed and pruned trials."""
    metric = space.metric

    def loss(record: TrialRecord) -> float:
        value = objective(record.history, metric)
        return -value if metric.mode == "max" else value

    by_end = sorted(finished, key=lambda r: (r.number >= 0, r.ended_ms or 0, r.number))
    hidden = _forgotten(len(by_end))
    old = [record for record in by_end[:hidden] if record.outcome == "completed"]
    return by_end[hidden:] + sorted(old, key=loss)[:BEST_KEPT]


def _forgotten(finished: int) -> int:
    """How many of so many finished trials are old."""
    return max(0, math.ceil((finished - MOST_FINISHED) / _AT_ONCE)) * _AT_ONCE


def _suggest(trial: optuna.Trial, name: str, domain: Interval | Choices) -> Any:
    match distribution(domain):
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
        case IntDistribution() as whole:
            return trial.suggest_int(name, whole.low, whole.high, step=whole.step, log=whole.log)
        case FloatDistribution() as real:
            return trial.suggest_float(name, real.low, real.high, step=real.step, log=real.log)
    raise AssertionError("a domain has one of three distributions")
