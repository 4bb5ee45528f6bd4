"""What the pictures share: colours, axes, and a picture that says why there is nothing to see."""

from __future__ import annotations

import contextlib
import io
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from ckconv_sweep.config.trial import Metric
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.scale import Scale

Array = NDArray[np.float64]

_NARROW = ContextVar("narrow", default=False)


@contextlib.contextmanager
def for_a_phone() -> Iterator[None]:
    """What is drawn inside is narrow: panels and legends stand below each other."""
    token = _NARROW.set(True)
    try:
        yield
    finally:
        _NARROW.reset(token)


def narrow() -> bool:
    """Whether a picture is drawn for a phone."""
    return _NARROW.get()


def columns(amount: int, wide: int, phone: int = 1) -> int:
    """In how many columns to put this many panels."""
    return min(phone if narrow() else wide, amount)


def _width() -> float:
    """Inches; 96 pixels each, as a browser shows a picture in its own size."""
    return 4.1 if narrow() else 9.0


# Okabe and Ito's palette (jfly.uni-koeln.de/color), whose colours differ in brightness too, and a
# dark wine of Tol's for what failed.
COLOURS: dict[Outcome, str] = {
    "completed": "#0072B2",
    "pruned": "#E69F00",
    "continued": "#CC79A7",
    "failed": "#882255",
    "running": "#7F7F7F",
}
MARKERS: dict[Outcome, str] = {
    "completed": "o",
    "pruned": "v",
    "continued": "D",
    "failed": "X",
    "running": "s",
}
WORDS: dict[Outcome, str] = {
    "completed": "completed",
    "pruned": "pruned",
    "continued": "continued",
    "failed": "failed",
    "running": "unfinished",
}
BEST = "#000000"
FRONT = "#009E73"
FAINT = "0.45"
MAP = "turbo"
"""From low scores to high ones, as in MLflow's chart of parallel coordinates."""

_GOLDEN = 0.618033988749895
TURNS = (0.7548776662466927, 0.5698402909980532)
"""Two that together fill a square evenly (the R2 sequence, Roberts 2018)."""


class Picture(Figure):
    """Shows itself in a notebook. A plain figure does so only once pyplot was imported there."""

    def _repr_png_(self) -> bytes:
        return rendered(self, "png")


