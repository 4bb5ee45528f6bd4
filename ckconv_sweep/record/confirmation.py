"""What a sweep's confirmation is to train, and each opening of the test split, as the study notes
them."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

from ckconv_sweep.record.trials import TrialRecord

if TYPE_CHECKING:  # Optuna
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.study import Study

NOTE, OPENINGS, SESSION = "confirmation", "openings", "confirms_now"


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """Which settings are trained again, and with how many fresh seeds at most."""

    settings: tuple[int, ...]
    """The trials of the search whose settings they are, best first."""
    control: int | None
    """What they are compared with: `BASE`, or one of the settings where that is the base trial's;
    None where there is nothing to compare with."""
    seeds: int
    begun_ms: int
    top: int = 5
    """As how many settings were requested; there may be fewer."""
    test: bool = True
    """Whether the test split is opened once it has ended; not with `--no-test`."""

    @property
    def most(self) -> int:
        """How many trials there are if each setting is trained with each seed."""
        return self.seeds * len(self.compared)

    @property
    def compared(self) -> tuple[int, ...]:
        """The settings, and the control after them where it is none of them."""
        others = () if self.control in (None, *self.settings) else (self.control,)
        return (*self.settings, *(number for number in others if number is not None))


def noted(notes: Mapping[str, Any]) -> Confirmation | None:
    """The sweep's confirmation, if one was begun."""
    if not (kept := notes.get(NOTE)):
        return None
    return Confirmation(**{**kept, "settings": tuple(kept["settings"])})


def command(folder: SweepFolder, plan: Confirmation, known: Iterable[Opening]) -> str:
    """What continues a confirmation or reads it, without opening a test split that was to stay
    shut. `known`: the openings up to now."""
    opened = any(opening.by == "confirm" for opening in known)
    return folder.command("confirm") + " --no-test" * (not plan.test and not opened)


def in_words(plan: Confirmation, records: Iterable[TrialRecord]) -> str:
    """How far a confirmation is that has not ended."""
    return f"confirmation: {ended(records)} of at most {plan.most} trials trained"


def note(study: Study, confirmation: Confirmation) -> None:
    """Write down what is confirmed, before its first trial."""
    study.set_note(NOTE, asdict(confirmation))


def note_session(study: Study, *, confirms: bool) -> None:
    """What the driver that holds the sweep trains. It signs: one that is killed cannot take it
    back, and a command that holds the sweep for a moment later does not confirm it."""
    signed = (study.folder.records.holder() or True) if confirms else False
    if (study.note(SESSION) or False) != signed:
        study.set_note(SESSION, signed)


def is_confirming(notes: Mapping[str, Any], holder: str | None) -> bool:
    """Whether a driver confirms the sweep now. `holder`: who holds it, in words."""
    return holder is not None and notes.get(SESSION) == holder


def ended(records: Iterable[TrialRecord]) -> int:
    """How many of these trials have ended."""
    return sum(record.outcome != "running" for record in records)


def fresh_seed(uid: str, seed_index: int) -> int:
    """`training.seed` of all trials with this index: of 62 bits, which those of a search, the base
    trial's and the numbers after it, do not reach. `uid`: the sweep's."""
    digest = blake2b(f"{uid} confirms {seed_index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The test split was scored: when, by which code, on which data, which trials, and what came
    out."""

    scores: Mapping[str, float]
    """By metric, `test/accuracy`; the mean over the trials."""
    trials: Sequence[int]
    """Whose best weights were scored; none of a run that is no trial of a sweep."""
    confirms: int | None = None
    """The setting whose fresh seeds these are; None of any other checkpoint."""
    each: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The scores of each trial, by metric, in the order of `trials`."""
    by: Literal["confirm", "evaluate", "predict"] = "evaluate"
    """The command that opened it."""
    exploratory: bool = True
    """Whether it scored anything but the winner that `confirm` has fixed. What `confirm` itself
    scores, the control included, is never exploratory."""
    dataset: str = ""
    elsewhere: bool = False
    """Whether that is another dataset than the one of its training."""
    sampling_rate: int | None = None
    """Every how many steps were kept, where that was not as in training."""
    sequences: int = 0
    """How many the split has."""
    data: str = ""
    """The digest of the test data: `data.identity.digest_of_split`."""
    code: str = ""
    """The version and the digest of the code: `versions.code`."""
    at_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @property
    def at(self) -> str:
        """When, in UTC: `2026-11-30 21:05`."""
        when = datetime.datetime.fromtimestamp(self.at_ms / 1000, tz=datetime.UTC)
        return f"{when:%Y-%m-%d %H:%M}"


def openings(notes: Mapping[str, Any]) -> list[Opening]:
    """Each opening of the test split, oldest first."""
    return [Opening(**kept) for kept in notes.get(OPENINGS) or ()]


def by_time(known: Iterable[Opening]) -> list[tuple[int | None, Opening]]:
    """Each with the number of the time, from 1, at which the split was opened: `confirm` scores its
    winner and the control at one. What was scored on another dataset opened another split: None."""
    numbered: list[tuple[int | None, Opening]] = []
    number, confirmed_ms = 0, None
    for opening in known:
        together = opening.by == "confirm" and opening.at_ms == confirmed_ms
        number += not (together or opening.elsewhere)
        numbered.append((None if opening.elsewhere else number, opening))
        confirmed_ms = opening.at_ms if opening.by == "confirm" else None
    return numbered


def times(known: Iterable[Opening]) -> int:
    """How many times the split was opened."""
    return max((number or 0 for number, _ in by_time(known)), default=0)


def add_openings(study: Study, *new: Opening) -> None:
    """Record them, all or none."""
    known = [*openings(study.notes()), *new]
    study.set_note(OPENINGS, [asdict(opening) for opening in known])
