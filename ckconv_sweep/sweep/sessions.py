"""How long the drivers of a sweep have run it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord


class Sessions:
    """How long drivers have run a sweep. The clock counts within one session only: what earlier
    ones spent stands beside each epoch in the study, so that neither a kill nor a clock that is
    set anew changes it. A session counts up to its last epoch, without its pauses."""

    def __init__(
        self, study: Study, records: Iterable[TrialRecord], clock: Callable[[], float]
    ) -> None:
        starts: list[int] = study.note("sessions") or []
        self._before = max((record.spent_seconds for record in records), default=0.0)
        self._clock, self._start = clock, clock()
        self._rested_at: float | None = None
        self.number = len(starts) + 1
        study.set_note("sessions", [*starts, time.time_ns() // 1_000_000])

    def rest(self, rests: bool) -> None:
        """What passes until it rests no more does not count."""
        if rests:
            self._rested_at = self._clock()
        elif self._rested_at is not None:
            self._start += self._clock() - self._rested_at
            self._rested_at = None

    def spent(self) -> float:
        """Seconds, this session's included."""
        now = self._clock() if self._rested_at is None else self._rested_at
        return self._before + now - self._start
