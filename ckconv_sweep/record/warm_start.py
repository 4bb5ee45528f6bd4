"""What a sweep has learnt from earlier ones, as it was when it was launched.

The study's note `warm_start` is a list of the earlier sweeps: `{"uid": "...", "name": "...", ...}`;
`warm_trials` holds their trials as text, with its digest. Both are written once, before the first
draw, so that a draw stays a function of the records whatever becomes of the earlier sweeps.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ckconv_sweep.config.history import Epoch, best
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.errors import DamagedData
from ckconv_sweep.record.database import UNREADABLE, note_at, see_doctor
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.records import STUDY
from ckconv_sweep.record.rows import short_hash
from ckconv_sweep.record.seeds import Repeated
from ckconv_sweep.record.trials import TrialRecord

if TYPE_CHECKING:
    from ckconv_sweep.record.study import Study

NOTE, TRIALS = "warm_start", "warm_trials"


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An earlier sweep. `named`: whether the new one names it; one of which that was warm-started
    itself is known from there."""

    uid: str
    name: str
    named: bool
    ended: int
    """How many completed and pruned trials it had."""
    fit: int
    """How many of them are known to the new sweep."""
    why: Mapping[str, int]
    """Why the others are not, and how many for each reason."""

    def in_words(self) -> str:
        """A line for the user."""
        if not self.ended:
            return f"warm start: {self.name} has no completed or pruned trial"
        line = f"warm start: {self.fit} of {self.ended} completed and pruned trials of {self.name} "
        why = "; ".join(f"{reason} ({count})" for reason, count in self.why.items())
        return f"{line}fit" + (f"; {self.ended - self.fit} do not: {why}" if why else "")


@dataclass(frozen=True, kw_only=True)
class EarlierTrial:
    """A trial of an earlier sweep, with parameters of the new one. Of its epochs `record` has two
    with the new sweep's metrics: that by which it is judged and the last."""

    uid: str
    name: str
    """Of its sweep."""
    record: TrialRecord
    seconds: float
    """How long its epochs took."""

    @classmethod
    def of(
        cls,
        sweep: tuple[str, str],
        record: TrialRecord,
        params: Mapping[str, Any],
        metrics: Sequence[Metric],
        seconds: float,
    ) -> EarlierTrial:
        """What is kept of a completed or pruned trial. `sweep`: its uid and name."""
        judged, last = best(record.history, metrics[0]), record.history[-1]
        epochs = (judged, last) if judged.number < last.number else (last,)
        if isinstance(record, Repeated) and record.completed:  # by its mean alone
            epochs = (replace(judged, metrics=record.values(metrics)),)
        kept = TrialRecord(
            number=record.number,
            outcome=record.outcome,
            params=params,
            history=tuple(_with_only(epoch, metrics) for epoch in epochs),
            started_ms=record.started_ms,
            ended_ms=record.ended_ms,
            data=record.data[-1:],
        )
        return cls(uid=sweep[0], name=sweep[1], record=kept, seconds=seconds)

    def written(self) -> dict[str, Any]:
        """As plain values; `_trial` reads them."""
        record = self.record
        return {
            "sweep": [self.uid, self.name],
            "seconds": self.seconds,
            "number": record.number,
            "outcome": record.outcome,
            "params": dict(record.params),
            "epochs": [[e.number, dict(e.metrics), e.timestamp_ms] for e in record.history],
            "times": [record.started_ms, record.ended_ms],
            "data": list(record.data),
        }


def _with_only(epoch: Epoch, metrics: Sequence[Metric]) -> Epoch:
    values = {metric.name: epoch.metrics[metric.name] for metric in metrics}
    return replace(epoch, metrics=values, checkpoint="")


def _trial(written: Mapping[str, Any]) -> EarlierTrial:
    record = TrialRecord(
        number=written["number"],
        outcome=written["outcome"],
        params=written["params"],
        history=tuple(
            Epoch(number=number, metrics=metrics, timestamp_ms=ms)
            for number, metrics, ms in written["epochs"]
        ),
        started_ms=written["times"][0],
        ended_ms=written["times"][1],
        data=tuple(written["data"]),
    )
    uid, name = written["sweep"]
    return EarlierTrial(uid=uid, name=name, record=record, seconds=written["seconds"])


@dataclass(frozen=True)
class WarmStart:
    """All that is known of earlier sweeps; `text` holds their trials."""

    sweeps: tuple[Earlier, ...] = ()
    text: str = "[]"

    @classmethod
    def of(cls, sweeps: Iterable[Earlier], trials: Iterable[EarlierTrial]) -> WarmStart:
        """Made of its parts."""
        return cls(tuple(sweeps), json.dumps([trial.written() for trial in trials]))

    @cached_property
    def trials(self) -> tuple[EarlierTrial, ...]:
        """Those that fit, sweep by sweep."""
        return tuple(map(_trial, json.loads(self.text)))

    @property
    def records(self) -> list[TrialRecord]:
        """As samplers see them: with numbers below those of the sweep's own trials."""
        trials = enumerate(self.trials, start=1)
        return [replace(trial.record, number=-i, data=()) for i, trial in trials]

    def in_words(self) -> list[str]:
        """A line for each sweep, and one where not all that fit are kept."""
        lines, fit = [sweep.in_words() for sweep in self.sweeps], sum(s.fit for s in self.sweeps)
        if len(self.trials) < fit:
            kept = f"the sampler is shown {len(self.trials):,} of these {fit:,} trials"
            lines.append(f"warm start: {kept}: the newest, and the best of the others")
        return lines


def note(study: Study, known: WarmStart) -> None:
    """Write it down, as one transaction. For the driver, before the first draw."""
    kept = {"text": known.text, "digest": short_hash(known.text)}
    study.set_notes({TRIALS: kept, NOTE: [asdict(sweep) for sweep in known.sweeps]})
    crash_point("warm_start.noted")


def noted(study: Study) -> WarmStart:
    """What was written down; empty where nothing was.

    Raises:
        DamagedData: it was changed since.
    """
    if not (sweeps := sweeps_of(study)):
        return WarmStart()
    kept = study.note(TRIALS) or {"text": "", "digest": None}
    if short_hash(kept["text"]) != kept["digest"]:
        raise DamagedData(
            "what the sweep knows of earlier ones was changed since the driver wrote it",
            where=str(study.folder.records.path),
            hint=see_doctor(study.folder.records.path),
        )
    return WarmStart(sweeps, kept["text"])


def sweeps_of(study: Study) -> tuple[Earlier, ...]:
    """The earlier sweeps alone."""
    return tuple(Earlier(**sweep) for sweep in study.note(NOTE) or ())


def relatives(study: Study) -> list[str]:
    """A line for each earlier sweep that a sweep has learnt from, and one that names those which
    have learnt from it."""
    lines = [sweep.in_words() for sweep in sweeps_of(study)]
    if later := started_from(study.folder, study.uid):
        lines.append(f"later sweeps that have learnt from it: {', '.join(later)}")
    return lines


def started_from(folder: SweepFolder, uid: str) -> list[str]:
    """The sweeps beside this one that were warm-started from it, by name. `uid`: this one's. One
    that cannot be read is left out."""
    found = []
    for path in sorted(folder.root.parent.glob(f"*/{STUDY}")):
        with contextlib.suppress(*UNREADABLE):
            if any(sweep["uid"] == uid and sweep["named"] for sweep in note_at(path, NOTE) or ()):
                found.append(path.parent.name)
    return found
