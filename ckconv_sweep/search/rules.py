"""The stopping rules of the table in `config/stopping.py`. Each is a function of the recorded
values alone: it keeps nothing and writes nothing, so that an interruption cannot make it forget,
and the same record gives the same answer.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from ckconv_sweep.config.history import Go, Stop, Verdict
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import (
    RULES,
    Asha,
    Hyperband,
    Median,
    NoScheduler,
    Patient,
    Threshold,
    rung,
)
from ckconv_sweep.keys import trial_name
from ckconv_sweep.search.curves import Curve, Curves

__all__ = ["Curve", "Curves", "of_repeat", "verdict_of"]


def asha(rule: Asha, curves: Curves, number: int, mode: str) -> Verdict:
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934, algorithm 2), in which a
    trial that is not promoted is stopped. As long as fewer trials than `reduction_factor` have
    reached the epoch, only the best of them goes on."""
    values = curves[number].values
    if rung(len(values), rule.grace_epochs, rule.reduction_factor) != len(values):
        return Go()
    reached = curves.reached(len(values))
    return _halved(rule, values, reached, "trials", mode)


def hyperband(rule: Hyperband, curves: Curves, number: int, mode: str) -> Verdict:
    """Asynchronous Hyperband: asha among the trials of a bracket (Li et al. 2020,
    arXiv:1810.05934), with as many trials in each as in Hyperband (Li et al. 2018, JMLR 18(185),
    algorithm 1)."""
    values, bracket = curves[number].values, rule.bracket(number)
    if rung(len(values), rule.grace_of(bracket), rule.reduction_factor) != len(values):
        return Go()
    reached = curves.reached(len(values), number, rule.bracket)
    return _halved(rule, values, reached, f"trials of bracket {bracket}", mode)


def _halved(
    rule: Asha | Hyperband, values: Sequence[float], reached: Sequence[float], who: str, mode: str
) -> Verdict:
    """Whether the trial is one of the best of those that reached its epoch."""
    places = max(1, len(reached) // rule.reduction_factor)
    worst = _from_best(reached, places - 1, mode)
    if not _worse(values[-1], worst, mode):
        return Go()
    one, several = f"best one had {_short(worst)}", f"best {places} had {_bound(worst, mode)}"
    return Stop(
        f"{rule.name}, epoch {len(values)}: {values[-1]:.4g}; of the {len(reached)} {who} that "
        f"reached this epoch the {one if places == 1 else several}"
    )


def percentile(rule: Median, curves: Curves, number: int, mode: str) -> Verdict:
    """The median stopping rule (Golovin et al. 2017, Google Vizier, sec. 3.2.2), on the values of
    completed trials at the same epoch; and the same with another percentile."""
    values = curves[number].values
    epoch = len(values)
    if epoch <= rule.warmup_epochs or curves.completed < max(1, rule.startup_trials):
        return Go()
    there, percent = curves.completed_at(epoch), rule.best_percent
    best = _best(values, mode)
    if not there or not _worse(best, bound := _at(there, percent / 100, mode), mode):
        return Go()
    which = "half" if percent == 50 else f"the best {percent:g} %"
    return Stop(
        f"{rule.name}, epoch {epoch}: at best {best:.4g} so far; {which} of the {len(there)} "
        f"completed trials had {_bound(bound, mode)} at this epoch"
    )


def threshold(rule: Threshold, curves: Curves, number: int, mode: str) -> Verdict:
    """A bound on the value after each epoch."""
    values = curves[number].values
    epoch = len(values)
    if epoch <= rule.warmup_epochs or not _worse(values[-1], rule.bound, mode):
        return Go()
    return Stop(
        f"threshold, epoch {epoch}: {values[-1]:.4g}; from epoch {rule.first_epoch} on a trial "
        f"needs {_bound(rule.bound, mode)}"
    )


def patient(rule: Patient, curves: Curves, number: int, mode: str) -> Verdict:
    """What the inner rule answers, but a trial that has got better lately goes on."""
    values = curves[number].values
    before, lately = values[: -rule.epochs], values[-rule.epochs :]
    if not before:
        return Go()
    best = _best(before, mode)
    needed = best + rule.min_delta if mode == "max" else best - rule.min_delta
    if _worse(needed, _best(lately, mode), mode):
        return Go()
    verdict: Verdict = RULES.maker(rule.rule.name)(rule.rule, curves, number, mode)
    if not isinstance(verdict, Stop):
        return verdict
    return Stop(
        f"patient, epoch {len(values)}: {values[-1]:.4g}; no better than {best:.4g} for "
        f"{rule.epochs} epoch{'s' * (rule.epochs > 1)}; {verdict.reason}"
    )


def never(rule: NoScheduler, curves: Curves, number: int, mode: str) -> Verdict:
    """Every trial runs to its end."""
    return Go()


def verdict_of(space: Space, curves: Curves, number: int) -> Verdict:
    """What a space's rule answers after the last epoch of a trial."""
    rule, mode = space.scheduler, space.metric.mode
    verdict: Verdict = RULES.maker(rule.name)(rule, curves, number, mode)
    return verdict


def of_repeat(first: int, pruned: Container[int]) -> Go | Stop:
    """What is answered of a repeat of a trial: a rule judges settings, by their first trials, and
    this goes on as long as that is not among the pruned ones."""
    if first in pruned:
        return Stop(f"{trial_name(first)}, whose setting it repeats, was pruned")
    return Go()


def _best(values: Sequence[float], mode: str) -> float:
    return max(values) if mode == "max" else min(values)


def _from_best(ordered: Sequence[float], place: int, mode: str) -> float:
    """The value that so many are better than or equal to; 0: the best one."""
    return ordered[-1 - place] if mode == "max" else ordered[place]


def _at(ordered: Sequence[float], share: float, mode: str) -> float:
    """The value that a share of all, the best ones, keep up with; between two values in proportion,
    so that that of a half is the median."""
    place = (len(ordered) - 1) * share
    whole, after = int(place), place % 1
    better, worse = (
        _from_best(ordered, w, mode) for w in (whole, min(whole + 1, len(ordered) - 1))
    )
    return better if better == worse else better * (1 - after) + worse * after  # rounds no equals


def _worse(value: float, other: float, mode: str) -> bool:
    return value < other if mode == "max" else value > other


def _bound(value: float, mode: str) -> str:
    return f"{_short(value)} or {'more' if mode == 'max' else 'less'}"


def _short(value: float) -> str:
    return f"{value + 0.0:.4g}"  # no -0
