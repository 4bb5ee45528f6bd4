"""What a sweep needs around it: its lock, MLflow, room on the disk, the same versions."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from ckconv_sweep.doctor.finding import Examined, Finding, count, ok, problem, size, warning
from ckconv_sweep.errors import SweepBusy, TrackingError
from ckconv_sweep.record import snapshot, versions
from ckconv_sweep.record.blobs import blobs_at
from ckconv_sweep.tracking.answers import check_answers
from ckconv_sweep.tracking.lag import owed
from ckconv_sweep.tracking.marks import Found, in_mlflow, noted_marks
from ckconv_sweep.tracking.store import (
    artifact_location,
    database_uri,
    default_uri,
    experiment_name,
    kept_notes,
    local_database,
    quiet_client,
    reason,
    take_files_along,
    without_password,
)
from ckconv_sweep.training import checkpoint

LITTLE_BYTES = 100 * 2**20
"""Less free space than this is a warning whatever the checkpoints need."""


def free_lock(sweep: Examined) -> Iterator[Finding]:
    """Whether a driver holds the sweep."""
    holder = sweep.folder.records.holder()
    if holder is not None:
        yield ok(f"held by {holder}")
        return
    killed = "; the last driver was killed" * sweep.folder.records.holder_was_killed()
    yield ok(f"free{killed}")


def mlflow(sweep: Examined) -> Iterator[Finding]:
    """Whether it can be asked, and what it lacks."""
    kept = kept_notes(sweep.notes, sweep.folder.root.parent)
    uri = sweep.tracking_uri or kept.get("uri") or default_uri(sweep.folder.root.parent)
    shown = without_password(uri)
    has = noted_marks(kept, shown, sweep.records)
    noted = owed(sweep.records, has, finished=sweep.finished)
    database = local_database(uri)
    if database is not None and not database.exists() and not sweep.records:
        return  # nobody has written there yet
    silent, damaged, found = _asked(sweep, uri)
    elsewhere = uri != default_uri(sweep.folder.root.parent)
    sync = sweep.folder.command("sync") + (
        f" --tracking-uri {shlex.quote(shown)}" if elsewhere else ""
    )
    if found is not None:
        lacks = _lacks(sweep, found, noted)
        yield Finding(
            "warning" if lacks else "ok",
            f"{shown} {silent or 'answers'} and {lacks or 'has every record'}",
            sync if lacks else "",
        )
        return
    if noted and not sweep.runs:
        yield warning(f"{count(noted, 'record')} not known to be delivered to {shown}", sync)
    unknown = "; what it has was not compared with the study" if sweep.records else ""
    if silent:
        yield Finding(
            "problem" if damaged else "warning",
            f"{shown} {silent}" + ("" if damaged else unknown),
            f"take it away or put a backup in its place, and deliver all again: {sync}"
            if damaged
            else f"nothing is lost; when it answers: {sync}",
            damaged=damaged,
        )
    elif not noted or sweep.runs:
        yield ok(f"{shown} answers{unknown}")


def _lacks(sweep: Examined, found: Found, noted: int) -> str:
    """What MLflow does not have of a sweep; empty where it has all of it. `noted`: how many
    records it lacks by the sweep's own notes."""
    missing = owed(sweep.records, found, finished=sweep.finished)
    whose = [str(r.number) for r in sweep.records if owed([r], found, finished=False)]
    own_run = not found.status or (sweep.finished and found.status != "FINISHED")
    missing += own_run and not sweep.finished  # of a finished sweep it is counted
    if not missing:
        return ""
    text = f"lacks {count(missing, 'record')} of " + " and ".join(
        ["the sweep's own run"] * own_run
        + [f"trial{'s' * (len(whose) > 1)} {', '.join(whose[:10])}"] * bool(whose)
    )
    if len(whose) > 10:
        text += f" and {len(whose) - 10} more"
    lost = missing - noted
    return text + (f"; {lost} of them had been delivered and are gone" if lost > 0 else "")


