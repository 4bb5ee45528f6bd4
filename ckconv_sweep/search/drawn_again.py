"""Whether a trial's settings are what its sweep would try again: the sampler is asked once more at
that position, and is shown the trials as they were then.

A draw is a function of its position and of what the sampler was shown. A trial counted as ended for
it if its end was recorded before the drawn one began; the driver has one thread and one clock, so
the records tell that, also where a trial was drawn ahead of another one's end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ckconv_sweep.config.history import Continue
from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.seeds import as_seen
from ckconv_sweep.record.trials import BASE, TrialRecord
from ckconv_sweep.search.view import View

Told = Literal["same", "differs", "cannot be told", "not drawn"]


@dataclass(frozen=True)
class Redrawn:
    """What came of it. `why`: of whatever is not the same, in words."""

    told: Told
    why: str = ""


def redrawn(
    record: TrialRecord,
    records: Sequence[TrialRecord],
    space: Space,
    earlier: Iterable[TrialRecord] = (),
) -> Redrawn:
    """Compare the settings of a trial with those that its sweep would give it again.

    Args:
        records: every trial of the sweep, by number, those that confirm others too.
        earlier: what the sampler was shown of earlier sweeps.
    """
    if record.position is None:
        return _not_drawn(record, records, space)
    if (later := _begun_before(record, records)) is not None:
        return Redrawn(
            "cannot be told",
            f"{trial_name(later)} began before it by the clock, and has a higher number: the clock "
            "was set back",
        )
    # Within one millisecond the record does not tell which came first.
    views = (as_they_were(records, record, at_once_ended=ended) for ended in (True, False))
    for shown in views:
        search = [one for one in shown if one.confirms is None]
        view = View(space, [*earlier, *as_seen(search, space)])
        drawn = view.draw(record.position).params
        if dict(drawn) == dict(record.params):
            return Redrawn("same")
    why = _difference(record.params, drawn)
    if sum(other.ended_ms == record.started_ms for other in records) > 1:
        return Redrawn("cannot be told", f"several trials ended in the millisecond of it; {why}")
    return Redrawn("differs", why)


def as_they_were(
    records: Iterable[TrialRecord], record: TrialRecord, *, at_once_ended: bool
) -> list[TrialRecord]:
    """The trials before one, as they were when it began: what ended later runs.

    Args:
        at_once_ended: whether a trial that ended in that millisecond had ended.
    """

    def had_ended(other: TrialRecord) -> bool:
        if other.ended_ms is None:
            return False
        at_once = other.ended_ms == record.started_ms
        return other.ended_ms < record.started_ms or (at_once and at_once_ended)

    return [
        other if had_ended(other) else replace(other, outcome="running", ended_ms=None)
        for other in records
        if other.number < record.number
    ]


def _begun_before(record: TrialRecord, records: Iterable[TrialRecord]) -> int | None:
    """A trial with a higher number that began before this one, or with a lower one after it."""
    for other in records:
        if (other.number - record.number) * (other.started_ms - record.started_ms) < 0:
            return max(other.number, record.number)
    return None


def _not_drawn(record: TrialRecord, records: Sequence[TrialRecord], space: Space) -> Redrawn:
    """Of a trial whose settings come from elsewhere: from the space, or from another trial."""
    known = {other.number: other for other in records}
    if record.first is not None:
        where, wanted = f"first[{record.first}] of the space", space.first[record.first]
    elif record.confirms == BASE:
        return Redrawn("not drawn", "it is the base trial, with another seed")
    elif record.replaces is not None and record.replaces in known:
        verdict = known[record.replaces].verdict
        if not isinstance(verdict, Continue):
            return Redrawn("cannot be told", "the record has no verdict that it follows from")
        where, wanted = f"the verdict on {trial_name(record.replaces)}", verdict.params
    elif (other := _same_as(record)) is not None and other in known:
        where, wanted = trial_name(other), known[other].params
    else:
        return Redrawn("not drawn", "a person added it")
    if dict(wanted) != dict(record.params):
        return Redrawn("differs", f"from {where}: {_difference(record.params, wanted)}")
    return Redrawn("same")


def _same_as(record: TrialRecord) -> int | None:
    """The trial whose settings it has."""
    return record.confirms if record.repeat_of is None else record.repeat_of


def _difference(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first setting that is another one, in words."""
    for name in [*recorded, *(name for name in now if name not in recorded)]:
        was, is_ = recorded.get(name, "none"), now.get(name, "none")
        if was != is_:
            return f"{name} {was!r} is recorded, {is_!r} is drawn"
    return "the order of the settings"
