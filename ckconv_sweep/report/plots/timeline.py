"""When each trial was trained, and when it waited."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ckconv_sweep.config.space import Space
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.plots import style
from ckconv_sweep.report.spent import clock, spans

_MOST_ROWS = 150


def draw(records: Sequence[TrialRecord], space: Space) -> Figure:
    """A row for each trial, or of many trials a row for each that ran at a time: thick while it
    trained, thin while it waited. The breaks between the sessions of the sweep are cut out and
    marked."""
    del space  # every kind is called alike
    trained = [r for r in records if r.history]
    if not trained:
        return style.said("no trial has finished an epoch")
    running = clock(trained)
    total = running(running.sessions[-1].end_ms)
    unit, seconds = style.unit_of(total)
    times = {
        r.number: [(start / seconds, end / seconds) for start, end in spans(r, running)]
        for r in trained
    }
    packed = len(trained) > _MOST_ROWS
    rows = lanes(times) if packed else {r.number: r.number for r in trained}
    last = max(rows.values())
    height = min(6.5, 1.8 + 0.07 * (last + 1))
    figure, panel = style.new(height)
    thickness = max(0.8, min(9.0, 45 * height / (last + 1)))
    handles = []
    for outcome, some in style.by_outcome(trained):
        colour = style.COLOURS[outcome]
        lives = [(t[0][0], t[-1][1], rows[r.number]) for r in some for t in [times[r.number]]]
        epochs = [(*span, rows[r.number]) for r in some for span in times[r.number]]
        for bars, width in ((lives, 0.2 * thickness), (epochs, thickness)):
            # One line with gaps is drawn ten times faster than a bar each.
            panel.plot(
                [x for start, end, _ in bars for x in (start, end, math.nan)],
                [y for *_, row in bars for y in (row, row, math.nan)],
                color=colour,
                linewidth=width,
                solid_capstyle="butt",
                rasterized=len(epochs) > 1500,
            )
        handles.append(
            Line2D([], [], color=colour, linewidth=5, label=f"{style.WORDS[outcome]} ({len(some)})")
        )
    for moment, length in running.breaks():
        panel.axvline(moment / seconds, color="0.2", linestyle=":", linewidth=1.1)
        panel.annotate(
            f" {_length(length)} break",
            (moment / seconds, 1.0),
            xycoords=("data", "axes fraction"),
            fontsize=8,
            va="bottom",
            ha="center",
        )
    panel.set_xlim(-0.01 * total / seconds, max(1.01 * total / seconds, 1e-9))
    panel.set_ylim(last + 0.7, min(rows.values()) - 0.7)
    panel.set_xlabel(f"{unit} of running", fontsize=9)
    panel.set_ylabel("trials at a time" if packed else "trial", fontsize=9)
    style.whole_numbers(panel.yaxis)
    panel.set_title(
        "when each trial was trained (thin: it waited)", loc="left", fontsize=10, pad=14
    )
    style.legend(panel, handles=handles)
    return figure


def lanes(times: Mapping[int, Sequence[tuple[float, float]]]) -> dict[int, int]:
    """The row, from 1, of each trial: the first one that is free when it begins. Those of one row
    were not trained at the same time."""
    free_at: list[float] = []
    rows = {}
    for number, own in sorted(times.items(), key=lambda item: (item[1][0][0], item[0])):
        begin, end = own[0][0], own[-1][1]
        row = next((i for i, free in enumerate(free_at) if free <= begin), len(free_at))
        free_at[row : row + 1] = [end]
        rows[number] = row + 1
    return rows


def _length(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
