"""What happens in a sweep, for whoever wants to hear it: the live view, the log, MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.trials import TrialRecord


@dataclass(frozen=True, kw_only=True)
class Started:
    """A trial is handed out; `epochs_before` of its epochs were recorded in an earlier session."""

    number: int
    trial: Trial
    params: Mapping[str, Any]
    started_ms: int
    epochs_before: int = 0
    origin: Mapping[str, Any] = field(default_factory=dict)
    """As of TrialRecord."""


@dataclass(frozen=True, kw_only=True)
class EpochEnded:
    """An epoch is acknowledged; `best` is the trial's metric at its best epoch so far, `session`
    the number of the driver's session, from 1."""

    number: int
    epoch: Epoch
    best: float
    session: int = 1


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A trial has ended; `values` are those of `history.objectives`, by which it is judged."""

    number: int
    outcome: Outcome
    reason: str
    error: str
    epochs: int
    values: Mapping[str, float]
    ended_ms: int


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A point of a grid was rejected, and none comes in its place: the sweep can have
    `most` settings in all. Of the other samplers' violations nobody hears: they draw again."""

    number: int
    most: int


Event = Started | EpochEnded | Ended | Rejected


class Listener:
    """Hears of a sweep. Each method does nothing until it is written; none may raise or wait."""

    def begin(self, records: Sequence[TrialRecord]) -> None:
        """A session begins; `records` is what earlier ones left, without violated constraints."""

    def hear(self, event: Event) -> None:
        """Something happened to a trial."""

    def say(self, message: str) -> None:
        """Something that a person should read."""
