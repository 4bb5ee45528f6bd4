"""The metric, epoch by epoch, of every trial."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import Outcome, trial_name
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.plots import style
from ckconv_sweep.report.summary import winner

_LINES: dict[Outcome, str] = {"completed": "-", "pruned": "-", "failed": "--", "running": ":"}


def draw(records: Sequence[TrialRecord], space: Space) -> Figure:
    """Completed trials as lines; those that were pruned end with a triangle, those that
    failed with a cross; the best one on top."""
    name = space.metric.name
    trained = [r for r in records if r.history]
    if not trained:
        return style.said("no trial has finished an epoch")
    figure, panel = style.new(4.6)
    values = [epoch.metrics[name] for r in trained for epoch in r.history]
    opacity = max(0.15, min(0.75, 12 / len(trained) ** 0.7))
    for outcome, some in style.by_outcome(trained):
        lines = [[(e.number, e.metrics[name]) for e in r.history] for r in some]
        panel.add_collection(
            LineCollection(
                lines,
                colors=style.COLOURS[outcome],
                linestyles=_LINES[outcome],
                linewidths=1.0,
                alpha=opacity,
                rasterized=len(values) > 3000,
            ),
            autolim=True,
        )
        ends = [line[-1] for line in lines]
        style.scatter(
            panel,
            outcome,
            [x for x, _ in ends],
            [y for _, y in ends],
            s=20 if outcome != "completed" else 10,
            zorder=2.5,
        )
    best = winner(trained, space)
    if best is not None:
        panel.plot(
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
    style.legend(panel)
    return figure
