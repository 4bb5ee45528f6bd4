"""The metric against one setting at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ckconv_sweep.config.settings import short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.plots import style
from ckconv_sweep.report.plots.chosen import chosen
from ckconv_sweep.report.sample import score
from ckconv_sweep.report.scale import Scale

_MOST = 6
_COLUMNS = 3


def draw(
    records: Sequence[TrialRecord], space: Space, *, settings: Sequence[str] | None = None
) -> Figure:
    """A panel for each of `settings`, by default of the six most important ones."""
    metric = space.metric
    names = chosen(records, space, settings, _MOST)
    scored = [(r, v) for r in records if (v := score(r, metric)) is not None]
    if not scored:
        return style.said("no trial has finished an epoch")
    outcomes = [outcome for outcome, _ in style.by_outcome(r for r, _ in scored)]
    columns = style.columns(len(names), wide=_COLUMNS, phone=2)
    rows, short = -(-len(names) // columns), short_names(names)
    figure, panels = style.new(0.7 + 2.5 * rows, rows, columns, sharey=True, squeeze=False)
    for panel, name in zip(np.ravel(panels), names, strict=False):
        scale = Scale(space.parameters()[name])
        for outcome in outcomes:
            some = [(r, v) for r, v in scored if r.outcome == outcome and name in r.params]
            x = style.spread([r for r, _ in some], name, scale)
            style.scatter(panel, outcome, x, [v for _, v in some], alpha=0.85)
        style.setting_axis(panel.xaxis, scale, short[name] if style.narrow() else name)
    for panel in np.ravel(panels)[len(names) :]:
        panel.set_visible(False)
    for panel in panels[:, 0]:
        style.metric_axis(panel.yaxis, [v for _, v in scored], metric)
    handles = [style.scatter(panels[0, 0], o, [], [], label=style.WORDS[o]) for o in outcomes]
    style.legend_below(figure, handles)
    return figure
