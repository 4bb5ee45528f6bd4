"""Which trial went on from which: a population and what it came to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.lineage import lineage
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.plots import style
from ckconv_sweep.report.summary import winner

_MAP = "viridis"
"""Also for who cannot tell red from green, and in grey."""
_NAMED = 80
"""Trials up to which each has its name."""


def draw(records: Sequence[TrialRecord], space: Space) -> Figure:
    """A row for each trial, those that had one place below each other: from the epoch of its
    checkpoint to its last one, coloured by the metric after each. A line leads from the trial whose
    checkpoint it was; in black what the best one goes back to."""
    if all(record.replaces is None for record in records):
        return style.said("no trial goes on from another one's checkpoint")
    trained = [record for record in records if record.history]
    rows = _rows(trained)
    height = min(12.0, 1.6 + 0.16 * len(trained))
    figure, panel = style.new(height)
    name = space.metric.name
    values = [epoch.metrics[name] for record in trained for epoch in record.history]
    colours = Normalize(min(values), max(values))
    width = max(1.5, min(7.0, 42 * height / len(trained)))
    best = winner(trained, space)
    of_best = {link.record.number: link.until for link in lineage(best, records)} if best else {}
    aside = _aside(trained)
    for record in trained:
        y, start = rows[record.number], record.from_epoch or 0
        ends = [start, *(epoch.number for epoch in record.history)]
        panel.add_collection(
            LineCollection(
                [[(a, y), (b, y)] for a, b in itertools.pairwise(ends)],
                array=[epoch.metrics[name] for epoch in record.history],
                norm=colours,
                cmap=_MAP,
                linewidths=width,
                capstyle="butt",
                zorder=2,
            ),
            autolim=True,
        )
        if record.number in of_best:
            shown = [start, of_best[record.number]]
            panel.plot(shown, [y, y], color=style.BEST, linewidth=max(0.8, width / 5), zorder=3)
        if record.from_trial in rows:
            is_best = record.number in of_best
            x = start - aside[record.from_trial, start]
            panel.plot(
                [x, x, start],
                [rows[record.from_trial], y, y],
                color=style.BEST if is_best else "0.5",
                linewidth=1.6 if is_best else 0.8,
                marker="o",
                markersize=width / 2,
                markevery=[0],
                zorder=2.7 if is_best else 2.6,
            )
    handles = _ends(panel, trained, rows)
    if of_best:
        handles.append(Line2D([], [], color=style.BEST, label=f"to the best: {_name(best)}"))
    if len(trained) <= _NAMED:
        size = max(4.5, min(8.0, 0.9 * 72 * (height - 1.2) / len(trained)))
        for record in trained:
            at = (record.last_epoch, rows[record.number])
            style_of = {"fontsize": size, "va": "center", "textcoords": "offset points"}
            panel.annotate(_name(record), at, (6, 0), **style_of)
    panel.autoscale_view()
    panel.set_ylim(len(trained) - 0.2, -0.8)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)
    panel.set_xlabel("epoch", fontsize=9)
    style.whole_numbers(panel.xaxis)
    continued = sum(record.replaces is not None for record in records)
    style.title(panel, f"{name} of {len(trained)} trials, {continued} of them continuations")
    style.score_bar(
        figure, ScalarMappable(colours, _MAP), panel, space.metric, pad=0.02, fraction=0.05
    )
    style.legend_below(figure, handles)
    return figure


def _aside(trained: Sequence[TrialRecord]) -> dict[tuple[int, int], float]:
    """How far before an epoch the lines from a trial stand there: those from another one beside."""
    step = max(record.last_epoch for record in trained) / 150
    sources: dict[int, list[int]] = {}
    for record in trained:
        if record.from_trial is not None:
            some = sources.setdefault(record.from_epoch or 0, [])
            some += [record.from_trial] * (record.from_trial not in some)
    return {
        (source, epoch): place * step
        for epoch, some in sources.items()
        for place, source in enumerate(sorted(some))
    }


def _name(record: TrialRecord | None) -> str:
    return "" if record is None else trial_name(record.number)


def _rows(trained: Sequence[TrialRecord]) -> dict[int, int]:
    """The row of each trial: by the first that had its place, then in the order in which they had
    it."""
    replaces = {record.number: record.replaces for record in trained}

    def place(number: int) -> int:
        while (before := replaces.get(number)) is not None and before < number:
            number = before
        return number

    order = sorted(replaces, key=lambda number: (place(number), number))
    return {number: row for row, number in enumerate(order)}


def _ends(panel: Axes, trained: Sequence[TrialRecord], rows: Mapping[int, int]) -> list[Any]:
    """A mark where each trial ended."""
    return [
        style.scatter(
            panel,
            outcome,
            [record.last_epoch for record in some],
            [rows[record.number] for record in some],
            zorder=4,
        )
        for outcome, some in style.by_outcome(trained)
    ]
