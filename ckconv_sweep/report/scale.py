"""Where the values of a setting stand on an axis: numbers by size, choices in the file's order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ckconv_sweep.config.domains import Choices, Interval, count, points

_FEW = 8
_ZERO_BELOW = 0.2
"""How far, in lengths of the range."""


@dataclass(frozen=True)
class Scale:
    """The axis of one searched setting."""

    domain: Interval | Choices

    @property
    def log(self) -> bool:
        return isinstance(self.domain, Interval) and self.domain.log

    @property
    def zero(self) -> float | None:
        """Where 0 stands on a logarithmic axis, below the range; None where it is no value."""
        domain = self.domain
        if not isinstance(domain, Interval) or not (domain.log and domain.or_zero):
            return None
        return float(domain.low / max(domain.high / domain.low, 10.0) ** _ZERO_BELOW)

    @property
    def numeric(self) -> bool:
        """Whether values between two values mean something."""
        return isinstance(self.domain, Interval)

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last position."""
        if isinstance(self.domain, Choices):
            return 0.0, float(len(self.domain.options) - 1)
        low = self.domain.lowest if self.zero is None else self.zero
        return float(low), float(self.domain.high)

    @property
    def steps(self) -> tuple[float, ...]:
        """Of a number that has few values, evenly spaced: these."""
        if isinstance(self.domain, Choices) or self.log or (count(self.domain) or 99) > _FEW:
            return ()
        if self.domain.or_zero and self.domain.low != (self.domain.step or 1):
            return ()
        return tuple(float(value) for value in points(self.domain) or ())  # type: ignore[arg-type]

    def position(self, value: Any) -> float:
        """On the setting's own axis: the number itself, or the choice's place from 0."""
        if isinstance(self.domain, Interval):
            return float(value) or self.zero or 0.0
        return float(self.domain.place(value))

    def fraction(self, value: Any) -> float:
        """From 0 at the low end to 1 at the high end, by logarithm where it is drawn so."""
        low, high = self.ends
        if low == high:
            return 0.5
        bend = math.log if self.log else float
        return (bend(self.position(value)) - bend(low)) / (bend(high) - bend(low))

    def told(self, position: float) -> str:
        """The number at a position."""
        return "0" if position == self.zero else f"{position:.4g}"

    def at(self, fraction: float) -> float:
        """The position at such a fraction; the inverse of `fraction` for numbers."""
        low, high = self.ends
        if self.log:
            return math.exp(math.log(low) + fraction * (math.log(high) - math.log(low)))
        return low + fraction * (high - low)
