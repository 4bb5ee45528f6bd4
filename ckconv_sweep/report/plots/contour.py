"""The metric over two settings: the trials as points, and between them where there are enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ckconv_sweep.config.settings import short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.plots import style
from ckconv_sweep.report.plots.chosen import chosen
from ckconv_sweep.report.sample import comparable
from ckconv_sweep.report.scale import Scale

Array = NDArray[np.float64]

_WIDTH = 0.09
"""Standard deviation of the smoothing, in lengths of an axis."""
_NEIGHBOURS = 3.0
"""The field is drawn where so many trials, counted by their weights, lie near."""
_STEPS = 80


def draw(
    records: Sequence[TrialRecord], space: Space, *, settings: Sequence[str] | None = None
) -> Figure:
    """Two settings, by default the two most important ones that trials have in common.

    Raises:
        ConfigError: not two settings are asked for.
    """
    if settings is not None and len(settings) != 2:
        raise ConfigError(
            f"a contour needs two settings, got {len(settings)}",
            where="settings",
            hint="as in optimizer.learning_rate,model.dropout",
        )
    order = chosen(records, space, settings, len(space.parameters()))
    sample = comparable(records, space)
    both = next(pairs(sample.records, order), None)
    if both is None:
        return style.said(
            "a contour needs two settings, and one is searched"
            if len(order) < 2
            else "no trials to compare that have these two settings"
        )
    across, up = both
    rows = [i for i, r in enumerate(sample.records) if across in r.params and up in r.params]
    some, values = [sample.records[i] for i in rows], sample.values[rows]
    scales = Scale(space.parameters()[across]), Scale(space.parameters()[up])
    figure, panel = style.new(5.0)
    style.setting_axis(panel.xaxis, scales[0], across)
    style.setting_axis(panel.yaxis, scales[1], up)
    metric = space.metric
    colours = style.colours_of(values, metric)
    if all(scale.numeric for scale in scales):
        grid = np.linspace(0.0, 1.0, _STEPS)
        x = np.array([scales[0].fraction(r.params[across]) for r in some])
        y = np.array([scales[1].fraction(r.params[up]) for r in some])
        field = smoothed(x, y, values, grid)
        if np.isfinite(field).any():
            panel.pcolormesh(
                [scales[0].at(g) for g in grid],
                [scales[1].at(g) for g in grid],
                field,
                cmap=style.MAP,
                norm=colours,
                alpha=0.55,
                shading="nearest",
                rasterized=True,
                linewidth=0,
            )
    points = panel.scatter(
        style.spread(some, across, scales[0], turn=style.TURNS[0]),
        style.spread(some, up, scales[1], turn=style.TURNS[1]),
        c=values,
        cmap=style.MAP,
        norm=colours,
        s=42,
        edgecolors="white",
        linewidths=0.8,
        zorder=3,
    )
    style.score_bar(figure, points, panel, metric, pad=0.02)
    names = short_names([across, up])
    words = f"{metric.name} over {names[across]} and {names[up]}: {sample.words}"
    style.title(panel, words, part=0.8)
    return figure


def pairs(records: Sequence[TrialRecord], order: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The pairs of settings that some trial has both of; the first settings first."""
    for second in range(1, len(order)):
        for first in range(second):
            names = order[first], order[second]
            if any(all(name in r.params for name in names) for r in records):
                yield names


def smoothed(x: Array, y: Array, values: Array, grid: Array) -> Array:
    """The weighted mean of the values around each point of a grid (Nadaraya 1964, Watson 1964),
    with Gaussian weights; not a number where too few lie near.

    Args:
        x, y: (trials,), where each lies, from 0 to 1.
        values: (trials,).
        grid: (steps,), the same for both axes.

    Returns:
        (steps, steps); the first axis is y.
    """
    across = np.exp(-(((grid[:, None] - x) / _WIDTH) ** 2) / 2)
    up = np.exp(-(((grid[:, None] - y) / _WIDTH) ** 2) / 2)
    weight = up @ across.T
    field: Array = (up * values) @ across.T / np.maximum(weight, 1e-300)
    return np.where(weight >= _NEIGHBOURS, field, np.nan)
