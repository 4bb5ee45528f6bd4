"""The pictures of a sweep: one file a kind, one row each in `PLOTS`.

They are made of the trials' records alone, as matplotlib figures that belong to nobody else: no
pyplot, no window, no state that is kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any

from matplotlib.figure import Figure

from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError, UnknownNameError
from ckconv_sweep.record.seeds import by_setting
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.plots.contour import draw as draw_contour
from ckconv_sweep.report.plots.curves import draw as draw_curves
from ckconv_sweep.report.plots.history import draw as draw_history
from ckconv_sweep.report.plots.importance import draw as draw_importance
from ckconv_sweep.report.plots.lineage import draw as draw_lineage
from ckconv_sweep.report.plots.parallel import draw as draw_parallel
from ckconv_sweep.report.plots.pareto import draw as draw_pareto
from ckconv_sweep.report.plots.slices import draw as draw_slices
from ckconv_sweep.report.plots.timeline import draw as draw_timeline

PLOTS: dict[str, Callable[..., Figure]] = {
    "curves": draw_curves,
    "history": draw_history,
    "importance": draw_importance,
    "parallel": draw_parallel,
    "slice": draw_slices,
    "contour": draw_contour,
    "pareto": draw_pareto,
    "timeline": draw_timeline,
    "lineage": draw_lineage,
}
"""Each takes the records and the space, and options of its own by name."""

KINDS = tuple(PLOTS)

_OF_EACH = ("curves", "timeline", "lineage")
"""What shows every trial. The others show a setting once, also where it is repeated."""


def draw(kind: str, records: Sequence[TrialRecord], space: Space, **options: Any) -> Figure:
    """A picture of a sweep.

    Rejected trials were never trained and are left out. A sweep with nothing to
    see gives a picture that says so.

    Args:
        kind: one of `KINDS`.
        records: the sweep's trials.
        space: what was searched.
        options: of this kind: `settings` (names) for slice and contour, `seed` and `resamples` for
            importance, `parameters` (of each model, by the trial's number) for pareto.

    Raises:
        UnknownNameError: there is no such kind or setting.
        ConfigError: an option that this kind does not have.
    """
    check(kind, options)
    counted = [r for r in records if r.counts]
    return PLOTS[kind](
        counted if kind in _OF_EACH else by_setting(counted, space), space, **options
    )


def check(kind: str, options: Collection[str]) -> None:
    """Whether there is such a kind, with such options. Raises as `draw`."""
    if kind not in PLOTS:
        raise UnknownNameError("picture", kind, KINDS)
    known = list(inspect.signature(PLOTS[kind]).parameters)[2:]
    for option in options:
        if option not in known:
            raise ConfigError(
                f"{kind} has no option {option!r}",
                hint=f"it has {', '.join(known)}" if known else "it has none",
            )
