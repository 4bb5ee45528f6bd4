"""The trials over which a statistic is made, each with one number, all after equal training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ckconv_sweep.config.history import objective
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.record.seeds import by_setting
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.summary import standing

ENOUGH = 20
"""Of fewer trials a forest told planted settings from none in less than half of the tries
(docs/decisions.md)."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Some trials and their values of the metric, in the same order."""

    records: tuple[TrialRecord, ...]
    values: NDArray[np.float64]
    words: str
    """Which trials they are: `14 completed trials`."""

    def __len__(self) -> int:
        return len(self.records)


def score(record: TrialRecord, metric: Metric) -> float | None:
    """The number by which a trial is judged so far; None before its first epoch."""
    return record.value(metric) if record.history else None


def comparable(records: Sequence[TrialRecord], space: Space, enough: int = ENOUGH) -> Sample:
    """The completed trials; if they are fewer than `enough`, or than the pruned trials, all
    trials as they were after the first epoch at which one was pruned: a stopping rule leaves the
    best, in which the settings that decided it differ no more. Continued is as pruned here, and
    what continues others is left out: what it reached is not due to its settings alone."""
    metric = space.metric
    records = [r for r in by_setting(records, space) if r.replaces is None]
    completed = [r for r in records if r.outcome == "completed"]
    ended = [r for r in records if r.outcome in ("pruned", "continued")]
    stopped = [len(r.history) for r in ended if r.history]
    if stopped and (len(completed) < enough or len(completed) < len(stopped)):
        epoch = min(stopped)
        alike = [r for r in records if len(r.history) >= epoch]
        if len(alike) >= enough:
            return Sample(
                tuple(alike),
                np.array([objective(r.history[:epoch], metric) for r in alike]),
                f"{len(alike)} trials, by {metric.name} after {epoch} "
                f"{'epoch' if epoch == 1 else 'epochs'} (only {len(completed)} completed)",
            )
    return Sample(
        tuple(completed),
        np.array([r.value(metric) for r in completed]),
        f"{len(completed)} completed {'trial' if len(completed) == 1 else 'trials'}",
    )


def ranked(records: Sequence[TrialRecord], space: Space) -> list[TrialRecord]:
    """The trials, best first: the completed ones, then those that were pruned or continued; of
    equal ones the earlier. What failed or has not ended is left out."""
    left_out = ("failed", "running")
    ended = [r for r in by_setting(records, space) if r.outcome not in left_out and r.history]
    return sorted(ended, key=lambda r: (*standing(r, space.metric), r.number))
