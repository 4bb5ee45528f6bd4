"""On which data a sweep was trained, and which of its trials on others.

The study's note `data` holds a list, in order: the identity (`data.identity`) of the base trial's
data and the number of the first session that had them, `{"session": 1, "digest": "...", ...}`. Each
epoch holds the digest of the data that its trial was trained on, also where their settings are
searched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckconv_sweep.record.trials import TrialRecord, listed

if TYPE_CHECKING:  # Optuna
    from ckconv_sweep.record.study import Study

NOTE = "data"


def noted(notes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The identity of the data of the last session; empty if the study does not say."""
    return dict(notes[NOTE][-1]) if notes.get(NOTE) else {}


def note(study: Study, identity: Mapping[str, Any], session: int) -> None:
    """Write down the data of this session, if they are new."""
    said = list(study.note(NOTE) or [])
    # One that was killed before its first trial had the same number.
    kept = [entry for entry in said if entry["session"] < session]
    if not kept or kept[-1]["digest"] != identity["digest"]:
        kept.append({"session": session, **identity})
    if kept != said:
        study.set_note(NOTE, kept)


def folder_of(study: Study) -> Path | None:
    """Where datasets lay in the last session; None: in the default folder."""
    kept = (study.note("options") or {}).get("data_dir")
    return None if kept is None else Path(kept)


def on_other_data(records: Iterable[TrialRecord]) -> dict[str, list[int]]:
    """The trials that were trained on other data than the newest trials with the same settings of
    the data: digest -> numbers. A trial that continued on other data stands under its first ones.
    Epochs of which the data are not known are left out."""
    groups: dict[str, list[TrialRecord]] = defaultdict(list)
    for record in records:
        if any(record.data):
            settings = {**record.params, **record.changes}
            asked = {k: v for k, v in settings.items() if k.partition(".")[0] == "data"}
            groups[repr(sorted(asked.items()))].append(record)
    found: dict[str, list[int]] = defaultdict(list)
    for group in groups.values():
        newest = max(group, key=lambda record: (record.sessions[-1], record.number)).data[-1]
        for record in group:
            others = [digest for digest in record.data if digest not in ("", newest)]
            if others:
                found[others[0]].append(record.number)
    return dict(found)


def in_words(others: Mapping[str, list[int]]) -> list[str]:
    """A sentence for each digest of `on_other_data`."""
    return [
        f"trained on other data than the newest trials: {listed(numbers)} (digest "
        f"{digest}); their numbers cannot be compared with those of the others"
        for digest, numbers in others.items()
    ]
