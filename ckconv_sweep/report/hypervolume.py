"""How much the completed trials of a sweep with several metrics have won: the volume that they
beat, between the worst and the best value of each metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ckconv_sweep.config.space import Space
from ckconv_sweep.record.seeds import by_setting
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.pareto import pareto_optimal


def hypervolume(losses_NM: NDArray[Any], reference_M: NDArray[Any]) -> float:
    """The volume of all points that at least one of N points beats, and that beat the reference.

    Args:
        losses_NM: ``(N, M)``, lower is better.
        reference_M: ``(M,)``.
    """
    inside_NM = losses_NM[(losses_NM < reference_M).all(axis=1)]
    if not len(inside_NM):
        return 0.0
    if len(reference_M) == 1:
        return float(reference_M[0] - inside_NM.min())
    # Slices between one value of the last number and the next: each is won by those up to there.
    inside_NM = inside_NM[np.argsort(inside_NM[:, -1], kind="stable")]
    heights = np.diff(inside_NM[:, -1], append=reference_M[-1])
    if len(reference_M) == 2:
        return float(heights @ (reference_M[0] - np.minimum.accumulate(inside_NM[:, 0])))
    return sum(
        float(height) * hypervolume(inside_NM[: i + 1, :-1], reference_M[:-1])
        for i, height in enumerate(heights)
        if height
    )


@dataclass(frozen=True, kw_only=True)
class Won:
    """`steps`: after which trial, in the order in which they completed, which share of the box
    between the `worst` and the `best` value of each metric was won. Shares grow from 0 to 1."""

    worst: dict[str, float]
    """The reference point: of all completed trials, not only of those until then."""
    best: dict[str, float]
    steps: Sequence[tuple[int, float]]


def won(records: Sequence[TrialRecord], space: Space) -> Won | None:
    """None without several metrics or a completed trial."""
    completed = [r for r in by_setting(records, space) if r.outcome == "completed"]
    if not space.further or not completed:
        return None
    completed.sort(key=lambda record: (record.ended_ms or 0, record.number))
    sign_M = np.array([-1.0 if metric.mode == "max" else 1.0 for metric in space.metrics])
    values_NM = np.array([list(r.values(space.metrics).values()) for r in completed])
    losses_NM = values_NM * sign_M
    best_M, worst_M = losses_NM.min(axis=0), losses_NM.max(axis=0)
    width_M = worst_M - best_M
    losses_NM = (losses_NM - best_M) / np.where(width_M > 0, width_M, 1.0)
    steps, share, front = list[tuple[int, float]](), 0.0, np.empty((0, len(sign_M)))
    for record, loss_M in zip(completed, losses_NM, strict=True):
        if not (front <= loss_M).all(axis=1).any():
            front = np.vstack([front, loss_M])
            front = front[pareto_optimal(front, ["min"] * len(sign_M))]
            share = hypervolume(front, np.ones(len(sign_M)))
        steps.append((record.number, share))
    names = [metric.name for metric in space.metrics]
    return Won(
        worst=dict(zip(names, (worst_M * sign_M).tolist(), strict=True)),
        best=dict(zip(names, (best_M * sign_M).tolist(), strict=True)),
        steps=steps,
    )


def hypervolume_in_words(records: Sequence[TrialRecord], space: Space) -> list[str]:
    """A line with the share that was won in the end; none without several metrics."""
    found = won(records, space)
    if found is None:
        return []
    ends = (f"{name} {found.worst[name]:.4g} to {found.best[name]:.4g}" for name in found.worst)
    return [
        f"hypervolume {found.steps[-1][1]:.3f}: the share of the box between the worst (the "
        f"reference point) and the best values that the front beats; {', '.join(ends)}"
    ]
