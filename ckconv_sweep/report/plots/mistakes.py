"""What a model takes for what, and the sequences that it gets most wrong.

Shapes: K classes, C channels, T time steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ckconv_sweep.data.answers import Answers
from ckconv_sweep.report.plots import style
from ckconv_sweep.report.predictions import confusion, worst

_WRITTEN = 30
"""So many classes at most have their counts written into the cells."""
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#882255", "#56B4E9")
_MOST_CHANNELS = len(_COLOURS)


def confusion_picture(answers: Answers, heading: str) -> Figure:
    """True classes down, predicted ones across. Colour is the share of the true class, so that
    rare classes are seen too; right answers are grey, mistakes red."""
    counts = confusion(answers)
    k, names = len(counts), [style.shortened(name, 14) for name in answers.classes]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    right = np.eye(k, dtype=bool)
    side = min(max(0.36 * k, 2.6), 12.0)
    figure = style.Picture(figsize=(side + 2.0, side + 1.5), layout="constrained")
    panel = figure.subplots()
    greys = np.where(right, shares, np.nan)
    reds = np.where(right | (counts == 0), np.nan, shares)
    panel.imshow(greys, cmap="Greys", vmin=0.0, vmax=2.0, interpolation="nearest")
    # A single mistake among many must not look like none.
    panel.imshow(np.sqrt(reds), cmap="Reds", vmin=-0.25, vmax=1.0, interpolation="nearest")
    if k <= _WRITTEN:
        size = 9 if k <= 12 else 7
        for i, j in np.argwhere(counts > 0):
            white = not right[i, j] and shares[i, j] > 0.35
            text = f"{counts[i, j]:,}"
            colour = "white" if white else "black"
            panel.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
    turned = max(map(len, names)) * k > 70
    panel.set_xticks(range(k), names, fontsize=8, rotation=90 if turned else 0)
    panel.set_yticks(range(k), names, fontsize=8)
    panel.tick_params(length=0)
    panel.spines[:].set_color("0.8")
    panel.set_xlabel("predicted", fontsize=9)
    panel.set_ylabel("true class", fontsize=9)
    figure.suptitle(style.plain(heading), fontsize=10, x=0.02, ha="left")
    return figure


@dataclass(frozen=True, eq=False)
class Seen:
    """A sequence to draw."""

    values: NDArray[Any]
    """`(C, T)`, as the file or the model has it."""
    image: tuple[int, int] | None = None
    """Height and width, where it is an image of one or three channels."""


def mistakes_picture(answers: Answers, rows: Sequence[Seen], heading: str) -> Figure:
    """The worst mistakes, the most certain first.

    Args:
        rows: the sequence of each row of `predictions.worst`, in that order.
    """
    which = worst(answers)
    if not len(which):
        return style.said("no mistake")
    columns = style.columns(len(which), 4, 2)
    lines = -(-len(which) // columns)
    figure, panels = style.new(0.8 + 1.75 * lines, lines, columns, squeeze=False)
    for panel, row, seen in zip(panels.flat, which, rows, strict=False):
        _draw(panel, seen)
        style.title(panel, _told(answers, int(row)))
    for panel in panels.flat[len(which) :]:
        panel.set_visible(False)
    channels = max(len(seen.values) for seen in rows)
    if channels > 1 and all(seen.image is None for seen in rows):
        drawn = min(channels, _MOST_CHANNELS)
        handles = [Line2D([], [], color=_COLOURS[c], label=f"channel {c}") for c in range(drawn)]
        style.legend_below(figure, handles)
    figure.suptitle(style.plain(heading), fontsize=10, x=0.02, ha="left")
    return figure


def _told(answers: Answers, row: int) -> str:
    assert answers.targets is not None
    names, chosen, target = answers.classes, int(answers.chosen[row]), int(answers.targets[row])
    true, taken = style.shortened(names[target]), style.shortened(names[chosen])
    return (
        f"#{answers.sequences[row]}: {true} taken for {taken}\n"
        f"p({taken}) {answers.values[row, chosen]:.2f}, p({true}) {answers.values[row, target]:.2g}"
    )


def _draw(panel: Any, seen: Seen) -> None:
    values = seen.values
    if seen.image is not None and values.shape[1] == seen.image[0] * seen.image[1]:
        low, high = np.nanmin(values), np.nanmax(values)
        pixels = (values - low) / max(high - low, 1e-12)
        image = pixels.reshape(len(values), *seen.image).transpose(1, 2, 0)
        panel.imshow(image.squeeze(-1) if len(values) == 1 else image, cmap="gray_r")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
        return
    for c, row in enumerate(values[:_MOST_CHANNELS]):
        panel.plot(row, color=_COLOURS[c], linewidth=0.9)
    panel.tick_params(labelsize=7)