def new(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure with a grid of panels: an array of them, or the only one."""
    figure = Picture(figsize=(_width(), height), layout="constrained")
    panels = figure.subplots(rows, columns, **options)
    for panel in np.ravel(panels):
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
    return figure, panels


def said(text: str) -> Figure:
    """In place of a picture: why there is none."""
    figure = Picture(figsize=(_width(), 1.6), layout="constrained")
    figure.text(0.5, 0.5, wrapped(text, 11), ha="center", va="center", fontsize=11, color=FAINT)
    return figure


def title(panel: Axes, text: str, part: float = 1.0) -> None:
    """What is seen, on the left over a panel, which takes this part of the figure's width."""
    panel.set_title(wrapped(text, 10, part), loc="left", fontsize=10)


def note(figure: Figure, text: str) -> None:
    """How to read it, under the figure."""
    figure.supxlabel(wrapped(text, 8.5), fontsize=8.5, color=FAINT)


def wrapped(text: str, size: float, part: float = 1.0) -> str:
    """For one line of a picture; on a phone for as many as it needs in a part of the width. `size`
    in points."""
    if not narrow():
        return plain(text)
    most = int(part * _width() * 72 / (0.56 * size))  # a letter is so wide, in parts of its size
    return plain("\n".join(textwrap.fill(line, most) for line in text.splitlines()))


def plain(text: object) -> str:
    """A text that matplotlib shows as it is: two dollar signs would be a formula."""
    return str(text).replace("$", r"\$")


def shortened(text: object, length: int = 18) -> str:
    """For a tick of an axis."""
    word = str(text)
    return plain(word if len(word) <= length else word[: length - 1] + "…")


def by_outcome(records: Iterable[TrialRecord]) -> Iterator[tuple[Outcome, list[TrialRecord]]]:
    """The trials of each outcome that occurs; the completed ones last, so that they lie on top."""
    records = list(records)
    for outcome in ("running", "failed", "pruned", "continued", "completed"):
        some = [r for r in records if r.outcome == outcome]
        if some:
            yield outcome, some


def scatter(
    panel: Axes, outcome: Outcome, x: Sequence[float], y: Sequence[float], **options: Any
) -> PathCollection:
    """Points of trials of one outcome: filled where they completed, open where they did not."""
    style: dict[str, Any] = {"s": 26, "linewidths": 1.1, "marker": MARKERS[outcome]}
    if outcome in ("completed", "failed"):
        style |= {"color": COLOURS[outcome], "edgecolors": "white", "linewidths": 0.5}
    else:
        style |= {"facecolors": "none", "edgecolors": COLOURS[outcome]}
    style |= {"label": f"{WORDS[outcome]} ({len(x)})", "rasterized": len(x) > 300}
    return panel.scatter(x, y, **(style | options))


def legend(panel: Axes, **options: Any) -> None:
    """Beside the panel, where it hides nothing; on a phone below it."""
    figure: Any = panel.figure
    if narrow():
        handles = options.get("handles") or panel.get_legend_handles_labels()[0]
        legend_below(figure, handles)
        return
    options |= {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    panel.legend(fontsize=8.5, frameon=False, **options)


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """One for all panels."""
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=2 if narrow() else 5,
        fontsize=8.5,
        frameon=False,
    )


def whole_numbers(axis: Axis) -> None:
    """Ticks at whole numbers only."""
    axis.set_major_locator(MaxNLocator(integer=True))


def metric_axis(axis: Axis, values: Iterable[float], metric: Metric, label: str = "") -> None:
    """The metric's axis: logarithmic where values of more than two powers of ten occur, cut where
    few trials are so much worse that the others would be a line."""
    axis.set_label_text(plain(label or metric.name), fontsize=9)
    numbers = np.array([v for v in values if np.isfinite(v)], dtype=float)
    if not len(numbers):
        return
    low, high = _without_outliers(numbers, metric)
    log = low > 0 and high > 100 * low
    panel: Any = axis.axes
    vertical = axis is panel.yaxis
    if log:
        log_axis(axis, low, high)
    if (low, high) != (numbers.min(), numbers.max()):
        room = 0.04 * (high - low)
        ends = (low / 1.1, high * 1.1) if log else (low - room, high + room)
        (panel.set_ylim if vertical else panel.set_xlim)(*ends)
        outside = int(np.sum((numbers < low) | (numbers > high)))
        axis.set_label_text(
            plain(f"{label or metric.name} (not shown: {outside} much worse)"), fontsize=9
        )


def _without_outliers(numbers: Array, metric: Metric) -> tuple[float, float]:
    """The range to show. Only bad values may lie outside: beyond ten times the distance of the
    best from the median, and less than a fifth of all."""
    low, high = float(numbers.min()), float(numbers.max())
    middle = float(np.median(numbers))
    if metric.mode == "min":
        edge = middle + 10 * (middle - low)
        inside = numbers[numbers <= edge]
        cut = (low, float(inside.max()))
    else:
        edge = middle - 10 * (high - middle)
        inside = numbers[numbers >= edge]
        cut = (float(inside.min()), high)
    few = 0 < len(numbers) - len(inside) <= len(numbers) / 5
    return cut if few and cut[0] < cut[1] else (low, high)


def score_bar(figure: Figure, colours: Any, panel: Axes, metric: Metric, **options: Any) -> None:
    """Which colour is which score."""
    bar = figure.colorbar(colours, ax=panel, aspect=40, **options)
    bar.set_label(plain(f"{metric.name} ({metric.better_is} is better)"), fontsize=9)


def colours_of(values: Iterable[float], metric: Metric) -> Normalize:
    """From values to [0, 1] for the colour map; outliers get the last colour."""
    numbers = np.array([v for v in values if np.isfinite(v)], dtype=float)
    return Normalize(*_without_outliers(numbers, metric), clip=True)


def setting_axis(axis: Axis, scale: Scale, label: str) -> None:
    """A setting's axis: its whole range, logarithmic where it is searched so, choices by name."""
    axis.set_label_text(plain(label), fontsize=9)
    panel: Any = axis.axes
    vertical = axis is panel.yaxis
    low, high = scale.ends
    if scale.log:
        log_axis(axis, low, high)
        if scale.zero is not None:  # which no logarithmic axis has
            powers = [10.0**power for power in range(-20, 20)]
            ticks = [power for power in powers if scale.zero < power <= high]
            axis.set_major_locator(FixedLocator([scale.zero, *ticks]))
            axis.set_major_formatter(FuncFormatter(lambda value, _: scale.told(value)))
    elif not scale.numeric:
        names = [shortened(option) for option in scale.domain.options]  # type: ignore[union-attr]
        axis.set_major_locator(FixedLocator(range(len(names))))
        axis.set_ticklabels(names)
        axis.set_minor_locator(NullLocator())
        if not vertical and sum(map(len, names)) > 30:
            axis.set_tick_params(labelrotation=20)
    elif scale.steps:
        axis.set_major_locator(FixedLocator(scale.steps))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    room = 0.04
    if len(scale.steps) > 1:
        room = 0.4 / (len(scale.steps) - 1)
    ends = (scale.at(-room), scale.at(1 + room)) if low < high else (low - 0.5, high + 0.5)
    if not scale.numeric:
        ends = (low - 0.5, high + 0.5)
    (panel.set_ylim if vertical else panel.set_xlim)(*ends)


def log_axis(axis: Axis, low: float, high: float) -> None:
    """A logarithmic axis whose ticks are written as a person writes numbers."""
    panel: Any = axis.axes
    (panel.set_yscale if axis is panel.yaxis else panel.set_xscale)("log")
    wide = high >= 100 * low or narrow()
    axis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def spread(
    records: Sequence[TrialRecord], name: str, scale: Scale, *, turn: float = _GOLDEN
) -> list[float]:
    """The positions of trials along a setting. Where it has few values, the trials of each lie side
    by side, by number; `turn` is another one for another axis."""
    apart = 0.5 * (scale.steps[1] - scale.steps[0]) if len(scale.steps) > 1 else 0.0
    if not scale.numeric:
        apart = 0.5
    return [scale.position(r.params[name]) + apart * beside(r.number, turn) for r in records]


def unit_of(seconds: float) -> tuple[str, float]:
    """In what to count a time, and how many seconds that is."""
    return next(
        (name, size)
        for name, size in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
        if seconds > 2 * size or size == 1.0
    )


def beside(number: int, turn: float = _GOLDEN) -> float:
    """From -0.5 to 0.5, far from each other for neighbours."""
    return (number * turn) % 1.0 - 0.5


def rendered(figure: Figure, suffix: str = "svg") -> bytes:
    """A figure as the content of a file; the same figure gives the same bytes."""
    content = io.BytesIO()
    metadata = {"Date": None} if suffix == "svg" else {}
    with mpl.rc_context({"svg.hashsalt": "ckconv-sweep"}), warnings.catch_warnings():
        # A choice may be written in letters that the font lacks; boxes stand for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(
            content,
            format=suffix,
            dpi=150 if suffix == "png" else 110,
            facecolor="white",
            metadata=metadata,
        )
    return content.getvalue()
