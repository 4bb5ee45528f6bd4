"""Which trials no other one beats in everything at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


def pareto_optimal(
    values_NM: Sequence[Sequence[float]] | NDArray[Any],
    better: Sequence[Literal["min", "max"]],
) -> NDArray[np.bool_]:
    """Whether each of N trials is Pareto optimal in M numbers: no other is at least as good in all
    and better in one. A trial that lacks a number is not; of equal trials each is.

    Args:
        values_NM: ``(N, M)``; NaN where a number is missing.
        better: for each of the M whether the smaller or the larger one is better.

    Returns:
        ``(N,)``
    """
    sign_M = np.array([1.0 if which == "min" else -1.0 for which in better])
    costs_NM = np.asarray(values_NM, dtype=float).reshape(-1, len(better)) * sign_M
    whole_N = ~np.isnan(costs_NM).any(axis=1)
    optimal_N = np.zeros(len(costs_NM), dtype=bool)
    for index in np.flatnonzero(whole_N):
        others_NM = costs_NM[whole_N]
        as_good_N = (others_NM <= costs_NM[index]).all(axis=1)
        better_N = (others_NM < costs_NM[index]).any(axis=1)
        optimal_N[index] = not (as_good_N & better_N).any()
    return optimal_N
