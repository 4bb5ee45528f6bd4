"""Which trained weights a sweep hands over, and why these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import NoResult
from ckconv_sweep.keys import setting_name, trial_name
from ckconv_sweep.record.seeds import trained_one
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.summary import standing, winner
from ckconv_sweep.search.confirmed import Confirmed, Setting


@dataclass(frozen=True, kw_only=True)
class Winner:
    """The trial whose best weights are handed over."""

    record: TrialRecord
    setting: Setting | None
    """What the confirmation offers, whose best seed it is; None where there is no confirmation, or
    none that offers anything yet."""
    confirmed: Confirmed | None

    @property
    def name(self) -> str:
        """Of the trial: `t017`; of a seed of a confirmation `t017, seed 2`."""
        if self.setting is None:
            return trial_name(self.record.number)
        return f"{setting_name(self.setting.number)}, seed {self.record.seed_index}"


def winner_of(
    name: str, records: Sequence[TrialRecord], space: Space, confirmed: Confirmed | None
) -> Winner:
    """Of the setting that the confirmation has fixed, or offers so far, the seed with the best
    validation value; without one the best trial of the search.

    Args:
        records: the search's trials.

    Raises:
        NoResult: no trial has completed.
    """
    setting = None if confirmed is None else _fixed(confirmed)
    if setting is not None:
        completed = [record for record in setting.records if record.outcome == "completed"]
        best = min(completed, key=lambda record: standing(record, space.metric))
        return Winner(record=best, setting=setting, confirmed=confirmed)
    record = winner(records, space)
    if record is None:
        raise NoResult("no trial has completed yet", where=name)
    return Winner(record=trained_one(record), setting=None, confirmed=confirmed)


def _fixed(confirmed: Confirmed) -> Setting | None:
    candidates = (*confirmed.settings, confirmed.control)
    fixed = (s for s in candidates if s is not None and s.number == confirmed.winner)
    return next(fixed, confirmed.offered)
