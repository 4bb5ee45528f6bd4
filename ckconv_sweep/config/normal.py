"""A normal distribution between two bounds: which value is how far on its way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class TruncatedNormal:
    """Values between `low` and `high`; with `log` their natural logarithms are normal around that
    of `mean`, and `std` is that of the logarithms."""

    mean: float
    std: float
    low: float
    high: float
    log: bool
    whole: bool

    def at(self, unit: float) -> float:
        """The value below which the share `unit` of all lies, 0 <= unit <= 1; the nearest whole
        one."""
        below, above = self._ends()
        share = min(max(below + unit * (above - below), _LEAST), 1 - _LEAST)
        value = self._normal.inv_cdf(share)
        value = math.exp(value) if self.log else value
        return min(max(round(value) if self.whole else value, self.low), self.high)

    def unit_of(self, value: float) -> float:
        """Which share of all lies below a value; of a whole one the middle between its ends."""
        below, above = self._ends()
        half = 0.5 if self.whole else 0.0
        share = (self._below(value - half) + self._below(value + half)) / 2
        return min(max((share - below) / (above - below), 0.0), 1.0)

    @property
    def share(self) -> float:
        """How much of the distribution lies between the bounds."""
        below, above = self._ends()
        return above - below

    @property
    def _normal(self) -> NormalDist:
        return NormalDist(math.log(self.mean) if self.log else self.mean, self.std)

    def _ends(self) -> tuple[float, float]:
        half = 0.5 if self.whole else 0.0
        return self._below(self.low - half), self._below(self.high + half)

    def _below(self, value: float) -> float:
        return self._normal.cdf(math.log(value) if self.log else value)


_LEAST = 1e-15
"""`NormalDist` gives no value of 0 and of 1."""
