"""Where the mean of a few numbers lies: Student's 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ckconv_sweep.config.metrics import METRICS
from ckconv_sweep.config.trial import Metric


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval, of a number of values."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def has_zero(self) -> bool:
        return self.low <= 0.0 <= self.high

    def negated(self) -> Interval:
        """Of the same values with the other sign."""
        return Interval(-self.mean, -self.high, -self.low, self.count)


def interval(values: Sequence[float]) -> Interval | None:
    """`mean +- t(0.975; n - 1) * s / sqrt(n)`, `s` the standard deviation with `n - 1`. None of
    less than two values; equal ones give an interval without a width."""
    number = len(values)
    if number < 2:
        return None
    mean = math.fsum(values) / number
    if len(set(values)) == 1:  # a sum of equal numbers is rounded, and they would differ from it
        return Interval(values[0], values[0], values[0], number)
    from scipy.special import stdtrit

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (number - 1))
    half = float(stdtrit(number - 1, 0.975)) * deviation / math.sqrt(number)
    return Interval(mean, mean - half, mean + half, number)


def interval_of_mean(scores: Sequence[float], metric: Metric) -> tuple[float, float]:
    """The ends of the interval, no further than the metric goes; NaN of less than two scores."""
    return ends_within(scores, METRICS[metric.name].bounds)


def ends_within(scores: Sequence[float], bounds: tuple[float, float]) -> tuple[float, float]:
    """The ends of the interval, no further than these; NaN of less than two scores."""
    found = interval(scores)
    if found is None:
        return math.nan, math.nan
    return max(bounds[0], found.low), min(bounds[1], found.high)
