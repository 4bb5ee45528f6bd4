"""What a session trains that confirms a sweep's best settings: each of them, and the control, again
with the same fresh seeds, every trial to its own end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ckconv_sweep.config.domains import Scalar
from ckconv_sweep.config.history import Epoch, Source, Verdict
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.confirmation import Confirmation, fresh_seed
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import BASE, TrialRecord
from ckconv_sweep.search.confirming import is_over, wanted
from ckconv_sweep.search.samplers import distribution
from ckconv_sweep.sweep.judging import Running

SEED, FOLD = "training.seed", "data.fold"


class Confirming:
    """An `Agenda` and a `Rule`.

    Args:
        plan: what is confirmed, as the study notes it.
    """

    searches = False

    def __init__(self, study: Study, plan: Confirmation) -> None:
        self._study, self._plan = study, plan
        self._settings = {n: study.trial(n) for n in plan.compared if n != BASE}
        self._wanted: list[tuple[int, int]] | None = None
        """As it follows from what has ended; None where that has changed."""

    def trials(self) -> list[TrialRecord]:
        return self._study.confirmations()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left, and nothing runs."""
        return is_over(self._plan, self.trials(), self._study.space.metric)

    @property
    def left(self) -> int:
        return len(self._now_wanted())

    def next(self) -> TrialRecord | None:
        now = self._now_wanted()
        if not now:
            return None
        setting, seed_index = now[0]
        params: Mapping[str, Scalar] = {}
        changes: dict[str, Any] = {}
        if setting != BASE:
            params, changes = self._settings[setting].params, dict(self._settings[setting].changes)
        domains = self._study.space.parameters()
        self._wanted = None
        return self._study.create(
            params,
            {name: distribution(domains[name]) for name in params},
            confirms=setting,
            seed_index=seed_index,
            changes={**changes, **self._place(seed_index)},
        )

    def add(self, params: Mapping[str, Scalar], **origin: Any) -> TrialRecord:
        raise AssertionError("a confirmation has no trials but those of its plan")

    def ended(self, record: TrialRecord) -> None:
        self._wanted = None

    def rejected(self, record: TrialRecord) -> None:
        raise AssertionError("what is confirmed was trained before")

    def begin(self, record: TrialRecord) -> None:
        """No rule compares it."""

    def verdict(self, number: int, running: Running, epoch: Epoch) -> Verdict | None:
        return None

    def end(self, number: int, running: Running, outcome: Outcome) -> None:
        """No rule compares it."""

    def source(self, record: TrialRecord) -> Source | None:
        return None

    def _now_wanted(self) -> list[tuple[int, int]]:
        if self._wanted is None:
            self._wanted = wanted(self._plan, self.trials(), self._study.space.metric)
        return self._wanted

    def _place(self, seed_index: int) -> dict[str, Any]:
        """The seed of all trials with this index, and their fold where a space has folds. A copy of
        a sweep has another uid, and keeps the seeds that some of its trials have already."""
        used = {r.seed_index: r.changes[SEED] for r in self.trials()}
        place = {SEED: used.get(seed_index, fresh_seed(self._study.uid, seed_index))}
        repeats = self._study.space.repeats
        if repeats is not None and repeats.folds is not None:
            place[FOLD] = seed_index % repeats.folds
        return place
