"""Where the values of a setting stand on an axis: numbers by size, choices in the file's order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ckconv_sweep.config.domains import Choices, Interval, count, points

_FEW = 8


@dataclass(frozen=True)
class Scale:
    """The axis of one searched setting."""

    domain: Interval | Choices

    @property
    def log(self) -> bool:
        return isinstance(self.domain, Interval) and self.domain.log

    @property
    def numeric(self) -> bool:
        """Whether values between two values mean something."""
        return isinstance(self.domain, Interval)

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last position."""
        if isinstance(self.domain, Choices):
            return 0.0, float(len(self.domain.options) - 1)
        return float(self.domain.low), float(self.domain.high)

    @property
    def steps(self) -> tuple[float, ...]:
        """Of a number that has few values, evenly spaced: these."""
        if isinstance(self.domain, Choices) or self.log or (count(self.domain) or 99) > _FEW:
            return ()
        return tuple(float(value) for value in points(self.domain) or ())  # type: ignore[arg-type]

    def position(self, value: Any) -> float:
        """On the setting's own axis: the number itself, or the choice's place from 0."""
        if isinstance(self.domain, Interval):
            return float(value)
        return float(
            next(
                place
                for place, option in enumerate(self.domain.options)
                if option == value and isinstance(option, bool) == isinstance(value, bool)
            )
        )

    def fraction(self, value: Any) -> float:
        """From 0 at the low end to 1 at the high end, by logarithm where it is drawn so."""
        low, high = self.ends
        if low == high:
            return 0.5
        bend = math.log if self.log else float
        return (bend(self.position(value)) - bend(low)) / (bend(high) - bend(low))

    def at(self, fraction: float) -> float:
        """The position at such a fraction; the inverse of `fraction` for numbers."""
        low, high = self.ends
        if self.log:
            return math.exp(math.log(low) + fraction * (math.log(high) - math.log(low)))
        return low + fraction * (high - low)
