"""The stopping rules of the table in `config/stopping.py`. Each is a function of the recorded
values alone: it keeps nothing and writes nothing, so that an interruption cannot make it forget,
and the same record gives the same answer.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
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


Curves = Mapping[int, Curve]
"""By the trial's number, without those that were rejected."""


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
    reached = [c.values[epoch - 1] for c in curves.values() if len(c.values) >= epoch]
    places = max(1, len(reached) // rule.reduction_factor)
    worst = sorted(reached, reverse=mode == "max")[places - 1]
    if not _worse(values[-1], worst, mode):
        return Go()
    best = "the best one" if places == 1 else f"the best {places}"
    return Stop(
        f"asha, epoch {epoch}: {values[-1]:.4g}; of the {len(reached)} trials that reached this "
        f"epoch {best} had {_bound(worst, mode)}"
    )


def median(rule: Median, curves: Curves, number: int, mode: str) -> Verdict:
    """The median stopping rule (Golovin et al. 2017, Google Vizier, sec. 3.2.2), on the values of
    completed trials at the same epoch."""
    values = curves[number].values
    epoch = len(values)
    completed = [c.values for c in curves.values() if c.completed]
    if epoch <= rule.warmup_epochs or len(completed) < max(1, rule.startup_trials):
        return Go()
    there = [other[epoch - 1] for other in completed if len(other) >= epoch]
    best = max(values) if mode == "max" else min(values)
    if not there or not _worse(best, middle := statistics.median(there), mode):
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


def _worse(value: float, other: float, mode: str) -> bool:
    return value < other if mode == "max" else value > other


def _bound(value: float, mode: str) -> str:
    return f"{value:.4g} or {'more' if mode == 'max' else 'less'}"
