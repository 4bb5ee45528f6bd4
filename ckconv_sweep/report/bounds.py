"""Ranges that seem to end too early, and a space that goes further there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy.stats import mannwhitneyu

from ckconv_sweep.config import documents
from ckconv_sweep.config.domains import Choices, Interval
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.sample import ranked
from ckconv_sweep.report.scale import Scale
from ckconv_sweep.report.summary import standing

NEAR = 0.1
"""How much of a range is near its end."""
FEWEST = 20
"""Trials, of which the best tenth is looked at; fewer say nothing about a range."""
_CROWD = 2 / 3
_CHANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Bound:
    """An end of a searched range at which the best trials crowd."""

    setting: str
    end: Literal["low", "high"]
    value: float
    near: int
    """How many of the best trials lie near the end."""
    best: int
    """How many trials have this setting and are among the best tenth."""
    there: int
    """How many of all trials lie near the end."""
    chance: float
    """Probability that the trials near one of the two ends rank this high if the setting makes no
    difference (Mann-Whitney, two-sided)."""


def bounds_hit(records: Sequence[TrialRecord], space: Space) -> list[Bound]:
    """The ends near which two thirds of the best tenth of the trials lie, if the trials there also
    rank higher than the others, by chance in at most one of a hundred ranges. Choices have no ends.

    The chance is taken over the ranks, given what was drawn: how often a sampler draws the end of a
    range depends on its rounding, on constraints, on failures, on how far a grid was walked, and
    with TPE on the scores. What continues other trials is left out, as in `comparable`.
    """
    order = ranked([r for r in records if r.replaces is None], space)
    return [
        bound
        for setting, domain in space.parameters().items()
        if isinstance(domain, Interval) and domain.low < domain.high
        for bound in _ends(order, setting, domain, space.metric)
    ]


def _ends(
    order: Sequence[TrialRecord], setting: str, domain: Interval, metric: Metric
) -> Iterator[Bound]:
    """The ends of one setting's range."""
    trials = [r for r in order if setting in r.params]
    if len(trials) < FEWEST:
        return
    scale, best = Scale(domain), max(3, round(len(trials) / 10))
    places = [scale.fraction(r.params[setting]) for r in trials]
    ends: tuple[tuple[Literal["low", "high"], float, list[bool]], ...] = (
        ("low", domain.low, [place <= NEAR for place in places]),
        ("high", domain.high, [place >= 1 - NEAR for place in places]),
    )
    for end, value, near in ends[domain.or_zero :]:  # nothing is below 0 there
        # Of equal trials those near the end are taken for the worse: a metric that is the same for
        # all trials tells nothing, whatever their order.
        marks = sorted(zip((standing(r, metric) for r in trials), near, strict=True))
        ranks = {
            mark: [i for i, (_, at) in enumerate(marks) if at == mark] for mark in (True, False)
        }
        crowd = sum(at for _, at in marks[:best])
        if crowd < _CROWD * best or not ranks[False]:
            continue
        chance = 2 * float(mannwhitneyu(ranks[True], ranks[False], alternative="less").pvalue)
        if chance <= _CHANCE:
            yield Bound(
                setting=setting,
                end=end,
                value=value,
                near=crowd,
                best=best,
                there=len(ranks[True]),
                chance=chance,
            )


def wider(space: Space, bounds: Sequence[Bound]) -> tuple[Space, list[str]]:
    """The space with each of these ends moved outwards, as far as its settings allow.

    A logarithmic range grows by half of itself, at most by a factor of ten; another by half its
    length. Where that is no setting any more, it grows by a half, a quarter, ... of that.

    Returns:
        The new space, and the settings whose range could be moved.
    """
    moved = []
    for bound in bounds:
        for halvings in range(6):
            try:
                space = _read_again(_moved(space, bound, 0.5**halvings))
            except ConfigError:
                continue
            moved.append(bound.setting)
            break
    return space, list(dict.fromkeys(moved))


def _moved(space: Space, bound: Bound, share: float) -> dict[str, Any]:
    """The space as plain values, one end moved."""
    domain = space.parameters()[bound.setting]
    assert not isinstance(domain, Choices)
    low, high = domain.low, domain.high
    if domain.log:
        factor = min(10.0, (high / low) ** 0.5) ** share
        new = high * factor if bound.end == "high" else low / factor
    else:
        step = domain.step or (1.0 if domain.whole else None)
        length = 0.5 * share * (high - low)
        if step is not None:
            length = max(1, round(length / step)) * step
        new = high + length if bound.end == "high" else low - length
    short = float(f"{new:.3g}")
    if domain.step is not None:
        new = round(new, 12)
    elif short > high or short < low:  # of a narrow range three digits may be the old end
        new = short
    if domain.whole:
        new = max(round(new), int(high) + 1) if bound.end == "high" else min(int(new), int(low) - 1)
    written = space.written()
    place = _place(written["search"] | written.get("variables", {}), bound.setting)
    place[bound.end] = new
    return written


def _place(search: dict[str, Any], setting: str) -> dict[str, Any]:
    """Where a parameter's range is written: by itself, or inside a block's choices."""
    if setting in search:
        found: dict[str, Any] = search[setting]
        return found
    path = next(
        path
        for path, written in search.items()
        if setting.startswith(f"{path}.") and isinstance(written.get("choices"), dict)
    )
    label = next(
        label
        for label in search[path]["choices"]
        if setting.removeprefix(f"{path}.").startswith(f"{label}.")
        and setting.removeprefix(f"{path}.{label}.") in search[path]["choices"][label]
    )
    inner: dict[str, Any] = search[path]["choices"][label][setting.removeprefix(f"{path}.{label}.")]
    return inner


def _read_again(written: dict[str, Any]) -> Space:
    """Raises ConfigError where the space would draw what is no trial."""
    return parse_space(documents.write(written), "the wider space")
