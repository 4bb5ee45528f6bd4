"""The stopping rules of the table in `config/stopping.py`. Each is a function of the recorded
values alone: it keeps nothing and writes nothing, so that an interruption cannot make it forget,
and the same record gives the same answer.
"""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ckconv_sweep.config.history import Go, Stop, Verdict
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import RULES, Asha, Median, NoScheduler


@dataclass
class Curve:
    """A trial as a rule sees it."""

    values: list[float]
    """The metric after epochs 1, 2, ..."""
    completed: bool = False
    """Whether it ran to its own end."""


class Curves(dict[int, Curve]):
    """The trials of a sweep by their numbers, without those that were rejected, and the values of
    all of them at each epoch in order: a rule that looked at each trial would take longer the more
    there are. Only the methods here may change it."""

    def __init__(self, curves: Mapping[int, Curve]) -> None:
        super().__init__(curves)
        self._reached = defaultdict[int, list[float]](list)
        self._completed = defaultdict[int, list[float]](list)
        self.completed = 0
        """How many trials ran to their own end."""
        for curve in self.values():
            self.completed += curve.completed
            for epoch, value in enumerate(curve.values, start=1):
                self._reached[epoch].append(value)
                if curve.completed:
                    self._completed[epoch].append(value)
        for values in (*self._reached.values(), *self._completed.values()):
            values.sort()

    def add(self, number: int, value: float) -> None:
        """A trial's next epoch."""
        values = self[number].values
        values.append(value)
        insort(self._reached[len(values)], value)

    def complete(self, number: int) -> None:
        """A trial ran to its own end."""
        self[number].completed = True
        self.completed += 1
        for epoch, value in enumerate(self[number].values, start=1):
            insort(self._completed[epoch], value)

    def reached(self, epoch: int) -> Sequence[float]:
        """The values of all trials after an epoch, in order."""
        return self._reached[epoch]

    def completed_at(self, epoch: int) -> Sequence[float]:
        """Those of the trials that ran to their own end."""
        return self._completed[epoch]


def asha(rule: Asha, curves: Curves, number: int, mode: str) -> Verdict:
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934, algorithm 2), in which a
    trial that is not promoted is stopped. As long as fewer trials than `reduction_factor` have
    reached the epoch, only the best of them goes on."""
    values = curves[number].values
    epoch, rung = len(values), rule.grace_epochs
    while rung < epoch:
        rung *= rule.reduction_factor
    if rung != epoch:
        return Go()
    reached = curves.reached(epoch)
    places = max(1, len(reached) // rule.reduction_factor)
    worst = reached[-places] if mode == "max" else reached[places - 1]
    if not _worse(values[-1], worst, mode):
        return Go()
    best = (
        f"best one had {worst:.4g}" if places == 1 else f"best {places} had {_bound(worst, mode)}"
    )
    return Stop(
        f"asha, epoch {epoch}: {values[-1]:.4g}; of the {len(reached)} trials that reached this "
        f"epoch the {best}"
    )


def median(rule: Median, curves: Curves, number: int, mode: str) -> Verdict:
    """The median stopping rule (Golovin et al. 2017, Google Vizier, sec. 3.2.2), on the values of
    completed trials at the same epoch."""
    values = curves[number].values
    epoch = len(values)
    if epoch <= rule.warmup_epochs or curves.completed < max(1, rule.startup_trials):
        return Go()
    there = curves.completed_at(epoch)
    best = max(values) if mode == "max" else min(values)
    if not there or not _worse(best, middle := _middle(there), mode):
        return Go()
    return Stop(
        f"median, epoch {epoch}: at best {best:.4g} so far; half of the {len(there)} completed "
        f"trials had {_bound(middle, mode)} at this epoch"
    )


def never(rule: NoScheduler, curves: Curves, number: int, mode: str) -> Verdict:
    """Every trial runs to its end."""
    return Go()


def verdict_of(space: Space, curves: Curves, number: int) -> Verdict:
    """What a space's rule answers after the last epoch of a trial."""
    rule, mode = space.scheduler, space.metric.mode
    verdict: Verdict = RULES.maker(rule.name)(rule, curves, number, mode)
    return verdict


def _middle(ordered: Sequence[float]) -> float:
    """The median of values that are in order."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _worse(value: float, other: float, mode: str) -> bool:
    return value < other if mode == "max" else value > other


def _bound(value: float, mode: str) -> str:
    return f"{value:.4g} or {'more' if mode == 'max' else 'less'}"
