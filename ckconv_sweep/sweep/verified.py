"""Resume, proved on a sweep: some of its trials are trained again in a scratch folder, are killed
meanwhile, and must become what was recorded of them. Nothing is written to the sweep."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ckconv_sweep.errors import ConfigError, DamagedData, TrialFailed
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record import versions, warm_start
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.lineage import lineage, trial_file
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, numbered
from ckconv_sweep.search.drawn_again import Redrawn, redrawn
from ckconv_sweep.sweep.differences import metrics_differ, weights_differ
from ckconv_sweep.sweep.killed import Again, Killed, planned
from ckconv_sweep.training import checkpoint


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What came of one trial. Each of `metrics`, `weights` is `same`, `differ`, or why it was not
    compared."""

    number: int
    kind: str
    """Its outcome, and why it was tried, if no sampler drew it."""
    epochs: int
    """How many recorded epochs were compared."""
    kills: tuple[Killed, ...] = ()
    kills_wanted: int = 0
    """How many were to come: as many did, or it ended before."""
    metrics: str
    weights: str
    draw: Redrawn
    differences: tuple[str, ...] = ()
    """What is not as recorded, and by how much."""
    reasons: tuple[str, ...] = ()
    """What may be the reason, of what the record knows; empty where nothing differs."""

    @property
    def differs(self) -> bool:
        """Whether something is not as it was recorded."""
        return bool(self.differences)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How trials are to be verified."""

    folder: SweepFolder
    """The sweep's own, from which the kept weights are read."""
    scratch: Path
    kills: int
    seed: int
    data_dir: Path | None
    device: str
    say: Callable[[str], None] = field(default=lambda message: None)

    def verified(self, record: TrialRecord, study: Study) -> Verified:
        """Train a trial again, and compare.

        Raises:
            CkconvSweepError: it cannot be trained here at all, because its data are missing, say.
        """
        records, name = study.every_trial(), trial_name(record.number)
        rng = random.Random(f"{self.seed}/{record.number}")
        again = Again(
            folder=self.scratch / name,
            text=trial_file(record, records, study.space),
            until=record.last_epoch,
            data_dir=self.data_dir,
            device=self.device,
            seconds=_seconds(record, records),
        )
        kills = planned(self.kills, record.last_epoch, rng)
        draw = redrawn(record, records, study.space, warm_start.noted(study).records)
        killed = list[Killed]()

        def came(kill: Killed) -> None:
            killed.append(kill)
            self.say(f"{name}: killed in epoch {kill.epoch}, goes on after epoch {kill.kept}")

        try:
            again.train(kills, came)
        except TrialFailed as failure:
            found = [f"it cannot be trained to its last epoch: {failure.message}"]
            metrics, weights = "differ", "not compared"
        else:
            state, _ = checkpoint.newest(again.folder)
            assert state is not None
            found = metrics_differ(record.history, state["history"])
            metrics = "differ" if found else "same"
            weights, how = self._weights(record, state["best_weights"])
            found += [how] if how else []
        if draw.told == "differs":
            found.append(f"draw: {draw.why}")
        return Verified(
            number=record.number,
            kind=kind_of(record),
            epochs=len(record.history),
            kills=tuple(killed),
            kills_wanted=self.kills,
            metrics=metrics,
            weights=weights,
            draw=draw,
            differences=tuple(found),
            reasons=tuple(self._reasons(record, study, again.folder)) if found else (),
        )

    def _weights(self, record: TrialRecord, now: Mapping[str, Any]) -> tuple[str, str]:
        """Whether these are the weights that the sweep kept; and how they differ."""
        path = checkpoint.best(self.folder.trial(record.number))
        if path is None:
            return "none kept", ""
        try:
            kept = checkpoint.load(path)["best_weights"]
        except DamagedData as error:
            return "differ", f"weights: {error}"
        how = weights_differ(kept, now)
        return ("differ" if how else "same"), how

    def _reasons(self, record: TrialRecord, study: Study, folder: Path) -> list[str]:
        """What is not as it was when the trial was trained, as far as the record knows."""
        found = []
        if record.number in study.changed_trials():
            found.append("its record is not what the driver wrote when it ended: it was changed")
        then = [v for v in versions.noted(study) if v["session"] <= max(record.sessions)][-1:]
        for entry in then:
            found += map(str, versions.differences(entry, versions.versions()))
        if record.gpu_seconds:
            found.append(
                f"it was trained on a GPU, and now on {self.device}: they round differently"
            )
        state, _ = checkpoint.newest(folder)
        digest = checkpoint.data_of(state or {}).get("digest", "")
        for before in sorted({d for d in record.data if d and digest and d != digest}):
            found.append(f"its data had the digest {before}, now {digest}")
        return found


def chosen(
    records: Sequence[TrialRecord], trials: int, named: Sequence[int], seed: int
) -> list[TrialRecord]:
    """The named trials, and with them so many in all, by the seed: one of each kind in turn, those
    that completed or were pruned first.

    Raises:
        ConfigError: a named trial is not there, or has no epoch to compare or has not ended.
    """
    found = [_comparable(numbered(records, number)) for number in dict.fromkeys(named)]
    groups: dict[str, list[TrialRecord]] = {}
    for record in records:
        ended = record.outcome in ("completed", "pruned", "continued") and record.history
        if ended and record.number not in named:
            groups.setdefault(kind_of(record), []).append(record)
    rng, order = random.Random(seed), sorted(groups)
    for kind in order:
        rng.shuffle(groups[kind])
    order.sort(key=lambda kind: not kind.startswith(("completed", "pruned")))
    while len(found) < trials and any(groups.values()):
        for kind in order:
            if groups[kind] and len(found) < trials:
                found.append(groups[kind].pop())
    return sorted(found, key=lambda record: record.number)


def kind_of(record: TrialRecord) -> str:
    """`completed`, or `pruned, repeat`: its outcome, and why it was tried, if nobody drew it."""
    origins = {
        "continuation": record.replaces is not None,
        "repeat": record.repeat_of is not None,
        "confirmation": record.confirms is not None,
        "added": bool(record.request),
        "first": record.first is not None,
    }
    return ", ".join([record.outcome, *(name for name, is_so in origins.items() if is_so)][:2])


def _comparable(record: TrialRecord) -> TrialRecord:
    name = trial_name(record.number)
    if record.outcome == "running":
        raise ConfigError(f"{name} has not ended", where="--trial", hint="name another one")
    if not record.history:
        raise ConfigError(
            f"{name} has no epoch that could be compared: {record.told}",
            where="--trial",
            hint="name another one",
        )
    return record


def _seconds(record: TrialRecord, records: Iterable[TrialRecord]) -> dict[int, float]:
    """How long each epoch took of a trial and of those that it continues, by number."""
    return {
        epoch.number: epoch.metrics.get("time/epoch_seconds", 0.0)
        for link in lineage(record, records)
        for epoch in link.epochs
    }
