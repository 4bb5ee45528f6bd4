"""The test numbers of a sweep: each opening of its test split, in words. They rank nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ckconv_sweep.config.metrics import SCORES
from ckconv_sweep.keys import setting_name, trial_name
from ckconv_sweep.record.confirmation import Opening, by_time, times
from ckconv_sweep.report.numbers import score
from ckconv_sweep.search.intervals import ends_within


def heading(openings: Sequence[Opening]) -> str:
    """How often the split was opened."""
    return f"test split, {times_in_words(openings)} (no setting is chosen by these numbers):"


def times_in_words(openings: Sequence[Opening]) -> str:
    """`opened once`, `opened 2 times`; of other datasets' test splits alone `not opened`."""
    number = times(openings)
    return {0: "not opened", 1: "opened once"}.get(number, f"opened {number} times")


def lines(openings: Sequence[Opening]) -> Iterator[str]:
    """One for each score, oldest first, with the number of its opening; none of another dataset."""
    for number, opening in by_time(openings):
        yield f"{f'{number}.' if number else '- '} {opening.at} {in_words(opening)}"


def before_in_words(openings: Sequence[Opening]) -> str:
    """`2 before: 2026-11-30 21:05 confirm t017, 5 seeds; ...`; the last few of many."""
    openings = [opening for opening in openings if not opening.elsewhere]
    if not openings:
        return "none before"
    told = "; ".join(f"{o.at} {o.by} {subject(o)}".rstrip() for o in openings[-_SHOWN:])
    first = "the last: " if len(openings) > _SHOWN else ""
    return f"{times(openings)} before: {first}{told}"


_SHOWN = 4


def in_words(opening: Opening) -> str:
    """`confirm, t017, 5 seeds: test/accuracy 0.9680 (0.9620 to 0.9740)`."""
    what = ", ".join(part for part in (opening.by, subject(opening)) if part)
    return f"{what}: {scores_in_words(opening)}" + ", exploratory" * opening.exploratory


def subject(opening: Opening) -> str:
    """Whose weights were scored; nothing of a single run."""
    if opening.by == "confirm" and opening.confirms is not None:
        seeds = len(opening.trials)
        return f"{setting_name(opening.confirms)}, {seeds} seed{'s' * (seeds != 1)}"
    told = ", ".join(map(trial_name, opening.trials))
    if opening.confirms is not None:
        told += f" (a seed of {setting_name(opening.confirms)})"
    return told


def scores_in_words(opening: Opening) -> str:
    """Each score, of several seeds the mean with its 95 % interval (Student t); the loss last."""
    told = []
    for name, value in sorted(opening.scores.items(), key=lambda one: one[0].endswith("/loss")):
        low, high = interval_of(opening, name)
        told.append(f"{name} {score(value)}" + _ends(low, high))
    rate = opening.sampling_rate
    on = f" on {opening.dataset}" * opening.elsewhere
    return ", ".join(told) + on + (f" at sampling rate {rate}" if rate is not None else "")


def interval_of(opening: Opening, name: str) -> tuple[float, float]:
    """The 95 % interval of a score's mean over seeds; NaN of one seed."""
    bounds = SCORES[name.partition("/")[2]].bounds
    return ends_within(opening.each.get(name, ()), bounds)


def _ends(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" ({score(low)} to {score(high)})"
