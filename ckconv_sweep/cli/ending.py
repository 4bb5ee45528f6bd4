"""What the end of a session needs, brought while there is time for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib import import_module

from ckconv_sweep.config.space import Space
from ckconv_sweep.record.budget import asked
from ckconv_sweep.record.events import Ended, Event, Listener
from ckconv_sweep.record.trials import TrialRecord


class Ending(Listener):
    """Imports scikit-learn for the advice at the end, a second, while MLflow gets the rest of the
    last trial and Ray shuts down.

    Args:
        records: what the sweep has already.
    """

    def __init__(self, space: Space, records: Sequence[TrialRecord]) -> None:
        ended = sum(record.counts and record.outcome != "running" for record in records)
        self._left = asked(records, space) - ended

    def hear(self, event: Event) -> None:
        if isinstance(event, Ended):
            self._left -= 1
            if self._left == 0:
                name = ("ckconv_sweep.report.importance",)
                threading.Thread(target=import_module, args=name, daemon=True).start()
