"""What happens in a sweep, for whoever wants to hear it: the live view, the log, MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ckconv_sweep.config.history import Continue, Epoch, Stop
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.record.why import why


@dataclass(frozen=True, kw_only=True)
class Started:
    """A trial is handed out; the last epoch that was recorded of it, or of what it continues, is
    `epochs_before`."""

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
    """How many of its own."""
    last_epoch: int
    """The number of the last one; more than `epochs` where it continues another trial."""
    values: Mapping[str, float]
    ended_ms: int
    verdict: str = ""
    """What the stopping rule said when it stopped the trial, if it did."""
    why: str = ""
    """See `record.why`; empty of a trial that is trained alone."""


def ended(record: TrialRecord, trial: Trial, metrics: Sequence[Metric]) -> Ended:
    """What is told of a trial that has ended."""
    return Ended(
        number=record.number,
        outcome=record.outcome,
        reason=record.reason,
        error=record.error,
        epochs=len(record.history),
        values=record.values(metrics),
        ended_ms=record.ended_ms or 0,
        verdict=record.verdict.reason if isinstance(record.verdict, Stop | Continue) else "",
        why=why(record, trial),
        last_epoch=record.last_epoch,
    )


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

    def attend(self) -> None:
        """Called several times a second, between two events, where something may be recorded."""
