"""The metric against the size of the model; where there are several, against each other one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.hypervolume import Won, won
from ckconv_sweep.report.pareto import pareto_optimal
from ckconv_sweep.report.plots import style

_MOST_NAMES = 12
_COLUMNS = 3


@dataclass(frozen=True)
class _Point:
    number: int
    score: float
    """The primary metric."""
    costs: Sequence[float]
    """What it is weighed against: each further metric, or the size of the model."""


def draw(
    records: Sequence[TrialRecord],
    space: Space,
    *,
    parameters: Mapping[int, int] | None = None,
) -> Figure:
    """Completed trials, and the front: those than which no other is as good in all that is shown
    and better in one. Several further metrics have a panel each, with the front of all together;
    one more shows the hypervolume over the trials.

    Args:
        parameters: the number of trained values of each trial's model, by the trial's number;
            needed where there is one metric.

    Raises:
        ConfigError: these are not given; a study does not hold them.
    """
    if parameters is None and not space.further:
        raise ConfigError(
            "a Pareto front needs the number of parameters of each trial's model",
            hint="hand them in as parameters={number: count}",
        )
    points = list(_points(records, space, parameters or {}))
    if not points:
        return style.said("no trial has completed")
    modes = (
        [metric.mode for metric in space.metrics] if space.further else [space.metric.mode, "min"]
    )
    optimal = pareto_optimal([[p.score, *p.costs] for p in points], modes)
    front = [point for point, yes in zip(points, optimal, strict=True) if yes]
    amount = len(points[0].costs)
    share = won(records, space)
    cells = amount + (share is not None)
    columns = style.columns(cells, wide=_COLUMNS)
    rows = -(-cells // columns)
    figure, panels = style.new(4.2 * rows, rows, columns, squeeze=False)
    for i, panel in enumerate(np.ravel(panels)):
        if i < amount:
            _draw_panel(panel, points, front, i, space, 1 / columns)
            style.metric_axis(panel.yaxis, [point.score for point in points], space.metric)
        elif i == amount and share is not None:
            _draw_hypervolume(panel, share, 1 / columns)
        else:
            panel.set_visible(False)
    if share is None:
        style.legend(panels[0, 0])
    else:
        style.legend_below(figure, panels[0, 0].get_legend_handles_labels()[0])
    return figure


def _draw_hypervolume(panel: Axes, share: Won, part: float) -> None:
    """Over the trials in the order in which they completed, on this part of the figure's width."""
    shares = [value for _, value in share.steps]
    panel.plot(
        range(1, 1 + len(shares)),
        shares,
        drawstyle="steps-post",
        color=style.FRONT,
        marker="o",
        markersize=3,
    )
    panel.set_ylim(0.0, 1.0)
    panel.set_xlabel("completed trials", fontsize=9)
    panel.set_ylabel("share of the box from worst to best", fontsize=9)
    style.whole_numbers(panel.xaxis)
    style.title(panel, "hypervolume over the trials", part)


def _points(
    records: Sequence[TrialRecord], space: Space, sizes: Mapping[int, int]
) -> Iterator[_Point]:
    for record in records:
        if record.outcome != "completed":
            continue
        score, *costs = record.values(space.metrics).values()
        if space.further:
            yield _Point(record.number, score, costs)
        elif record.number in sizes:
            yield _Point(record.number, score, [sizes[record.number]])


def _draw_panel(
    panel: Axes,
    points: Sequence[_Point],
    front: Sequence[_Point],
    index: int,
    space: Space,
    part: float,
) -> None:
    """The primary metric against one of what it is weighed against, on this part of the figure's
    width."""
    other = space.further[index] if space.further else None
    x = [point.costs[index] for point in points]
    style.scatter(panel, "completed", x, [point.score for point in points], alpha=0.8)
    best = sorted((point.costs[index], point.score, point.number) for point in front)
    alone = len(points[0].costs) == 1
    panel.plot(
        [cost for cost, _, _ in best],
        [score for _, score, _ in best],
        # Of several panels none shows the front as a line: it is one of all metrics together.
        linestyle="-" if alone else "none",
        drawstyle="steps-pre" if other and other.mode == "max" else "steps-post",
        color=style.FRONT,
        linewidth=1.4,
        marker="o",
        markersize=7,
        label=f"Pareto front ({len(best)})",
        zorder=3,
    )
    for cost, score, number in best[-_MOST_NAMES:]:
        panel.annotate(
            trial_name(number),
            (cost, score),
            xytext=(0, 8 if space.metric.mode == "max" else -14),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    if other is not None:
        style.metric_axis(panel.xaxis, x, other)
        style.title(panel, f"{space.metric.name} against {other.name}", part)
        return
    if max(x) > 5 * min(x):
        style.log_axis(panel.xaxis, min(x), max(x))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    panel.set_xlabel("parameters of the model", fontsize=9)
    style.title(panel, f"{space.metric.name} against the size of the model")
