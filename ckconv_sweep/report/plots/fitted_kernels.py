"""A picture of fitted kernels: targets down, kernel nets across, the error over each panel. Knows
arrays only.

Shapes: K targets, P positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

PANEL_INCHES = (1.7, 1.15)
GREY, COLOURS = "0.65", ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:red")


@dataclass(frozen=True, eq=False)
class Column:
    """One net's kernels."""

    values_KP: Array  # noqa: N815
    errors_K: Array  # noqa: N815
    """In variances of the targets."""


def draw(
    positions_P: Array,
    targets: Sequence[str],
    targets_KP: Array,
    columns: Mapping[str, Column],
) -> Figure:
    """Targets thin and grey, with what was fitted to them in colour.

    Args:
        positions_P: where all of them are sampled.
        targets: a name for each target.
        targets_KP: their values.
        columns: the fitted kernels, by the name to show over them.
    """
    width, height = PANEL_INCHES
    figure = Figure(
        figsize=(0.4 + width * len(columns), 0.7 + height * len(targets)), layout="constrained"
    )
    grid = figure.subplots(len(targets), len(columns), sharex=True, sharey="row", squeeze=False)
    for row, target_P in enumerate(targets_KP):
        low, high = target_P.min(), target_P.max()
        grid[row, 0].set_ylabel(targets[row], fontsize=9)
        # A fit that ran away must not make its target a flat line.
        grid[row, 0].set_ylim(low - 0.25 * (high - low), high + 0.25 * (high - low))
        for number, column in enumerate(columns.values()):
            panel, colour = grid[row, number], COLOURS[row % len(COLOURS)]
            panel.plot(positions_P, target_P, color=GREY, linewidth=0.8)
            panel.plot(positions_P, column.values_KP[row], color=colour, linewidth=1.1)
            panel.set_title(f"{column.errors_K[row]:.2g}", fontsize=8, pad=2.5)
            panel.set_xticks([])
            panel.set_yticks([])
            for spine in panel.spines.values():
                spine.set_color("0.8")
    for panel, name in zip(grid[0], columns, strict=True):
        panel.annotate(
            name.replace("omega_0 ", "\N{GREEK SMALL LETTER OMEGA}\N{SUBSCRIPT ZERO} = ").replace(
                "_", " "
            ),
            xy=(0.5, 1.0),
            xytext=(0, 17),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            fontsize=9,
            fontweight="bold",
        )
    figure.supxlabel(
        "over each panel: mean squared error, in variances of the target", fontsize=8, color="0.4"
    )
    return figure
