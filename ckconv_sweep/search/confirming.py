"""Which setting of a confirmation is trained next with which fresh seed, and when it is over.

Pure functions of the plan and the records: a resumed confirmation goes on as one that was never
interrupted. Settings are compared in pairs, trial by trial with the same seed, by Student's 95 %
interval of the mean difference. It is looked at again after every trial, so a setting that is as
good as the leader is dropped more often than in 5 % of the cases: benchmarks/confirm.py measures
how often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ckconv_sweep.config.trial import Metric
from ckconv_sweep.record.confirmation import Confirmation
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.search.intervals import Interval, interval

FEWEST = 3
"""Seeds that each setting gets, and that must have completed before it is judged."""


Difference = Interval
"""Of two settings, over the seeds that both completed; `count` is how many these are."""


def paired(values: Mapping[int, float], leader: Mapping[int, float]) -> Difference | None:
    """`values - leader` by seed, in the metric's own units; None with less than two pairs.

    Args:
        values, leader: what each completed trial of a setting reached, by `seed_index`.
    """
    common = sorted(values.keys() & leader.keys())
    return interval([values[index] - leader[index] for index in common])


def is_worse(difference: Difference | None, metric: Metric) -> bool:
    """Whether it is known to be worse than the leader: of three pairs or more, the interval lies
    wholly on the bad side of 0."""
    if difference is None or difference.count < FEWEST:
        return False
    return difference.high < 0.0 if metric.mode == "max" else difference.low > 0.0


def values_of(records: Iterable[TrialRecord], metric: Metric) -> dict[int, dict[int, float]]:
    """What each completed trial of a confirmation reached, by setting and `seed_index`."""
    found: dict[int, dict[int, float]] = {}
    for record in records:
        if (
            record.confirms is not None
            and record.seed_index is not None
            and record.outcome == "completed"
        ):
            found.setdefault(record.confirms, {})[record.seed_index] = record.value(metric)
    return found


def leader_of(
    plan: Confirmation, values: Mapping[int, Mapping[int, float]], metric: Metric
) -> int | None:
    """The setting with the best mean over its completed seeds, of those with at least `FEWEST`;
    of equal ones that which the search ranked higher. None before there is one.

    Means may be over different seeds, where some failed or a setting was dropped: one that is known
    to be worse than another, seed by seed, does not lead.
    """
    order = _by_mean(plan, values, metric)

    def is_beaten(number: int) -> bool:
        return any(is_worse(paired(values[number], values[other]), metric) for other in order)

    return next((number for number in order if not is_beaten(number)), next(iter(order), None))


def _by_mean(
    plan: Confirmation, values: Mapping[int, Mapping[int, float]], metric: Metric
) -> list[int]:
    """The settings with at least `FEWEST` completed seeds, best mean first."""
    sign = 1.0 if metric.mode == "max" else -1.0
    means = {
        number: sign * sum(seeds.values()) / len(seeds)
        for number in plan.settings
        if len(seeds := values.get(number, {})) >= FEWEST
    }
    return sorted(means, key=means.__getitem__, reverse=True)


def wanted(
    plan: Confirmation, records: Sequence[TrialRecord], metric: Metric
) -> list[tuple[int, int]]:
    """What to train next, best first: `(setting, seed_index)`, without what has begun.

    Seed by seed over all settings, so that an interruption leaves each with as many. Every setting
    gets `FEWEST` seeds; after that one that is worse than the leader gets no more. The control gets
    as many as the leader. One that failed is not begun again.
    """
    values = values_of(records, metric)
    # By the mean alone: a dropped setting that comes first by a later seed of another gets more.
    first = next(iter(_by_mean(plan, values, metric)), None)
    best = values.get(first, {}) if first is not None else {}
    dropped = {
        number
        for number in plan.settings
        if number != plan.control and is_worse(paired(values.get(number, {}), best), metric)
    }
    begun = {(record.confirms, record.seed_index) for record in records}
    return [
        (number, index)
        for index in range(plan.seeds)
        for number in plan.compared
        if (number, index) not in begun and (index < FEWEST or number not in dropped)
    ]


def is_over(plan: Confirmation, records: Sequence[TrialRecord], metric: Metric) -> bool:
    """Whether nothing is wanted, and no trial of it is unfinished."""
    ended = all(r.outcome != "running" for r in records if r.confirms is not None)
    return ended and not wanted(plan, records, metric)
