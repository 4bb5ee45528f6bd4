"""What a model's convolutions have learnt, a row a layer: its largest kernels, their spectrum
beside that of the data, and how far they reach. Knows arrays only.

Shapes: S kernels that are shown, K samples of each, F frequencies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ckconv_sweep.report.plots.style import BEST, COLOURS, FAINT, Picture, plain

Array = NDArray[np.floating[Any]]

_PANEL_INCHES = (1.55, 1.25)
_KERNEL, _DATA = COLOURS["completed"], COLOURS["pruned"]


@dataclass(frozen=True, eq=False)
class Layer:
    """What is shown of one convolution."""

    name: str
    pairs: Sequence[tuple[int, int]]
    """The channels, out and in, of each kernel that is shown."""
    kernels_SK: Array  # noqa: N815
    lags_K: Array  # noqa: N815
    """Steps before the present."""
    frequencies_F: Array  # noqa: N815
    """Cycles a step, to 0.5."""
    amplitudes_F: Array  # noqa: N815
    """Means over all its kernels."""
    within_K: Array  # noqa: N815
    """The share of the squared kernels within each distance; `distances_K` says which."""
    distances_K: Array  # noqa: N815
    note: str = ""
    """On its spectrum, in a few words."""


def draw(
    layers: Sequence[Layer], title: str, note: str, data: tuple[Array, Array] | None = None
) -> Figure:
    """A grid with a row for each layer.

    Args:
        note: how to read it, and what is left out.
        data: frequencies and amplitudes of what the model reads, drawn beside each spectrum with
            its highest amplitude as high as theirs.
    """
    shown = max((len(layer.pairs) for layer in layers), default=1)
    width, height = _PANEL_INCHES
    columns = shown + 2
    figure = Picture(
        figsize=(0.5 + width * (columns + 0.8), 1.0 + height * len(layers)), layout="constrained"
    )
    ratios = [1.0] * shown + [1.5, 1.3]
    grid = figure.subplots(len(layers), columns, squeeze=False, width_ratios=ratios)
    for row, layer in zip(grid, layers, strict=True):
        for number, panel in enumerate(row[:shown]):
            _kernel(panel, layer, number)
        row[0].set_ylabel(plain(layer.name), fontsize=8)
        _spectrum(row[shown], layer, data)
        _reach(row[shown + 1], layer)
    for panel in grid[:-1].flat:
        panel.set_xlabel("")
    grid[0, shown].set_title("amplitude", fontsize=8.5)
    grid[0, shown + 1].set_title("share of the squared kernel", fontsize=8.5)
    figure.suptitle(plain(title), fontsize=10, x=0.01, ha="left")
    figure.supxlabel(plain(note), fontsize=8, color=FAINT)
    return figure


def _kernel(panel: Axes, layer: Layer, number: int) -> None:
    """One kernel over the lag: the past on the left, as in a sequence."""
    _plain_axes(panel)
    if number >= len(layer.pairs):
        panel.set_axis_off()
        return
    panel.axhline(0.0, color="0.85", linewidth=0.7)
    few = layer.kernels_SK.shape[-1] < 32
    panel.plot(
        layer.lags_K,
        layer.kernels_SK[number],
        color=_KERNEL,
        linewidth=0.9,
        marker="." if few else "",
        markersize=3,
    )
    if len(layer.lags_K) > 1:
        panel.set_xlim(layer.lags_K.max(), layer.lags_K.min())
    panel.set_yticks([])
    out, in_ = layer.pairs[number]
    panel.set_title(f"{in_} → {out}", fontsize=8)
    panel.set_xlabel("steps ago", fontsize=8)


def _spectrum(panel: Axes, layer: Layer, data: tuple[Array, Array] | None) -> None:
    _plain_axes(panel)
    own = layer.amplitudes_F[1:]
    top = own.max(initial=0.0)
    if data is not None and data[1][1:].max(initial=0.0) > 0.0:
        frequencies, amplitudes = data[0][1:], data[1][1:]
        panel.plot(frequencies, amplitudes * (top / amplitudes.max()), color=_DATA, linewidth=0.8)
    panel.plot(layer.frequencies_F[1:], own, color=_KERNEL, linewidth=1.1)
    panel.set_xlim(0.0, 0.5)
    panel.set_ylim(0.0, 1.08 * top or 1.0)
    panel.set_yticks([])
    panel.set_xticks([0.0, 0.25, 0.5], ["0", "0.25", "0.5"])
    panel.text(
        0.98, 0.93, plain(layer.note), ha="right", va="top", fontsize=7, transform=panel.transAxes
    )
    panel.set_xlabel("cycles per step", fontsize=8)


def _reach(panel: Axes, layer: Layer) -> None:
    _plain_axes(panel)
    panel.plot(layer.distances_K, layer.within_K, color=BEST, linewidth=1.0)
    panel.axhline(0.95, color="0.8", linewidth=0.7)
    panel.set_ylim(0.0, 1.02)
    panel.set_yticks([0.0, 0.95], ["0", "0.95"])
    panel.set_xlabel("steps from the present", fontsize=8)


def _plain_axes(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=7, length=2)
