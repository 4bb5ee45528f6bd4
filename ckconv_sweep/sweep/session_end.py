"""When a session has to end although its sweep does not: the time that a cluster lends is up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.record.trials import TrialRecord

MARGIN = 1.25
"""An epoch may take this many times as long as the longest one so far."""
_CLOSING_SHARE = 0.02
_MOST_CLOSING_SECONDS = 60.0
"""Kept for the end of the session: this share of its time, at most so many seconds."""


@dataclass
class SessionEnd:
    """Args:
    at: when the session has to be over, in seconds of `clock`; infinite: it may take any time.
    asked: whether it has to end at once, with the epochs that are being trained.
    """

    at: float = math.inf
    asked: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._longest_seconds = 0.0
        left = max(0.0, self.at - self.clock())
        self._closing_seconds = min(_CLOSING_SHARE * left, _MOST_CLOSING_SECONDS)

    def heard(self, epoch: Epoch) -> None:
        """An epoch has been trained."""
        seconds = epoch.metrics.get("time/epoch_seconds", 0.0)
        self._longest_seconds = max(self._longest_seconds, seconds)

    def heard_all(self, records: Iterable[TrialRecord]) -> None:
        """What earlier sessions trained."""
        if math.isfinite(self.at):
            for record in records:
                for epoch in record.history:
                    self.heard(epoch)

    @property
    def is_near(self) -> bool:
        """Whether an epoch that began now might not end in time."""
        needed = MARGIN * self._longest_seconds + self._closing_seconds
        return self.asked() or self.clock() + needed >= self.at

    @property
    def why(self) -> str:
        """Why it is near, for a person."""
        if self.asked():
            return "SIGUSR1 came, and the epochs that were running have ended"
        return "no time for another epoch is left in this session"
