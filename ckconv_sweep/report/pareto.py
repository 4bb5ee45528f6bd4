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
    left_N, at = np.flatnonzero(whole_N), 0
    while at < len(left_N):  # each takes away those that it beats: as many rounds as are optimal
        costs_LM, cost_M = costs_NM[left_N], costs_NM[left_N[at]]
        stays_L = (costs_LM < cost_M).any(axis=1) | (costs_LM == cost_M).all(axis=1)
        at = 1 + int(stays_L[:at].sum())
        left_N = left_N[stays_L]
    optimal_N[left_N] = True
    return optimal_N
