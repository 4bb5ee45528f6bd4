"""What a sweep's confirmation says, as a table and in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.trained_data import in_words, on_other_data
from ckconv_sweep.record.trials import BASE
from ckconv_sweep.report.numbers import amount, around, difference, score
from ckconv_sweep.report.openings import interval_of
from ckconv_sweep.search.confirmed import Confirmed, Setting, cheapest, confirmed, offered
from ckconv_sweep.search.confirming import FEWEST
from ckconv_sweep.search.intervals import Interval

__all__ = ["Confirmed", "Setting", "as_plain", "confirmed", "rows", "sentences"]

CAPTION = "±: half of the 95 % interval (Student t) over seeds; differences in pairs, seed by seed"


def name_of(setting: Setting) -> str:
    """`t017`, or `base`."""
    return "base" if setting.number == BASE else trial_name(setting.number)


def rows(found: Confirmed) -> list[dict[str, str]]:
    """A row a setting, best mean first, then the base trial where it is none of them. All cells
    are texts: what a setting has not is empty."""
    return [_row(setting, rank, found) for rank, setting in enumerate(_every(found), start=1)]


def _row(setting: Setting, rank: int, found: Confirmed) -> dict[str, str]:
    place = "1=" if setting.tied and len(found.tie) > 1 else str(rank)
    is_control = found.control is not None and setting.number == found.control.number
    return {
        "rank": "" if setting.number == BASE or not setting.values else place,
        "trial": name_of(setting) + " (base)" * (is_control and setting.number != BASE),
        "search": "" if setting.search_value is None else score(setting.search_value),
        "mean": mean_of(setting),
        "to leader": _difference(setting, found),
        "seeds": str(len(setting.values)),
        "parameters": "" if setting.parameters is None else f"{setting.parameters:,}",
        "seconds": "" if setting.seconds is None else f"{setting.seconds:,.1f}",
    }


def mean_of(setting: Setting) -> str:
    """Over its fresh seeds, with its interval: `0.9701 ± 0.0049`; empty without one."""
    if not setting.values:
        return ""
    return around(setting.mean, setting.low, setting.high, of=score(setting.mean))


def _difference(setting: Setting, found: Confirmed) -> str:
    if found.leader is not None and setting.number == found.leader.number:
        return "leader"
    of = setting.difference
    return "" if of is None else around(of.mean, of.low, of.high, of=difference(of.mean))


def sentences(found: Confirmed) -> Iterator[str]:
    """What is to be said below the table, the most important first."""
    if not found.finished:
        yield "the confirmation has not ended: what follows may change"
    yield from _winner(found)
    yield from _versus_base(found)
    yield from _shrinkage(found)
    yield from _lost(found)
    records = [record for setting in _every(found) for record in setting.records]
    yield from in_words(on_other_data(sorted(records, key=lambda record: record.number)))


def _every(found: Confirmed) -> list[Setting]:
    """The settings, and the control where it is none of them."""
    control = found.control
    return [*found.settings, *([control] if control and control.number == BASE else [])]


def _winner(found: Confirmed) -> Iterator[str]:
    if found.leader is None or found.offered is None:
        yield f"no setting has completed {FEWEST} seeds: nothing can be offered"
        return
    tie, name = found.tie, name_of(found.offered)
    now = offered(tie)
    if now is None or now.number != found.offered.number:
        yield f"{name} is the winner: that was fixed when the test split was opened"
        return
    others = [setting for setting in found.settings if not setting.tied and setting.values]
    if len(found.settings) == 1:
        yield f"{name} is the only setting that was confirmed"
        return
    if len(tie) == 1:
        compared = [name_of(s) for s in others if len(s.values) >= FEWEST]
        better = f"{found.metric.better_is} {found.metric.name}"
        than = f": {better} than {_listed(compared)}, seed by seed" if compared else ""
        yield f"{name} is best{than}"
        return
    names = _listed([name_of(setting) for setting in tie])
    why = _why(found.offered, tie)
    yield f"these {_word(len(tie))} cannot be told apart: {names}; {name} {why}"


def _why(best: Setting, tie: Sequence[Setting]) -> str:
    """What the offered one of a tie has before the others."""
    cheap = cheapest(tie)
    first = cheap is not None and cheap.number == best.number
    whole = tie if first else [setting for setting in tie if not setting.lost]
    lost = "" if first else " of those that completed every seed"
    if len(whole) == 1:
        return "alone completed every seed"
    size = best.parameters
    same = [setting for setting in whole if setting.parameters == size]
    has = "has the best mean" if best.number == same[0].number else "is the fastest"
    if size is None:
        return f"{has}{lost}"
    if len(same) == 1:
        return f"is the smallest ({size:,} parameters){lost}"
    which = "them" if len(same) == len(whole) else "the smallest"
    return f"{has} of {which} ({size:,} parameters){lost}"


def _versus_base(found: Confirmed) -> Iterator[str]:
    if found.offered is None or found.control is None:
        return
    name, control = name_of(found.offered), "the base trial"
    if found.control.number != BASE:
        control += f" ({name_of(found.control)})"
    if found.control.number == found.offered.number:
        alone = len(found.settings) == 1
        end = "there is no other to compare it with" if alone else "the search found nothing better"
        yield f"{name} has the settings of the base trial: {end}"
        return
    of = found.versus_base
    if of is None:
        return
    better = _as_better(of, found)
    how, by = ("better", better) if better.mean >= 0 else ("worse", better.negated())
    told = f"by {amount(by.mean)} ({_plain(by.low)} to {_plain(by.high)})"
    if better.has_zero:
        # Means of rounded numbers that are equal may differ in their last digit.
        equal = abs(by.mean) <= 1e-9 * abs(found.offered.mean)
        means = f"their means are equal ({_plain(by.low)} to {_plain(by.high)})"
        told = means if equal else f"it is {how} {told}"
        yield f"{name} cannot be told apart from {control}: {told}"
    else:
        end = ": take the base trial's own settings" * (how == "worse")
        yield f"{name} is {how} than {control} {told}{end}"


def _plain(value: float) -> str:
    return difference(value).removeprefix("+")


def _as_better(of: Interval, found: Confirmed) -> Interval:
    """A difference that is above 0 where the first is better."""
    return of if found.metric.mode == "max" else of.negated()


def _shrinkage(found: Confirmed) -> Iterator[str]:
    for setting in found.settings:
        of, first = setting.shrinkage, setting.number == found.plan.settings[0]
        if not first or of is None or setting.search_value is None:
            continue
        yield (
            f"shrinkage {difference(of.mean)} (95 % interval {difference(of.low)} to "
            f"{difference(of.high)}): the search said {score(setting.search_value)} of its best "
            f"trial, {name_of(setting)}, and fresh seeds say {score(setting.mean)}"
        )


def _lost(found: Confirmed) -> Iterator[str]:
    for setting in _every(found):
        for record in setting.lost:
            why = f" ({record.reason})" if record.reason else ""
            yield (
                f"{name_of(setting)}: seed {record.seed_index} did not complete{why}; it is judged "
                f"by {len(setting.values)} others"
            )
        if found.finished and len(setting.values) < FEWEST:
            yield (
                f"{name_of(setting)} has {len(setting.values)} completed seeds of the {FEWEST} "
                "that are needed, and is not compared"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _word(number: int) -> str:
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[number] if number < len(words) else str(number)


# For programs


def as_plain(found: Confirmed) -> dict[str, Any]:
    """All of it as plain values in full precision, for JSON; None where there is no value."""
    return {
        "finished": found.finished,
        "metric": found.metric.name,
        "mode": found.metric.mode,
        "seeds": found.plan.seeds,
        "leader": None if found.leader is None else found.leader.number,
        "tie": [setting.number for setting in found.tie],
        "offered": None if found.offered is None else found.offered.number,
        "control": None if found.control is None else found.control.number,
        "settings": [_setting(setting) for setting in found.settings],
        "base": None
        if found.control is None or found.control.number != BASE
        else _setting(found.control),
        "versus_base": _ends(found.versus_base),
        "shrinkage": _ends(found.shrinkage),
        "openings": [
            {
                "by": opening.by,
                "at_ms": opening.at_ms,
                "setting": opening.confirms,
                "trials": list(opening.trials),
                "exploratory": opening.exploratory,
                "scores": {
                    name: {"mean": value, **_low_high(interval_of(opening, name))}
                    for name, value in opening.scores.items()
                },
                "each": {name: list(values) for name, values in opening.each.items()},
                "sequences": opening.sequences,
                "dataset": opening.dataset,
                "sampling_rate": opening.sampling_rate,
                "data": opening.data,
                "code": opening.code,
            }
            for opening in found.openings
        ],
    }


def _setting(setting: Setting) -> dict[str, Any]:
    return {
        "trial": setting.number,
        "search": setting.search_value,
        "mean": _number(setting.mean),
        **_low_high((setting.low, setting.high)),
        "difference": _ends(setting.difference),
        "tied": setting.tied,
        "values": {str(index): value for index, value in sorted(setting.values.items())},
        "trials": [record.number for record in setting.records],
        "lost": [record.number for record in setting.lost],
        "shrinkage": _ends(setting.shrinkage),
        "parameters": setting.parameters,
        "seconds": setting.seconds,
        "params": dict(setting.params),
    }


def _ends(of: Interval | None) -> dict[str, float] | None:
    return None if of is None else {"mean": of.mean, "low": of.low, "high": of.high}


def _low_high(ends: tuple[float, float]) -> dict[str, float | None]:
    return {"low": _number(ends[0]), "high": _number(ends[1])}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
