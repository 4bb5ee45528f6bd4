"""What to do next, each time with the numbers that say so.

Each rule is a function from what is known of a sweep to some advice; `RULES` has them in the order
in which they are told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from ckconv_sweep.config.domains import corners
from ckconv_sweep.config.grid import grid_size, most_settings
from ckconv_sweep.config.history import objective
from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.bounds import Bound, bounds_hit, wider
from ckconv_sweep.report.importance import Importances
from ckconv_sweep.report.sample import ENOUGH, comparable, ranked
from ckconv_sweep.report.spent import asked_epochs
from ckconv_sweep.report.why import remedy


@dataclass(frozen=True, kw_only=True)
class Advice:
    """`rule` is the name of the function that gave it, `command` what to type where that is all."""

    rule: str
    what: str
    evidence: str
    do: str
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the rules look at: a sweep's trials without those that were rejected."""

    resume: str
    """The command that resumes the sweep."""
    confirm: str | None
    """The command that confirms it; None where that was begun."""
    records: Sequence[TrialRecord]
    violations: int
    """How many trials were drawn and rejected."""
    space: Space
    importances: Importances


def advise(
    records: Sequence[TrialRecord],
    space: Space,
    importances: Importances,
    *,
    resume: str = "ckconv-sweep resume NAME",
    confirm: str | None = "ckconv-sweep confirm NAME",
) -> tuple[Advice, ...]:
    """All advice on a sweep; none where nothing stands out. `confirm`: None where its confirmation
    was begun."""
    counted = [r for r in records if r.counts]
    known = Known(
        resume=resume,
        confirm=confirm,
        records=counted,
        violations=len(records) - len(counted),
        space=space,
        importances=importances,
    )
    return tuple(
        Advice(rule=rule.__name__, what=what, evidence=evidence, do=do, command="".join(command))
        for rule in RULES
        for what, evidence, do, *command in rule(known)
    )


Said = Iterator[tuple[str, ...]]
"""What, the evidence, what to do, and a command where there is one."""

_FAILED = 0.1
_FAILED_FEWEST = 3


def many_failures(known: Known) -> Said:
    """A tenth of the trials failed for one reason."""
    total = len(known.records)
    reasons = Counter(r.reason for r in known.records if r.outcome == "failed")
    for reason, amount in reasons.most_common():
        if amount >= _FAILED_FEWEST and amount >= _FAILED * total:
            yield (
                f"Many trials failed: {reason}.",
                f"{amount} of {total} trials failed this way ({amount / total:.0%})",
                remedy(reason),
            )


def many_violations(known: Known) -> Said:
    """More draws were rejected than trained."""
    if known.violations > max(len(known.records), 10):
        yield (
            "Most draws were rejected.",
            f"{known.violations} draws were rejected for {len(known.records)} trials",
            "narrow the ranges to where the constraints hold: the sampler then learns from every "
            "draw",
        )


def a_bound_was_hit(known: Known) -> Said:
    """The best tenth of the trials lies at the end of a range, and trials there rank higher."""
    for bound in bounds_hit(known.records, known.space):
        _, moved = wider(known.space, [bound])
        yield (
            f"{bound.setting} hit the {bound.end} end of its range, {bound.value:g}.",
            f"{bound.near} of the best {bound.best} trials lie within 10 % of it; if the setting "
            f"made no difference, the {bound.there} trials there would rank as high with a "
            f"probability of {bound.chance:.1g}",
            "search further there: the wider space below does"
            if moved
            else f"no such setting lies beyond it; fix it at {bound.value:g} and search the others",
        )


def too_few_trials(known: Known) -> Said:
    """No setting's importance stands out from a column of random numbers."""
    settings = known.importances.settings
    if any(one.told for one in settings) or not known.records:
        return
    if all(len(corners(domain)) == 1 for domain in known.space.parameters().values()):
        return  # all trials are the same: nothing was searched
    amount = len(comparable(known.records, known.space))
    tried = [one for one in settings if one.enough]
    begun = sum(record.is_of_budget for record in known.records)
    most = most_settings(known.space, known.violations)
    size, wanted = grid_size(known.space), 2 * max(begun, ENOUGH)
    there = wanted if size is None else min(wanted, size - known.violations)
    if begun < most:
        more = [f"resume it: {begun} of its {most} trials have begun"]
    elif begun < there:
        more = ["run more trials", f"{known.resume} --trials {there}"]
    else:
        more = ["start a sweep with smaller steps or another sampler: this grid has no more points"]
    yield (
        "Too few trials to tell which settings matter.",
        f"{amount} comparable trials, {len(settings)} searched settings; "
        + (
            f"a forest explains {max(0.0, max(one.explained for one in tried)):.0%} of the "
            "differences among trials that were held out"
            if tried
            else f"fewer than {ENOUGH}, or all with the same value, are not even tried"
        ),
        *more,
    )


