"""Which trials a continuation goes back to: each with the epochs that are part of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.errors import DamagedData
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.trials import TrialRecord


@dataclass(frozen=True)
class Link:
    """A trial and the number of its last epoch that is part of a lineage."""

    record: TrialRecord
    until: int

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """Its epochs that are."""
        return tuple(epoch for epoch in self.record.history if epoch.number <= self.until)


def lineage(record: TrialRecord, records: Iterable[TrialRecord]) -> list[Link]:
    """A trial and those that it goes back to, the oldest first; itself alone where it is no
    continuation.

    Raises:
        DamagedData: one of them is not there, or lacks the epoch of its checkpoint.
    """
    known = {one.number: one for one in records}
    links = [Link(record, record.last_epoch)]
    while (number := links[0].record.from_trial) is not None:
        until, source = links[0].record.from_epoch or 0, known.get(number)
        child = links[0].record.number
        if source is None or number >= child or until not in {e.number for e in source.history}:
            raise DamagedData(
                f"trial {child} goes on from epoch {until} of trial {number}, which is not there"
            )
        links.insert(0, Link(source, until))
    return links


def broken(records: Sequence[TrialRecord]) -> Iterator[str]:
    """What is not whole among the continuations of a sweep, a sentence each."""
    for record in records:
        if record.replaces is None:
            continue
        try:
            lineage(record, records)
        except DamagedData as error:
            yield error.message
    replaced: dict[int, int] = {}
    for record in records:
        if record.replaces is None or record.retry_of is not None:
            continue
        if (other := replaced.setdefault(record.replaces, record.number)) != record.number:
            yield f"trials {other} and {record.number} both continue trial {record.replaces}"
    for record in records:
        if record.outcome == "continued" and record.number not in replaced:
            yield f"trial {record.number} was continued, and no trial has its place"


def in_words(record: TrialRecord) -> str:
    """What a continuation begins with: `t017 epoch 8`; empty where a trial is none."""
    if record.from_trial is None:
        return ""
    return f"{trial_name(record.from_trial)} epoch {record.from_epoch}"
