"""How scores and their differences are written in tables and sentences."""

from __future__ import annotations

import math


def score(value: float, digits: int = 4) -> str:
    """A metric with so many decimals: `0.9722`; or digits where these would say too little or too
    much: `2.575e-05`, `1.235e+07`. A count has none: `12,834`."""
    if 100 <= abs(value) < 1e7 and float(value).is_integer():
        return f"{value:,.0f}"
    plain = value == 0.0 or 10.0 ** (2 - digits) <= abs(value) < 1e6
    return f"{value:.{digits}f}" if plain else f"{value:.4g}"


def difference(value: float) -> str:
    """Of two scores, with a sign: `+0.0021`, `-1.2e-05`, `+1,234`."""
    if abs(value) >= 1e4:
        return f"{value:+,.0f}"
    plain = value == 0.0 or abs(value) >= 5e-5
    return f"{value:+.4f}" if plain else f"{value:+.2g}"


def amount(value: float) -> str:
    """The same without a sign."""
    return difference(abs(value)).removeprefix("+")


def around(mean: float, low: float, high: float, *, of: str) -> str:
    """A mean that was written already, with half of its interval: `0.9701 ± 0.0049`; alone where it
    has none. The half is that of the side that no bound cuts off."""
    if math.isnan(low):
        return of
    return f"{of} ± {amount(max(mean - low, high - mean))}"
