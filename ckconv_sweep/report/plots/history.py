"""The best so far: over the trials, and over the time that the sweep ran."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.plots import style
from ckconv_sweep.report.sample import score
from ckconv_sweep.report.spent import clock


def draw(records: Sequence[TrialRecord], space: Space) -> Figure:
    """A point for each trial, and the best completed one so far as a line."""
    metric = space.metric
    scored = [(r, value) for r in records if (value := score(r, metric)) is not None]
    if not scored:
        return style.said("no trial has finished an epoch")
    running = clock(records)
    unit, seconds = style.unit_of(running(running.sessions[-1].end_ms))
    ended = {r.number: running(r.history[-1].timestamp_ms) / seconds for r, _ in scored}
    columns = style.columns(2, wide=2)
    rows = 2 // columns
    figure, panels = style.new(1.1 + 2.8 * rows, rows, columns, sharey=True)
    places = ({r.number: float(r.number) for r, _ in scored}, ended)
    last = (float(max(r.number for r in records)), max(ended.values()))
    for panel, x_of, end in zip(panels, places, last, strict=True):
        for outcome, _ in style.by_outcome(r for r, _ in scored):
            some = [(x_of[r.number], v) for r, v in scored if r.outcome == outcome]
            style.scatter(panel, outcome, [x for x, _ in some], [y for _, y in some], alpha=0.8)
        steps = list(
            best_so_far(
                [(x_of[r.number], v) for r, v in scored if r.outcome == "completed"], metric
            )
        )
        if steps:
            steps.append((end, steps[-1][1]))
            panel.plot(
                [x for x, _ in steps],
                [y for _, y in steps],
                drawstyle="steps-post",
                color=style.BEST,
                linewidth=1.6,
                label="best completed so far",
                zorder=3,
            )
    for moment, _ in running.breaks():
        panels[1].axvline(moment / seconds, color=style.FAINT, linestyle=":", linewidth=1)
    panels[0].set_xlabel("trial", fontsize=9)
    style.whole_numbers(panels[0].xaxis)
    panels[1].set_xlabel(f"{unit} of running, at the trial's end", fontsize=9)
    style.metric_axis(panels[0].yaxis, [value for _, value in scored], metric)
    style.title(panels[0], "best so far, over the trials")
    style.title(panels[1], "and over time")
    style.legend_below(figure, panels[0].get_legend_handles_labels()[0])
    return figure


def best_so_far(
    points: Sequence[tuple[float, float]], metric: Metric
) -> Iterator[tuple[float, float]]:
    """The points (when, value), in the order of when, that were better than all before."""
    best: float | None = None
    for when, value in sorted(points):
        if best is None or metric.better(value, best):
            best = value
            yield when, value
