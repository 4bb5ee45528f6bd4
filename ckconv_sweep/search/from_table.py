"""A sampler that chooses among the settings of a table of curves, so that it can be simulated."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ckconv_sweep.config.documents import Document
from ckconv_sweep.config.domains import Choices, Interval, to_unit
from ckconv_sweep.config.grid import check_grid, exhausted
from ckconv_sweep.config.sampling import Sampler
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import StoppingRule
from ckconv_sweep.config.suitable import check_sampler, taken
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.search.curve_table import CurveTable
from ckconv_sweep.search.simulator import Begun, Replayed, Simulated, simulate
from ckconv_sweep.search.view import View


def simulate_sampler(
    table: CurveTable,
    sampler: Sampler,
    rule: StoppingRule,
    *,
    trials: int | None = None,
    places: int = 1,
    goal: float | None = None,
) -> Simulated:
    """A simulated sweep in which a sampler draws: the setting of the table that is nearest to its
    draw and has not been tried yet is the trial, and is what the sampler learns from.

        table = bundled("digits")
        swept = simulate_sampler(table, Tpe(seed=3), Asha(grace_epochs=3), trials=60)

    So samplers are compared by how they choose among the table's settings, and by no more: between
    two of these there is nothing, and a sampler that has found the best region soon has tried all
    that the table has there. Trials with settings beside the space are not among them.

    Args:
        trials: how many begin, at most; all of the table by default.
        places: how many run at a time.
        goal: once a trial that ran to its end has this value of the metric, or a better one,
            nothing new begins.

    Raises:
        ConfigError: the sampler cannot search the table's space, or settings were trained several
            times.
    """
    if table.space.repeats is not None:
        raise ConfigError(
            "settings were trained several times, and a sampler is simulated on one trial each",
            where=table.name,
            hint="leave --sampler out: rules are simulated with the repeats",
        )
    records = [record for record in table.records if record.teaches]
    if not 1 <= (most := trials or len(records)) <= len(records):
        raise ConfigError(
            f"{most} trials are too many: there are {len(records)} settings to choose among",
            where=table.name,
        )
    budget = table.space.budget.model_copy(update={"trials": most})
    space = replace(
        table.space, sampler=sampler, scheduler=rule, budget=budget, first=(), warm_start=()
    )
    space = taken(space)
    document = Document("--sampler", {})
    check_grid(space, document)
    check_sampler(space, document)
    return simulate(space, Sampled(space, records, goal), places=places)


class Sampled:
    """Draws of the space's sampler, each a function of the trials that have ended in virtual time.
    See `simulator.Source`. `goal`: as of `simulate_sampler`."""

    def __init__(
        self, space: Space, records: Sequence[TrialRecord], goal: float | None = None
    ) -> None:
        self._space, self._view, self._goal = space, View(space), goal
        self._is_done = False
        self._near = Nearest(space, records)
        self._drawn = 0

    def next(self, stopped: Container[int]) -> Begun | None:
        """What stands for the sampler's next draw."""
        number = self._drawn
        all_drawn = number == self._space.budget.trials or exhausted(self._space, number)
        if all_drawn or self._is_done:
            return None
        record = self._near.take(self._view.draw(number).params)
        self._drawn += 1
        self._view.show(replace(record, number=number, outcome="running", history=()))
        return Begun(number, record)

    def end(self, trial: Replayed) -> None:
        """Let the sampler learn from it."""
        self._view.show(trial.record)
        if self._goal is not None and trial.stop is None:
            value, metric = trial.record.value(self._space.metric), self._space.metric
            self._is_done |= not metric.better(self._goal, value)


class Nearest:
    """Settings, each to be taken once. Two are as far apart as their parameters are, each measured
    from 0 to 1 in the way in which it is searched. Different choices are 1 apart, and a parameter
    that only one of the two settings has does not count."""

    def __init__(self, space: Space, records: Sequence[TrialRecord]) -> None:
        self._domains, self._records = space.parameters(), records
        self._points = np.array([self._point(record.params) for record in records])
        self._taken = np.zeros(len(records), dtype=bool)

    def take(self, params: Mapping[str, Any]) -> TrialRecord:
        """The nearest one that has not been taken, the earlier of equals."""
        apart = np.nansum((self._points - np.array(self._point(params))) ** 2, axis=1)
        chosen = int(np.where(self._taken, np.inf, apart).argmin())
        self._taken[chosen] = True
        return self._records[chosen]

    def _point(self, params: Mapping[str, Any]) -> list[float]:
        """Coordinates; not a number where a parameter does not exist."""
        point: list[float] = []
        for name, domain in self._domains.items():
            if isinstance(domain, Interval):
                point.append(to_unit(domain, params[name]) if name in params else np.nan)
            elif name not in params:
                point += [np.nan] * _axes(domain)
            elif domain.ordered:
                point.append(domain.place(params[name]) / max(1, len(domain.options) - 1))
            else:
                chosen = domain.place(params[name])
                point += [(i == chosen) / np.sqrt(2) for i in range(_axes(domain))]
        return point


def _axes(domain: Choices) -> int:
    """A choice without an order has an axis for each option."""
    return 1 if domain.ordered else len(domain.options)
