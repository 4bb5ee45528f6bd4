"""What the epochs of a trial left behind, and what follows from it: which epoch counts, and
whether the trial has ended. Pure functions, so that a resumed trial cannot decide otherwise than
one that was never interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ckconv_sweep.config.trial import Metric, Trial


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of a trial.

    `number` counts from 1; `metrics` holds `val/accuracy`, `time/epoch_seconds`, ...;
    `timestamp_ms` is the time of its end since 1970; `checkpoint` the name of the file that was
    safe on disk before this epoch was reported, empty where it has none.
    """

    number: int
    metrics: Mapping[str, float]
    timestamp_ms: int
    checkpoint: str = ""


@dataclass(frozen=True)
class Go:
    """A trial goes on."""


@dataclass(frozen=True)
class Stop:
    """A trial is pruned; `reason` says why, in words and numbers."""

    reason: str


@dataclass(frozen=True)
class Continue:
    """A trial ends as continued: a new one has its place, begins with the checkpoint that trial
    `source` had after `epoch`, and has `params`. `reason` says why, in words and numbers."""

    source: int
    epoch: int
    reason: str
    params: Mapping[str, Any] = field(default_factory=dict)


Verdict = Go | Stop | Continue
"""What a stopping rule answers after an epoch; recorded with the epoch, before it is obeyed."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """The checkpoint that a continuation begins with: its file, in the folder of another trial, and
    the epoch after which it was written."""

    path: str
    epoch: int


def best(history: Sequence[Epoch], metric: Metric) -> Epoch:
    """The epoch by which a trial is judged; the earlier one of equals. `history` is not empty."""
    if metric.at == "last":
        return history[-1]
    chosen = history[0]
    for epoch in history[1:]:
        if metric.better(epoch.metrics[metric.name], chosen.metrics[metric.name]):
            chosen = epoch
    return chosen


def objective(history: Sequence[Epoch], metric: Metric) -> float:
    """The number by which a trial is judged."""
    return objectives(history, (metric,))[metric.name]


def objectives(history: Sequence[Epoch], metrics: Sequence[Metric]) -> dict[str, float]:
    """Each metric's value at the epoch that the first one chooses, by name; empty without an
    epoch."""
    if not history:
        return {}
    epoch = best(history, metrics[0])
    return {metric.name: epoch.metrics[metric.name] for metric in metrics}


def end_reason(trial: Trial, history: Sequence[Epoch]) -> str | None:
    """`epochs` when the trial has run its epochs, `early_stopping` when its metric has not become
    better for long enough, None while it goes on. `history`: its own epochs; those before a
    continuation are of other trials."""
    if history and history[-1].number >= trial.training.epochs:
        return "epochs"
    patience = trial.training.early_stopping_epochs
    if patience and history:
        last_better = best(history, trial.metric.model_copy(update={"at": "best"})).number
        if history[-1].number - last_better >= patience:
            return "early_stopping"
    return None
