"""The ranking of several metrics: front by front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from optuna.study._multi_objective import _fast_non_domination_rank

from ckconv_sweep.config.trial import Metric


def fronts(
    values_NM: Sequence[Sequence[float]], metrics: Sequence[Metric], *, enough: int | None = None
) -> list[int]:
    """The front of each of N trials, from 1: those that no other one beats in everything at once,
    then those that only these beat, and so on. With one metric all are on the first.

    Args:
        values_NM: ``(N, M)``, of each trial each metric.
        enough: once so many trials have their front, all others are on the next one.
    """
    if len(metrics) < 2 or len(values_NM) == 0:
        return [1] * len(values_NM)
    signs_M = [-1.0 if metric.mode == "max" else 1.0 for metric in metrics]
    losses_NM = np.asarray(values_NM, dtype=float) * signs_M
    return [1 + int(rank) for rank in _fast_non_domination_rank(losses_NM, n_below=enough)]
