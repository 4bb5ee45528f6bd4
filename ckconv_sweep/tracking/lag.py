"""How far MLflow is behind a sweep, by the study alone: for whoever looks at it from outside."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.tracking.marks import Found, Mark, noted_marks
from ckconv_sweep.tracking.store import kept_notes

ON_ITS_WAY_SECONDS = 15.0
"""So long after it was recorded, what a driver records may be on its way to MLflow: a driver notes
what has arrived every few seconds."""


def owed(records: Iterable[TrialRecord], has: Found, *, finished: bool) -> int:
    """How many epochs, ends of trials and ends of the sweep MLflow is not known to have.

    Args:
        records: all trials of the sweep, also those that confirm it.
        has: what it is known to have.
        finished: whether the sweep is.
    """
    missing = int(finished and has.status != "FINISHED")
    for record in records:
        if record.counts:
            mark = has.marks.get(record.number, Mark())
            missing += record.epochs_after(mark.epochs)
            missing += record.outcome != "running" and not mark.ended
    return missing


@dataclass(frozen=True)
class Lag:
    """What MLflow is not known to have of a sweep."""

    records: int = 0
    """Epochs and ends of trials."""
    trials: int = 0
    """Of how many trials these are."""
    since_ms: int = 0
    """When the oldest of them was recorded."""

    def __bool__(self) -> bool:
        return self.records > 0

    @property
    def in_words(self) -> str:
        """As in `41 records behind (3 trials; the oldest is 4 min old)`."""
        minutes = (time.time() - self.since_ms / 1000) / 60
        old = f"{minutes:,.0f} min" if minutes >= 1 else "less than a minute"
        return (
            f"{self.records:,} record{'s' * (self.records > 1)} behind "
            f"({self.trials:,} trial{'s' * (self.trials > 1)}; the oldest is {old} old)"
        )


def lag_of(
    notes: Mapping[str, Any], records: Iterable[TrialRecord], sweeps_dir: Path, *, held: bool
) -> Lag:
    """What MLflow lacks by a study's notes; nothing where the sweep was never tracked.

    Args:
        records: all trials of the sweep, also those that confirm it.
        held: a driver runs it, and may just be delivering what is new.
    """
    kept, records = kept_notes(notes, sweeps_dir), list(records)
    if not kept:
        return Lag()
    marks = noted_marks(kept, kept["uri"], records).marks
    upto = (time.time() - ON_ITS_WAY_SECONDS) * 1000 if held else float("inf")
    missing, trials = list[int](), 0
    for record in records:
        lacks = list(_lacking(record, marks.get(record.number, Mark()))) if record.counts else []
        lacks = [when for when in lacks if when <= upto]
        missing += lacks
        trials += bool(lacks)
    return Lag(len(missing), trials, min(missing, default=0))


def _lacking(record: TrialRecord, mark: Mark) -> Iterable[int]:
    """When each record was made that MLflow lacks of a trial."""
    if mark.epochs < record.last_epoch:
        yield from (e.timestamp_ms for e in record.history if e.number > mark.epochs)
    if record.outcome != "running" and not mark.ended:
        yield record.ended_ms or record.started_ms


class Behind:
    """Tells whoever watches a sweep when MLflow falls behind, again when it is twice as far behind,
    and when it has caught up."""

    def __init__(self) -> None:
        self._said = 0

    def news(self, lag: Lag) -> str:
        """What there is to say, if anything."""
        if lag.records > 2 * self._said:
            self._said = lag.records
            return f"MLflow is {lag.in_words}; the study has them, and no trial waits for it"
        if self._said and not lag:
            self._said = 0
            return "MLflow has caught up"
        return ""
