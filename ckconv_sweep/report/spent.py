"""Where the time of a sweep went: its sessions, its trials' epochs, and what early stopping saved.
Times are in seconds of running: the breaks between sessions are left out."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ckconv_sweep.config.metrics import SECONDS
from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.trials import TrialRecord


@dataclass(frozen=True, kw_only=True)
class Session:
    """A driver's run, from the beginning of its first epoch to the end of its last."""

    number: int
    start_ms: float
    end_ms: float


@dataclass(frozen=True)
class Clock:
    """Seconds of running at a moment since 1970."""

    sessions: tuple[Session, ...]

    def __call__(self, moment_ms: float) -> float:
        if not self.sessions:
            return 0.0
        current = max(0, bisect.bisect_right(self._starts, moment_ms) - 1)
        before = self._before[current]
        session = self.sessions[current]
        inside = min(max(moment_ms, session.start_ms), session.end_ms) - session.start_ms
        return (before + inside) / 1000

    @cached_property
    def _starts(self) -> list[float]:
        return [session.start_ms for session in self.sessions]

    @cached_property
    def _before(self) -> list[float]:
        """How many ms ran before each session."""
        lengths = [session.end_ms - session.start_ms for session in self.sessions]
        return [0.0, *itertools.accumulate(lengths)]

    def breaks(self) -> Iterator[tuple[float, float]]:
        """Between two sessions: when it was, in seconds of running, and for how many seconds."""
        for before, after in itertools.pairwise(self.sessions):
            yield self(after.start_ms), (after.start_ms - before.end_ms) / 1000


def clock(records: Sequence[TrialRecord]) -> Clock:
    """The sessions, as the epochs tell them."""
    found: dict[int, tuple[float, float]] = {}
    for record in records:
        for number, start, end in _epochs(record):
            low, high = found.get(number, (start, end))
            found[number] = min(low, start), max(high, end)
    sessions: list[Session] = []
    for number, (start, end) in sorted(found.items()):
        if sessions:  # another machine's clock may be a little behind
            start = max(start, sessions[-1].end_ms)
        sessions.append(Session(number=number, start_ms=start, end_ms=max(start, end)))
    return Clock(tuple(sessions))


def spans(record: TrialRecord, running: Clock) -> list[tuple[float, float]]:
    """When each epoch of a trial was trained: its beginning and its end."""
    return [(running(start), running(end)) for _, start, end in _epochs(record)]


def _epochs(record: TrialRecord) -> Iterator[tuple[int, float, float]]:
    """Session, beginning and end in ms of each epoch."""
    for place, epoch in enumerate(record.history):
        session = record.sessions[place] if place < len(record.sessions) else 1
        yield (
            session,
            epoch.timestamp_ms - 1000 * epoch.metrics.get(SECONDS, 0.0),
            epoch.timestamp_ms,
        )


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Sums over a sweep."""

    wall_seconds: float
    """That a driver ran, from its first epoch to its last."""
    training_seconds: dict[Outcome, float]
    epochs: dict[Outcome, int]
    waiting_seconds: float
    """That trials waited between the beginning of their first epoch and the end of their last."""
    saved_epochs: int
    """That trials which were pruned did not run."""
    saved_seconds: float
    """These, each at its trial's mean time of an epoch."""
    gpu_seconds: float
    """GPUs, or parts of one, times how long they were trained on."""

    @property
    def training(self) -> float:
        return sum(self.training_seconds.values())

    @property
    def saved_share(self) -> float | None:
        """Which part of the training of all trials to their end was saved; None where no epoch
        tells how long it took."""
        whole = self.training + self.saved_seconds
        return self.saved_seconds / whole if whole else None

    @property
    def at_a_time(self) -> float:
        """How many trials trained at a time, on average."""
        return self.training / self.wall_seconds if self.wall_seconds else 0.0


def spent(records: Sequence[TrialRecord], space: Space) -> Spent:
    """Add up what the trials took."""
    running = clock(records)
    seconds: dict[Outcome, float] = {}
    epochs: dict[Outcome, int] = {}
    waiting = saved_seconds = 0.0
    saved_epochs = 0
    for record in records:
        took = sum(e.metrics.get(SECONDS, 0.0) for e in record.history)
        seconds[record.outcome] = seconds.get(record.outcome, 0.0) + took
        epochs[record.outcome] = epochs.get(record.outcome, 0) + len(record.history)
        times = spans(record, running)
        if times:
            waiting += max(0.0, times[-1][1] - times[0][0] - took)
        if record.outcome == "pruned" and record.history:
            missing = max(0, asked_epochs(record, space) - record.last_epoch)
            saved_epochs += missing
            saved_seconds += missing * took / len(record.history)
    return Spent(
        wall_seconds=sum(s.end_ms - s.start_ms for s in running.sessions) / 1000,
        training_seconds=seconds,
        epochs=epochs,
        waiting_seconds=waiting,
        saved_epochs=saved_epochs,
        saved_seconds=saved_seconds,
        gpu_seconds=sum(record.gpu_seconds for record in records),
    )


def asked_epochs(record: TrialRecord, space: Space) -> int:
    """How many epochs a trial was to run."""
    told = {**record.params, **record.changes}
    return int(told.get("training.epochs", space.trial.training.epochs))