_EXPLAINED = 0.5
_NOTHING = 0.03


def does_nothing(known: Known) -> Said:
    """The forest explains most of the differences, and a setting has no part in that."""
    for one in known.importances.settings:
        if one.enough and one.explained >= _EXPLAINED and one.high < _NOTHING:
            yield (
                f"{one.setting} makes no difference.",
                f"it is involved in {max(one.high, 0.0):.1%} of the differences at most, over "
                f"{one.trials} trials of whose differences {one.explained:.0%} are explained",
                "leave it out of the search",
            )


_TOP = 5


def mostly_noise(known: Known) -> Said:
    """The best trials differ by less than each of them does from one epoch to the next."""
    metric = known.space.metric
    top = [r for r in ranked(known.records, known.space) if r.outcome == "completed"][:_TOP]
    wobbles = [wobble for r in top if (wobble := _wobble(r, metric.name)) is not None]
    answered = known.space.repeats is not None or known.confirm is None
    if answered or len(top) < 3 or len(wobbles) < len(top):
        return
    scores = [r.value(metric) for r in top]
    spread, wobble = max(scores) - min(scores), float(np.median(wobbles))
    if spread < wobble:
        names = ", ".join(trial_name(r.number) for r in top)
        yield (
            f"Among the best trials {metric.name} is mostly noise.",
            f"the best {len(top)} differ by {spread:.3g}, and each goes up or down by {wobble:.3g} "
            "from one epoch to the next",
            *_trained_again(known, f"treat their order as chance ({names})"),
        )


def _trained_again(known: Known, do: str) -> list[str]:
    """What to do about noise, and the command where there is one: a trial that began with another
    one's weights cannot be trained again by itself."""
    if known.space.scheduler.kept_epochs or known.confirm is None:
        return [do]
    return [f"{do}, and train them again with fresh seeds", known.confirm]


def _wobble(record: TrialRecord, name: str) -> float | None:
    """The median step between epochs in the last third of a trial; None of less than four steps."""
    values = [epoch.metrics[name] for epoch in record.history]
    steps = np.abs(np.diff(values[-max(5, len(values) // 3) :]))
    return float(np.median(steps)) if len(steps) >= 4 else None


_STOPPED = 0.6
_AGREES = 0.5


def most_stopped_at_once(known: Known) -> Said:
    """Most trials were stopped at the first moment at which they could be, and those that went on
    do not show that this moment tells the end."""
    scheduler = known.space.scheduler
    if scheduler.grace_setting is None:
        return
    first = scheduler.first_epoch
    ended = [r for r in known.records if r.outcome in ("completed", "pruned")]
    stopped = [r for r in ended if r.outcome == "pruned" and len(r.history) <= first]
    if len(ended) < ENOUGH or len(stopped) < _STOPPED * len(ended):
        return
    on = [r for r in ended if r.outcome == "completed" and len(r.history) > first]
    metric = known.space.metric
    agreement = _agreement(
        [objective(r.history[:first], metric) for r in on],
        [objective(r.history, metric) for r in on],
    )
    if agreement is not None and agreement >= _AGREES:
        return
    epochs = max((asked_epochs(r, known.space) for r in ended), default=first)
    yield (
        "Most trials were pruned at the first check.",
        f"{len(stopped)} of {len(ended)} after {first} of {epochs} epochs; "
        + (
            f"{len(on)} completed, too few to know whether that early value predicts the final one"
            if agreement is None
            else f"for the {len(on)} that completed, the rank then and the final rank have a "
            f"correlation of {agreement:.2f} (Spearman)"
        ),
        f"let trials train longer before they are judged: a new sweep with a larger "
        f"scheduler.{scheduler.grace_setting}",
    )


def _agreement(early: Sequence[float], late: Sequence[float]) -> float | None:
    """Spearman's correlation; None of fewer than 8 pairs, or where all are equal."""
    if len(early) < 8 or len(set(early)) < 2 or len(set(late)) < 2:
        return None
    return float(spearmanr(early, late).statistic)


RULES: tuple[Callable[[Known], Said], ...] = (
    many_failures,
    many_violations,
    too_few_trials,
    a_bound_was_hit,
    mostly_noise,
    does_nothing,
    most_stopped_at_once,
)


def widened(records: Sequence[TrialRecord], space: Space) -> tuple[Space, list[Bound]] | None:
    """The space that goes further where a bound was hit, and these bounds; None where no range
    can. It names no earlier sweeps: a sweep that is extended brings what it knows of them."""
    bounds = bounds_hit([r for r in records if r.counts], space)
    new, moved = wider(replace(space, warm_start=()), bounds)
    return (new, [b for b in bounds if b.setting in moved]) if moved else None