def _asked(sweep: Examined, uri: str) -> tuple[str, bool, Found | None]:
    """Why MLflow cannot be asked there, empty where it can; whether its database is damaged; and
    what it has of the sweep, None where that is not known or still on its way."""
    path = local_database(uri)
    if path is None:
        try:
            check_answers(uri)
        except TrackingError as error:
            return error.message.removeprefix("MLflow "), False, None
        return _found(sweep, uri, uri)
    if not path.exists():
        return "is not there", False, Found("", {}, [])
    try:
        with snapshot.copied(path) as copy:
            if why := snapshot.damage(copy):
                return f"is damaged: {why}", True, None
            take_files_along(copy, artifact_location(uri) or "")
            return _found(sweep, uri, database_uri(copy))
    except OSError as error:
        return f"cannot be read: {error.strerror}", False, None
    except SweepBusy:
        return "", False, None  # another sweep writes there, so it works


def _found(sweep: Examined, uri: str, readable: str) -> tuple[str, bool, Found | None]:
    """`_asked` where MLflow answers. `readable`: where it is read without changing it."""
    if sweep.runs or sweep.space is None or not sweep.settings:
        return "", False, None
    try:
        client = quiet_client(readable)
        experiment = client.get_experiment_by_name(experiment_name())
        if experiment is None or experiment.lifecycle_stage == "deleted":
            return "", False, Found("", {}, [])
        found = in_mlflow(
            client,
            experiment.experiment_id,
            sweep.notes["uid"],
            sweep.records,
            metrics=[metric.name for metric in sweep.space.metrics],
            files=artifact_location(uri),
        )
    except Exception as error:
        return f"does not say what it has: {reason(error, readable)}", False, None
    return "", False, found


def disk(sweep: Examined) -> Iterator[Finding]:
    """Room for the checkpoints of the trials that run at a time: those kept, and a new one."""
    place = sweep.folder.files
    folder = place if isinstance(place, Path) else sweep.folder.root  # an object store has room
    free = shutil.disk_usage(folder).free
    files = blobs_at(folder / "trials").sizes()
    sizes = [bytes_ for name, bytes_ in files.items() if "/checkpoint-" in name]
    if not sizes:  # of trials that have ended only the weights are left; a state has these twice,
        # and an optimiser's two numbers for each
        sizes = [4 * bytes_ for name, bytes_ in files.items() if "/best-" in name]
    running = max(1, sum(record.outcome == "running" for record in sweep.records))
    needed = (checkpoint.KEPT + 1) * max(sizes, default=0) * running
    message = f"{size(free)} free"
    if needed:
        message += f"; the checkpoints of {count(running, 'trial')} need {size(needed)}"
    if free < needed:
        yield problem(message, "free disk space before resuming")
    elif free < LITTLE_BYTES:
        yield warning(message, "free disk space: the study and MLflow grow too")
    else:
        yield ok(message)


def same_versions(sweep: Examined) -> Iterator[Finding]:
    """Under which versions which trials were run."""
    if not sweep.notes:
        return
    known: list[dict[str, Any]] = sweep.notes.get(versions.NOTE) or []
    if sweep.notes.get("format") != versions.FORMAT:
        yield warning(
            "an unreleased version of ckconv-sweep began it: it can be read, not resumed",
            f"to train more, launch {sweep.folder.space} with another --name",
        )
    if not known:
        return
    sessions = len(sweep.notes.get("sessions") or [])
    ends = [entry["session"] for entry in known[1:]] + [sessions + 1]
    for (before, entry), end in zip(pairwise(known), ends[1:], strict=True):
        inside = range(entry["session"], end)
        trials = [str(r.number) for r in sweep.records if set(r.sessions) & set(inside)]
        changes = "; ".join(map(str, versions.differences(before, entry)))
        yield warning(
            f"from session {entry['session']} on {changes}; "
            f"epochs of {count(len(trials), 'trial')} since then"
            + (f": {', '.join(trials)}" if trials else ""),
            "compare trials of the same versions only",
        )
    changed = versions.differences(known[-1], versions.versions())
    if not changed:
        same = "those of the launch" if len(known) == 1 else "those of the last session"
        yield ok(f"{same}: {_listed(known[-1])}")
        return
    refused = any(change.major for change in changed)
    yield Finding(
        "problem" if refused else "warning",
        "not those of the last session: " + "; ".join(map(str, changed)),
        "use the old version, or accept a mix of both: "
        f"{sweep.folder.command('resume')} --allow-code-change"
        if refused
        else "results of new epochs may differ; use the old version if they must not",
    )


def _listed(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in entry.items() if k != "session")
