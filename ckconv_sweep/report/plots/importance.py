"""How much each setting matters, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ckconv_sweep.config.settings import short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.importance import RESAMPLES, Importance, Importances, importances
from ckconv_sweep.report.plots import style
from ckconv_sweep.report.sample import ENOUGH


def draw(
    records: Sequence[TrialRecord],
    space: Space,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Figure:
    """A bar for each setting, with its interval."""
    return picture(importances(records, space, seed=seed, resamples=resamples))


def picture(found: Importances) -> Figure:
    """As `draw`, of importances that are known already."""
    tried = [i for i in found.settings if i.enough]
    if not tried:
        return style.said(
            f"importance cannot be estimated: {found.words}; {ENOUGH} with different values are "
            f"needed"
        )
    narrow = style.narrow()
    names = short_names(found.top)
    figure, panel = style.new((2.2 if narrow else 1.5) + 0.34 * len(found.settings))
    for row, one in enumerate(found.settings):
        colour = style.COLOURS["completed"] if one.told else "0.72"
        if one.enough:
            panel.barh(row, max(one.median, 0.0), color=colour, height=0.62)
            panel.plot([one.low, one.high], [row, row], color="0.2", linewidth=1.3)
            panel.plot(one.noise, row, marker="|", color=style.COLOURS["failed"], markersize=13)
        panel.annotate(
            _words(one),
            (max(one.high, one.noise, 0.0), row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color="0.2" if one.told else style.FAINT,
        )
    panel.set_yticks(range(len(found.settings)))
    wheres = [f"(if {one.where})" if one.where else "" for one in found.settings]
    labels = [
        [names[one.setting], where] for one, where in zip(found.settings, wheres, strict=True)
    ]
    panel.set_yticklabels([_label(parts) for parts in labels])
    edge = max(max(i.high, i.noise) for i in tried)
    room = 2.4 if narrow else 1.45  # for the words
    panel.set_xlim(min(0.0, *(i.low for i in tried)) - 0.01, max(edge, 0.05) * room)
    panel.set_xticks([tick for tick in panel.get_xticks() if 0.0 <= tick <= 1.0])
    panel.set_xlabel(
        style.wrapped(
            "share of the differences among trials that involves the setting", 9, part=0.6
        ),
        fontsize=9,
    )
    panel.set_ylim(len(found.settings) - 0.4, -0.6)
    panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    style.title(panel, f"importance of the settings, over\n{found.words}", part=0.64)
    style.note(
        figure,
        "line: 95 % of the resamples.  purple mark: what a column of random numbers reaches; a "
        "setting is told only beyond it",
    )
    return figure


def _label(parts: Sequence[str]) -> str:
    """A setting, and where it exists; on a phone in two short lines."""
    if style.narrow():
        return "\n".join(style.shortened(part, 28) for part in parts if part)
    return style.plain("  ".join(part for part in parts if part))


def _words(one: Importance) -> str:
    if not one.enough:
        few = one.trials < ENOUGH
        return "cannot be told: " + (f"{one.trials} such trials" if few else "the same in all")
    return (
        f"{one.median:.0%} ({one.low:.0%} to {one.high:.0%})"
        if one.told
        else f"{max(one.median, 0):.0%}, cannot be told"
    )
