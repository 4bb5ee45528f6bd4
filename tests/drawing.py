"""A new trial in a study, as the driver makes one."""

from __future__ import annotations

from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, next_position
from ckconv_sweep.search.view import View


def new_trial(study: Study) -> TrialRecord:
    """What the space's sampler tries next, recorded."""
    records = study.trials()
    drawn = View(study.space, records).draw(next_position(records))
    return study.create(drawn.params, drawn.distributions, position=drawn.position)
