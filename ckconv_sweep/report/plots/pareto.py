"""The metric against the size of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.pareto import pareto_optimal
from ckconv_sweep.report.plots import style
from ckconv_sweep.report.sample import score

_MOST_NAMES = 12


def draw(
    records: Sequence[TrialRecord],
    space: Space,
    *,
    parameters: Mapping[int, int] | None = None,
) -> Figure:
    """Completed trials, and the front: those than which no other is both better and not larger,
    or smaller and not worse.

    Args:
        parameters: the number of trained values of each trial's model, by the trial's number.

    Raises:
        ConfigError: these are not given; a study does not hold them.
    """
    if parameters is None:
        raise ConfigError(
            "a Pareto front needs the number of parameters of each trial's model",
            hint="hand them in as parameters={number: count}",
        )
    metric = space.metric
    points = [
        (parameters[r.number], value, r.number)
        for r in records
        if r.outcome == "completed"
        and r.number in parameters
        and (value := score(r, metric)) is not None
    ]
    if not points:
        return style.said("no trial has completed")
    figure, panel = style.new(4.2)
    style.scatter(panel, "completed", [p[0] for p in points], [p[1] for p in points], alpha=0.8)
    optimal = pareto_optimal([p[:2] for p in points], ["min", metric.mode])
    best = sorted(point for point, yes in zip(points, optimal, strict=True) if yes)
    panel.plot(
        [size for size, _, _ in best],
        [value for _, value, _ in best],
        drawstyle="steps-post",
        color=style.FRONT,
        linewidth=1.4,
        marker="o",
        markersize=7,
        label=f"Pareto front ({len(best)})",
        zorder=3,
    )
    for size, value, number in best[-_MOST_NAMES:]:
        panel.annotate(
            trial_name(number),
            (size, value),
            xytext=(0, 8 if metric.mode == "max" else -14),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
        )
    sizes = [size for size, _, _ in points]
    if max(sizes) > 5 * min(sizes):
        style.log_axis(panel.xaxis, min(sizes), max(sizes))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    panel.set_xlabel("parameters of the model", fontsize=9)
    style.metric_axis(panel.yaxis, [value for _, value, _ in points], metric)
    style.title(panel, f"{metric.name} against the size of the model")
    style.legend(panel, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
