"""Which trial a sweep tries next: a repeat of a setting, one of the first, or what the sampler
draws. Each is recorded as a whole before anybody hears of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ckconv_sweep.config.domains import Scalar
from ckconv_sweep.config.grid import exhausted
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.record import warm_start
from ckconv_sweep.record.seeds import Seeds, as_seen, goal_trial
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, next_first, next_position
from ckconv_sweep.search.view import View

_FOLD = "data.fold"


class Choice:
    """The `Agenda` of the search: what is left of the budget, and how it is spent.

    Args:
        records: the search's trials as they are when the session begins.
    """

    searches = True

    def __init__(self, study: Study, records: Sequence[TrialRecord]) -> None:
        self.space, self._study = study.space, study
        earlier = warm_start.noted(study).records
        self.view = View(self.space, [*earlier, *as_seen(records, self.space)])
        self._position, self._first = next_position(records), next_first(records)
        # Also one that was being rejected when the driver was killed: it is rejected again.
        begun = [r for r in records if r.counts or r.outcome == "running"]
        self._begun = sum(r.is_new and not r.request for r in begun)
        self._seeds = Seeds(self.space, records)
        self._goal_reached = goal_trial(records, self.space) is not None

    def trials(self) -> list[TrialRecord]:
        return self._study.trials()

    @property
    def left(self) -> int:
        """How many trials may still come, at most."""
        new = 0 if self._all_drawn else self.space.budget.trials - self._begun
        return self._seeds.left(new) + new

    def next(self) -> TrialRecord | None:
        """A new trial, recorded; None where there is none now."""
        setting = self._seeds.next(all_drawn=self._all_drawn)
        if setting is not None:
            return self._repeat(setting)
        if self._all_drawn:
            return None
        self._begun += 1
        if self._first < len(self.space.first):
            self._first += 1
            return self.add(self.space.first[self._first - 1], first=self._first - 1)
        drawn = self.view.draw(self._position, self._study.next_number())
        crash_point("trial.drawn")
        self._position += 1
        record = self._study.create(drawn.params, drawn.distributions, position=drawn.position)
        self._seeds.begin(record.number, None)
        return record

    def add(self, params: Mapping[str, Scalar], **origin: Any) -> TrialRecord:
        """A trial that the sampler did not draw, recorded. `origin`: see `Study.create`."""
        if (again := origin.get("retry_of")) is not None:
            origin |= self._place(params, origin.get("changes", {}), self._study.trial(again))
        record = self._study.create(params, self.view.distributions(params), **origin)
        self._seeds.begin(record.number, record.repeat_of, record.retry_of, record.replaces)
        self._show(record)
        return record

    def ended(self, record: TrialRecord) -> None:
        """A trial has ended: the sampler may learn of it."""
        self._seeds.end(record.number, record.outcome, record.values(self.space.metrics))
        of_setting = self._show(record)
        self._goal_reached |= goal_trial(of_setting, self.space) is not None

    def rejected(self, record: TrialRecord) -> None:
        """A new trial was rejected: another one may come in its place."""
        self._seeds.reject(record.number)
        self._begun -= not record.request
        self.view.show(record)

    @property
    def _all_drawn(self) -> bool:
        """Whether no new setting will be tried."""
        return (
            self._begun >= self.space.budget.trials
            or self._goal_reached
            or (self._first >= len(self.space.first) and exhausted(self.space, self._position))
        )

    def _show(self, record: TrialRecord) -> list[TrialRecord]:
        """Let the sampler see a trial's setting as it is now; returns the trials of that."""
        records = [record]
        if self.space.repeats is not None:
            setting = record.number if record.repeat_of is None else record.repeat_of
            records = [self._study.trial(number) for number in self._seeds.of(setting)]
        for seen in as_seen(records, self.space):
            self.view.show(seen)
        return records

    def _repeat(self, setting: int) -> TrialRecord:
        """Another trial of a setting; its seed follows from its number."""
        first, repeats = self._study.trial(setting), self.space.repeats
        changes = dict(first.changes)
        if repeats is not None and repeats.folds is not None:
            changes[_FOLD] = len(self._seeds.of(setting))
        origin = {"changes": changes} if changes else {}
        return self.add(first.params, repeat_of=setting, **origin)

    def _place(
        self, params: Mapping[str, Scalar], changes: Mapping[str, Any], failed: TrialRecord
    ) -> dict[str, Any]:
        """What is recorded of a trial that tries a failed one again. As it was, a failed repeat is
        a repeat of its setting, on its fold, and a continuation begins with the same checkpoint;
        with anything else it is a setting of its own."""
        if failed.is_new:
            return {}
        if (params, changes) == (failed.params, failed.changes):
            names = ("repeat_of", "replaces", "from_trial", "from_epoch")
            return {name: failed.origin[name] for name in names if name in failed.origin}
        return {"changes": {path: value for path, value in changes.items() if path != _FOLD}}
