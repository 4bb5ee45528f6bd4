"""What came out of a sweep, wherever it was read: what every table and picture is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ckconv_sweep.config.space import Space
from ckconv_sweep.record import trained_data
from ckconv_sweep.record.confirmation import Opening, openings
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trained_data import in_words, on_other_data
from ckconv_sweep.record.trials import TrialRecord, listed, rejected
from ckconv_sweep.record.versions import noted
from ckconv_sweep.report.sampling_error import scored_sequences
from ckconv_sweep.report.summary import State, Summary, state_of, summarize


@dataclass(frozen=True, kw_only=True)
class Results:
    """A sweep as it was at one moment.

    `uid` names the sweep for ever, 32 hexadecimal digits. `state`: see `report.summary`; from
    MLflow it is what the driver wrote last, so a killed one seems to run. `source` says where it
    was read, `notes` what the reader should know about the sweep, `versions` are those of each
    session that changed them, which MLflow does not say, nor `sequences`: see
    `sampling_error.scored_sequences`; these four are not compared. `rejections`: how many draws
    were rejected; None where `records` has them.
    """

    name: str
    uid: str
    space: Space
    records: tuple[TrialRecord, ...]
    state: State
    source: str = field(compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    versions: Sequence[Mapping[str, Any]] = field(default=(), compare=False)
    sequences: int | None = field(default=None, compare=False)
    rejections: int | None = field(default=None, compare=False)
    openings: tuple[Opening, ...] = ()
    """Of the test split, oldest first."""

    @classmethod
    def of_study(cls, study: Study) -> Results:
        """Of an open study; also while a driver writes."""
        records, folder = tuple(study.trials()), study.folder
        return cls(
            name=folder.name,
            uid=study.note("uid"),
            space=study.space,
            records=records,
            state=state_of(records, study.space, held=folder.records.holder() is not None),
            source=str(folder.root),
            notes=(
                *in_words(on_other_data(records)),
                *_changed(study.changed_trials()),
            ),
            versions=noted(study),
            sequences=scored_sequences(study.space, trained_data.noted(study.notes())),
            openings=tuple(openings(study.notes())),
        )

    @property
    def rejected(self) -> int:
        """How many draws were rejected; from MLflow only of a grid."""
        return rejected(self.records) if self.rejections is None else self.rejections

    def summary(self) -> Summary:
        """The sweep in a few numbers."""
        of_records = summarize(
            self.name, self.records, self.space, held=False, rejections=self.rejections
        )
        return replace(of_records, state=self.state)


def _changed(numbers: Sequence[int]) -> list[str]:
    if not numbers:
        return []
    whose = (
        f"trial {numbers[0]}: its record was"
        if len(numbers) == 1
        else (f"trials {listed(numbers)}: their records were")
    )
    return [f"{whose} changed after the end, see doctor"]
