"""What the stopping rule answers after an epoch, and what a continuation begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ckconv_sweep.config.domains import Scalar
from ckconv_sweep.config.history import Continue, Epoch, Source, Stop, Verdict, end_reason
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.lineage import lineage
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.search.feasible import Infeasible, resolved
from ckconv_sweep.search.population import explored
from ckconv_sweep.search.rules import Curve, Curves, of_repeat, verdict_of


@dataclass
class Running:
    """A trial that is handed out."""

    trial: Trial
    history: list[Epoch]
    """Its own epochs."""
    repeat_of: int | None = None
    after: int = 0
    """The epoch before its first."""

    @property
    def last_epoch(self) -> int:
        """The number of the last epoch that is known of it."""
        return self.history[-1].number if self.history else self.after


class Judge:
    """The `Rule` of the search: its stopping rule, with what it knows of the trials.

    Args:
        records: the sweep's trials as they are when the session begins.
    """

    def __init__(
        self,
        study: Study,
        records: Iterable[TrialRecord],
        count_parameters: Callable[[Trial], int],
    ) -> None:
        self._study, self._count_parameters = study, count_parameters
        self._space, name = study.space, study.space.metric.name
        records = list(records)
        curves = {
            r.number: Curve(
                [epoch.metrics[name] for epoch in r.history],
                completed=r.outcome == "completed",
                failed=r.outcome == "failed",
                after=r.from_epoch or 0,
            )
            for r in records
            if r.repeat_of is None
        }
        self._curves = Curves(curves, seed=self._space.sampler.seed)
        self._pruned = {
            r.number for r in records if r.outcome == "pruned" or isinstance(r.verdict, Stop)
        }

    def begin(self, record: TrialRecord) -> None:
        """A trial is handed out."""
        if record.repeat_of is None:
            self._curves.setdefault(record.number, Curve([], after=record.from_epoch or 0))

    def verdict(self, number: int, running: Running, epoch: Epoch) -> Verdict | None:
        """The answer after the next epoch of a trial; None where it has ended."""
        if running.repeat_of is None:
            self._curves.add(number, epoch.metrics[self._space.metric.name])
        if end_reason(running.trial, [*running.history, epoch]) is not None:
            return None
        if running.repeat_of is not None:
            return of_repeat(running.repeat_of, self._pruned)
        verdict = verdict_of(self._space, self._curves, number)
        return self._explored(verdict, number) if isinstance(verdict, Continue) else verdict

    def end(self, number: int, running: Running, outcome: Outcome) -> None:
        """A trial has ended."""
        if outcome == "pruned":
            self._pruned.add(number)
        if running.repeat_of is None:
            if outcome == "completed":
                self._curves.complete(number)
            self._curves[number].failed = outcome == "failed"

    def source(self, record: TrialRecord) -> Source | None:
        """What a continuation begins with; None where a trial is none. Raises DamagedData if the
        study has no such epoch."""
        if record.from_trial is None or record.from_epoch is None:
            return None
        *_, link, _ = lineage(record, self._study.trials())
        name = link.epochs[-1].checkpoint
        path = self._study.folder.trial(record.from_trial) / name
        return Source(path=str(path), epoch=record.from_epoch)

    def _explored(self, verdict: Continue, number: int) -> Continue:
        """With the settings of the continuation. Its seed is not known yet, and no constraint names
        it."""

        source = self._study.trial(verdict.source)

        def fits(params: Mapping[str, Scalar]) -> bool:
            found = resolved(self._space, params, number, self._count_parameters, source.changes)
            return not isinstance(found, Infeasible)

        return replace(verdict, params=explored(self._space, source.params, number, fits))
