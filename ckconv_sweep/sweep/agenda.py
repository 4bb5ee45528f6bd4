"""What a coordinator asks about the trials of its session: which comes next, and what is answered
after an epoch. The search has a `Choice` and a `Judge` for it; a confirmation is both itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ckconv_sweep.config.domains import Scalar
from ckconv_sweep.config.history import Epoch, Source, Verdict
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.sweep.judging import Running


class Agenda(Protocol):
    """Which trials are trained. Each is recorded before it is returned."""

    searches: bool
    """Whether it is the search: it ends with the budget's hours, and people may add trials."""

    def trials(self) -> list[TrialRecord]:
        """Those of its kind that the study has now, by number. The session trains no other."""

    @property
    def left(self) -> int:
        """How many trials may still come, at most, as long as none that runs ends."""

    def next(self) -> TrialRecord | None:
        """A new trial; None where there is none now."""

    def add(self, params: Mapping[str, Scalar], **origin: Any) -> TrialRecord:
        """A trial that it would not have chosen. `origin`: see `Study.create`."""

    def ended(self, record: TrialRecord) -> None:
        """A trial has ended."""

    def rejected(self, record: TrialRecord) -> None:
        """A new trial violates a constraint."""


class Rule(Protocol):
    """When a trial stops, and what it begins with."""

    def begin(self, record: TrialRecord) -> None:
        """A trial is handed out."""

    def verdict(self, number: int, running: Running, epoch: Epoch) -> Verdict | None:
        """The answer after the next epoch of a trial; None where there is none."""

    def end(self, number: int, running: Running, outcome: Outcome) -> None:
        """A trial has ended."""

    def source(self, record: TrialRecord) -> Source | None:
        """What a continuation begins with; None where a trial is none."""
