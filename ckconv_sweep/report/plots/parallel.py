"""Parallel coordinates: each trial a line over all searched settings to its metric."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ckconv_sweep.config.domains import Blocks
from ckconv_sweep.config.settings import short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.plots import style
from ckconv_sweep.report.sample import score
from ckconv_sweep.report.scale import Scale

_Segment = tuple[list[tuple[int, float]], float, bool]
"""Its ends, the trial's value, and whether the trial completed."""

_MOST_NAMES = 9
"""Ticks on an axis; of more choices every second, third, ... is named."""


def draw(records: Sequence[TrialRecord], space: Space) -> Figure:
    """Coloured by the metric, the best on top; trials that did not complete are thin. Where a trial
    has no value, because it chose another block, its line is dotted past the axis."""
    metric = space.metric
    scored = [(r, v) for r in records if (v := score(r, metric)) is not None and np.isfinite(v)]
    if not scored:
        return style.said("no trial has finished an epoch")
    scored.sort(key=lambda item: item[1], reverse=metric.mode == "min")
    scored.sort(key=lambda item: item[0].outcome == "completed")
    scales = {name: Scale(space.parameters()[name]) for name in _order(space)}
    figure, panel = style.new(4.6)
    colours = style.colours_of([v for _, v in scored], metric)
    low, high = float(colours.vmin or 0.0), float(colours.vmax or 0.0)
    solid: list[_Segment] = []
    dotted: list[_Segment] = []
    for record, value in scored:
        points = [
            (place, scale.fraction(record.params[name]) + _beside(record, scale))
            for place, (name, scale) in enumerate(scales.items())
            if name in record.params
        ]
        height = (min(max(value, low), high) - low) / (high - low) if high > low else 0.5
        points.append((len(scales), height))
        completed = record.outcome == "completed"
        for one, other in itertools.pairwise(points):
            (solid if other[0] == one[0] + 1 else dotted).append(([one, other], value, completed))
    opacity = max(0.2, min(0.9, 9 / len(scored) ** 0.6))
    for segments, line in ((dotted, ":"), (solid, "-")):
        panel.add_collection(
            LineCollection(
                [np.array(segment) for segment, _, _ in segments],
                array=np.array([value for _, value, _ in segments]),
                norm=colours,
                cmap=style.MAP,
                linewidths=[1.5 if completed else 0.7 for _, _, completed in segments],
                linestyles=line,
                alpha=opacity,
                rasterized=len(scored) > 200,
            ),
            autolim=False,  # both axes are set below
        )
    names = short_names(scales)
    for place, (name, scale) in enumerate(scales.items()):
        _axis(panel, place, scale)
        panel.annotate(
            style.shortened(names[name], 22),
            (place, 1.0),
            xytext=(0, 8),
            textcoords="offset points",
            ha="left",
            rotation=50 if style.narrow() else 18,
            fontsize=9,
        )
    panel.axvline(len(scales), color="0.2", linewidth=1.2)
    panel.set_xlim(-0.35, len(scales))
    panel.set_ylim(-0.06, 1.04)
    panel.axis("off")
    scores = ScalarMappable(colours, style.MAP)
    style.score_bar(figure, scores, panel, metric, pad=0.0, fraction=0.05)
    style.note(
        figure,
        f"{len(scored)} trials; thick: completed, thin: not. Dotted past the settings of a block "
        "that the trial did not choose"
        if dotted
        else f"{len(scored)} trials; thick: completed",
    )
    return figure


def _order(space: Space) -> list[str]:
    """The settings of blocks first, each before its block: a line that lacks them begins later."""
    inner = [
        name
        for name in space.parameters()
        if any(
            isinstance(domain, Blocks) and name.startswith(f"{path}.")
            for path, domain in space.search.items()
        )
    ]
    blocks = [path for path, domain in space.search.items() if isinstance(domain, Blocks)]
    out: list[str] = []
    for block in blocks:
        out += [name for name in inner if name.startswith(f"{block}.")] + [block]
    return out + [name for name in space.parameters() if name not in out]


def _beside(record: TrialRecord, scale: Scale) -> float:
    """Trials of one choice do not lie on one point."""
    return 0.0 if scale.numeric else 0.04 * style.beside(record.number)


def _axis(panel: Axes, place: int, scale: Scale) -> None:
    panel.plot([place, place], [0, 1], color="0.35", linewidth=0.9)
    if scale.numeric:
        ends = scale.ends
        ticks = (
            {0.0: scale.told(ends[0]), 1.0: scale.told(ends[1])}
            if ends[0] < ends[1]
            else {0.5: f"{ends[0]:.4g}"}
        )
        if scale.log:
            middle = scale.at(0.5)
            ticks[0.5] = f"{middle:.2g}"
    else:
        options = scale.domain.options  # type: ignore[union-attr]
        every = -(-len(options) // _MOST_NAMES)
        ticks = {scale.fraction(option): style.shortened(option, 12) for option in options[::every]}
    for height, text in ticks.items():
        panel.annotate(
            text,
            (place, height),
            xytext=(-3, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
            zorder=4,
        )
