"""The metric, epoch by epoch, of every trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ckconv_sweep.config.history import objective
from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import Outcome, trial_name
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.plots import style
from ckconv_sweep.report.summary import winner

_LINES: dict[Outcome, Any] = {
    "completed": "-",
    "pruned": "-",
    "continued": "-",
    "failed": "--",
    "running": ":",
}


def draw(records: Sequence[TrialRecord], space: Space) -> Figure:
    """Coloured by the score; trials that were pruned end with a triangle, those that failed with a
    cross; the best one on top in black."""
    name = space.metric.name
    trained = [r for r in records if r.history]
    if not trained:
        return style.said("no trial has finished an epoch")
    figure, panel = style.new(4.6)
    values = [epoch.metrics[name] for r in trained for epoch in r.history]
    colours = style.colours_of([objective(r.history, space.metric) for r in trained], space.metric)
    opacity = max(0.2, min(0.8, 14 / len(trained) ** 0.7))
    handles: list[Any] = []
    for outcome, some in style.by_outcome(trained):
        scores = np.array([objective(r.history, space.metric) for r in some])
        lines = [[(e.number, e.metrics[name]) for e in r.history] for r in some]
        panel.add_collection(
            LineCollection(
                lines,
                array=scores,
                norm=colours,
                cmap=style.MAP,
                linestyles=_LINES[outcome],
                linewidths=1.0,
                alpha=opacity,
                rasterized=len(values) > 3000,
            ),
            autolim=True,
        )
        ends, label = [line[-1] for line in lines], f"{style.WORDS[outcome]} ({len(some)})"
        panel.scatter(
            [x for x, _ in ends],
            [y for _, y in ends],
            c=scores,
            norm=colours,
            cmap=style.MAP,
            marker=style.MARKERS[outcome],
            s=20 if outcome != "completed" else 10,
            zorder=2.5,
            label=label,
            rasterized=len(ends) > 300,
        )
        handles.append(
            Line2D(
                [],
                [],
                color="0.4",
                linewidth=1.0,
                linestyle=_LINES[outcome],
                marker=style.MARKERS[outcome],
                markersize=5,
                label=label,
            )
        )
    best = winner(trained, space)
    if best is not None:
        handles += panel.plot(
            [e.number for e in best.history],
            [e.metrics[name] for e in best.history],
            color=style.BEST,
            linewidth=2.2,
            label=f"best: {trial_name(best.number)}",
            zorder=3,
        )
    panel.autoscale_view()
    panel.set_xlabel("epoch", fontsize=9)
    style.whole_numbers(panel.xaxis)
    style.metric_axis(panel.yaxis, values, space.metric)
    style.title(panel, f"{name} of {len(trained)} trials, epoch by epoch")
    style.score_bar(
        figure, ScalarMappable(colours, style.MAP), panel, space.metric, pad=0.02, fraction=0.05
    )
    style.legend_below(figure, handles)
    return figure
