"""Which trials a continuation goes back to: each with the epochs that are part of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ckconv_sweep.config import documents
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.segments import written
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import DamagedData
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.trials import TrialRecord, trial_of


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


def trial_file(record: TrialRecord, records: Iterable[TrialRecord], space: Space) -> str:
    """A trial's settings as a file that `train` reads; those of the trials that it goes back to as
    its segments."""
    tree: Mapping[str, object] = trial_of(record, space).model_dump(mode="json")
    links = lineage(record, records)
    trials = [(trial_of(link.record, space), link.until) for link in links]
    return documents.write(written(trials) if len(links) > 1 else tree)
