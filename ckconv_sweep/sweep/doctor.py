"""What is wrong with a sweep, and what to do about it. Everything is looked at, nothing changed.

Each check stands alone: a study that cannot be read is one finding, and the checkpoints are looked
at all the same.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from ckconv_sweep.errors import CkconvSweepError, ConfigError, DamagedData, SweepBusy, TrackingError
from ckconv_sweep.record import lock, snapshot, versions
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import SEE_DOCTOR, Study, TrialRecord, is_finished
from ckconv_sweep.sweep.driver import owed
from ckconv_sweep.sweep.mlflow_store import (
    check_answers,
    default_uri,
    local_database,
    without_password,
)
from ckconv_sweep.training import checkpoint

Level = Literal["ok", "warning", "problem"]
LITTLE_BYTES = 100 * 2**20
"""Less free space than this is a warning whatever the checkpoints need."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line. `todo` is the command, or in words what to do; empty where nothing is."""

    check: str
    level: Level
    message: str
    todo: str = ""
    damaged: bool = False
    """Whether something on disk is not what was written."""


@dataclass(frozen=True, kw_only=True)
class _Sweep:
    """What the checks look at. Without a readable study `study` knows nothing."""

    folder: SweepFolder
    command: Callable[[str], str]
    tracking_uri: str | None
    runs: bool
    records: list[TrialRecord] = field(default_factory=list)
    notes: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    """The settings of each trial, by number."""
    finished: bool = False

    def record(self, number: int) -> TrialRecord | None:
        return self.records[number] if number < len(self.records) else None

    def short(self, path: Path) -> str:
        return str(path.relative_to(self.folder.root))


def examine(
    folder: SweepFolder, command: Callable[[str], str], tracking_uri: str | None = None
) -> list[Finding]:
    """All that there is to say about a sweep, good and bad.

    Args:
        command: the command line of a verb for this sweep: `resume` -> `ckconv-sweep resume small`.
        tracking_uri: MLflow's address, if not where the sweep's records went last.
    """
    holder = lock.holder(folder.lock)
    sweep = _Sweep(
        folder=folder, command=command, tracking_uri=tracking_uri, runs=holder is not None
    )
    findings, sweep = _study(sweep)
    for look in (_checkpoints, _leftovers, _lock, _mlflow, _disk, _versions, _modes):
        try:
            findings += look(sweep)
        except OSError as error:
            findings.append(
                Finding(
                    check=look.__name__.strip("_"),
                    level="problem",
                    message=f"{error.filename or folder.root}: {error.strerror}",
                )
            )
    return findings


def _study(sweep: _Sweep) -> tuple[list[Finding], _Sweep]:
    """The study's own findings, and the sweep with what the study says."""

    def damaged(message: str, todo: str = "") -> tuple[list[Finding], _Sweep]:
        root = shlex.quote(str(sweep.folder.root))
        todo = todo or (
            f"cp -a {root} {root}.copy, then put a study.db of a backup in its place; "
            "without one, launch the space under another --name"
        )
        return [
            Finding(check="study", level="problem", message=message, todo=todo, damaged=True)
        ], sweep

    path = sweep.folder.study
    if not path.exists():
        if any(sweep.folder.root.glob("trials/*")):
            return damaged("study.db is missing, and there are trials")
        return [
            Finding(
                check="study",
                level="warning",
                message="there is none: the sweep was ended before it began",
                todo="launch it again",
            )
        ], sweep
    try:
        with snapshot.copied(path) as copy:
            if why := snapshot.damage(copy):
                return damaged(f"study.db is damaged: {why}")
            with Study.open(SweepFolder(copy.parent, sweep.folder.name)) as study:
                return _study_that_opens(sweep, study)
    except OSError as error:
        return damaged(f"study.db cannot be copied to be looked at: {error.strerror}")
    except DamagedData as error:
        hint = error.hint if error.hint and error.hint != SEE_DOCTOR else ""
        return damaged(f"study.db: {error.message}", hint)
    except CkconvSweepError as error:
        return [
            Finding(check="study", level="problem", message=f"study.db: {error.message}")
        ], sweep


def _study_that_opens(sweep: _Sweep, study: Study) -> tuple[list[Finding], _Sweep]:
    space, records = study.space, study.trials()
    found = [
        Finding(
            check="study",
            level="problem",
            message=sentence,
            todo="its row is not to be believed; the other trials are not concerned",
            damaged=True,
        )
        for sentence in study.contradictions()
    ]
    settings: dict[int, dict[str, Any]] = {}
    for record in records:
        try:
            settings[record.number] = space.resolve(record.params, record.number).model_dump(
                mode="json"
            )
        except ConfigError as error:
            if record.outcome != "running":  # one that is being drawn lacks some
                found.append(
                    Finding(
                        check="study",
                        level="problem",
                        message=f"trial {record.number}: its parameters make no trial of the "
                        f"space: {error.message}",
                        damaged=True,
                    )
                )
    epochs = sum(len(record.history) for record in records)
    said = f"whole: {_count(len(records), 'trial')}, {_count(epochs, 'epoch')}"
    unfinished = [str(r.number) for r in records if r.outcome == "running"]
    if unfinished and sweep.runs:
        said += f", {len(unfinished)} running"
    if not found:
        found.append(Finding(check="study", level="ok", message=said))
    if unfinished and not sweep.runs:
        found.append(
            Finding(
                check="study",
                level="warning",
                message=f"{_count(len(unfinished), 'unfinished trial')}: {', '.join(unfinished)}",
                todo=sweep.command("resume"),
            )
        )
    elif not sweep.runs and not is_finished(records, space):
        asked = sum(record.counts for record in records)
        found.append(
            Finding(
                check="study",
                level="warning",
                message=f"{asked} of {_count(space.budget.trials, 'trial')} are done",
                todo=sweep.command("resume"),
            )
        )
    return found, _Sweep(
        folder=sweep.folder,
        command=sweep.command,
        tracking_uri=sweep.tracking_uri,
        runs=sweep.runs,
        records=records,
        notes=study.notes(),
        settings=settings,
        finished=is_finished(records, space),
    )


def _checkpoints(sweep: _Sweep) -> Iterator[Finding]:
    files, size, resumed = 0, 0, dict[int, int]()
    for folder in _trial_folders(sweep):
        number = int(folder.name)
        record = sweep.record(number)
        runs_or_unknown = record is None or record.outcome == "running"
        newest, broken = 0, list[tuple[Path, str, bool]]()
        for epoch, path in checkpoint.checkpoints(folder):
            why, damaged = _why_unusable(path, sweep.settings.get(number))
            if why is None:
                newest = max(newest, epoch)
                files, size = files + 1, size + path.stat().st_size
            elif path.exists():  # a running driver may just have forgotten it
                broken.append((path, why, damaged))
        for path, why, damaged in broken:
            if not runs_or_unknown:
                todo = f"nothing reads it: rm {_quoted(path)}"
            elif damaged:
                goes_on = f"goes on after epoch {newest}" if newest else "is trained from its start"
                todo = f"it is not used, trial {number} {goes_on}: {sweep.command('resume')}"
            else:
                todo = f"rm {_quoted(path)}, or trial {number} fails"
            yield Finding(
                check="checkpoints",
                level="problem",
                message=f"{sweep.short(path)}: {why}",
                todo=todo,
                damaged=True,
            )
        for path in sorted(folder.glob("best-*.pt")):
            why, _ = _why_unusable(path, sweep.settings.get(number))
            if why is None:
                files, size = files + 1, size + path.stat().st_size
            elif path.exists():
                yield Finding(
                    check="checkpoints",
                    level="problem",
                    message=f"{sweep.short(path)}: {why}",
                    todo=f"trial {number}'s numbers are in the study and stay; its weights "
                    "are lost, unless it is trained again (ckconv-sweep best, train)",
                    damaged=True,
                )
        if record is None:
            if sweep.notes:
                yield Finding(
                    check="checkpoints",
                    level="warning",
                    message=f"{sweep.short(folder)} belongs to no trial of the study",
                    todo=f"rm -r {_quoted(folder)}",
                )
        elif record.outcome == "running" and newest:
            resumed[number] = newest
    message = f"{_count(files, 'whole file')}, {_size(size)}"
    if not sweep.runs:
        yield from _without_files(sweep, resumed)
        message += "".join(f"; trial {n} goes on after epoch {e}" for n, e in resumed.items())
    yield Finding(check="checkpoints", level="ok", message=message)


def _without_files(sweep: _Sweep, resumed: Mapping[int, int]) -> Iterator[Finding]:
    """Trials that should have a checkpoint, or their best weights, and have none."""
    for record in sweep.records:
        if record.outcome == "running" and record.history and record.number not in resumed:
            yield Finding(
                check="checkpoints",
                level="warning",
                message=f"trial {record.number} has {_count(len(record.history), 'epoch')} and no "
                "usable checkpoint: it is trained from its start, and its recorded epochs stay",
                todo=sweep.command("resume"),
            )
        place = sweep.folder.trial(record.number)
        if record.outcome == "completed" and checkpoint.best(place) is None:
            yield Finding(
                check="checkpoints",
                level="warning",
                message=f"trial {record.number} completed, and its weights are gone",
                todo="its numbers are in the study; to have weights, train it again",
            )


def _why_unusable(path: Path, settings: dict[str, Any] | None) -> tuple[str | None, bool]:
    """Why a checkpoint cannot be gone on from, and whether it is damaged (it may be whole, and of
    another trial)."""
    try:
        state = checkpoint.load(path)
    except DamagedData as error:
        return error.message, True
    except OSError as error:
        return f"cannot be read: {error.strerror}", True
    if not isinstance(state, dict) or "trial" not in state:
        return "holds no trial", True
    if settings is not None and state["trial"] != settings:
        return "is of another trial", False
    return None, False


def _leftovers(sweep: _Sweep) -> Iterator[Finding]:
    """What a killed driver or worker left, which nothing ever reads."""
    if sweep.runs:  # then they may be in use
        return
    found = [
        path
        for pattern in (".tmp-*", ".probe-*", "trials/*/.tmp-*", "tune")
        for path in sorted(sweep.folder.root.glob(pattern))
    ]
    if found:
        yield Finding(
            check="leftovers",
            level="warning",
            message=f"{_count(len(found), 'leftover')} of a killed process, "
            f"{_size(sum(_bytes_of(path) for path in found))}: "
            + ", ".join(sweep.short(path) for path in found[:3])
            + (", ..." if len(found) > 3 else ""),
            todo="nothing reads them: rm -r " + " ".join(_quoted(path) for path in found),
        )


def _lock(sweep: _Sweep) -> Iterator[Finding]:
    holder = lock.holder(sweep.folder.lock)
    if holder is not None:
        yield Finding(check="lock", level="ok", message=f"held by {holder}")
        return
    said = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        said = sweep.folder.lock.read_text()
    killed = "; the last driver was killed" if said and not said.isspace() else ""
    yield Finding(check="lock", level="ok", message=f"free{killed}")


def _mlflow(sweep: _Sweep) -> Iterator[Finding]:
    kept = sweep.notes.get("mlflow") or {}
    noted = kept.get("uri")
    uri = sweep.tracking_uri or noted or default_uri(sweep.folder.root.parent)
    shown = without_password(uri)
    missing = owed(sweep.records, kept, shown, finished=sweep.finished)
    database = local_database(uri)
    if database is not None and not database.exists() and not sweep.records:
        return  # nobody has written there yet
    silent, damaged = _why_silent(uri)
    elsewhere = uri != default_uri(sweep.folder.root.parent)
    sync = sweep.command("sync") + (f" --tracking-uri {shlex.quote(shown)}" if elsewhere else "")
    if missing and not sweep.runs:
        yield Finding(
            check="mlflow",
            level="warning",
            message=f"{_count(missing, 'record')} not known to be delivered to {shown}",
            todo=sync,
        )
    if silent:
        yield Finding(
            check="mlflow",
            level="problem" if damaged else "warning",
            message=f"{shown} {silent}",
            todo=f"take it away or put a backup in its place, and deliver all again: {sync}"
            if damaged
            else f"nothing is lost; when it answers: {sync}",
            damaged=damaged,
        )
    elif not missing or sweep.runs:
        known = " and has every record" if sweep.records and not sweep.runs else ""
        yield Finding(check="mlflow", level="ok", message=f"{shown} answers{known}")


def _why_silent(uri: str) -> tuple[str, bool]:
    """Why MLflow cannot be asked there, empty where it can, and whether its database is damaged."""
    path = local_database(uri)
    if path is None:
        try:
            check_answers(uri)
        except TrackingError as error:
            return error.message.replace("MLflow does", "does"), False
        return "", False
    if not path.exists():
        return "is not there", False
    try:
        with snapshot.copied(path) as copy:
            why = snapshot.damage(copy)
    except OSError as error:
        return f"cannot be read: {error.strerror}", False
    except SweepBusy:
        return "", False  # another sweep writes there, so it works
    return (f"is damaged: {why}", True) if why else ("", False)


def _disk(sweep: _Sweep) -> Iterator[Finding]:
    """Room for the checkpoints of the trials that run at a time: those kept, and a new one."""
    free = shutil.disk_usage(sweep.folder.root).free
    sizes = [path.stat().st_size for path in sweep.folder.root.glob("trials/*/checkpoint-*.pt")]
    if not sizes:  # of trials that have ended only the weights are left; a state has these twice,
        sizes = [  # and an optimiser's two numbers for each
            4 * path.stat().st_size for path in sweep.folder.root.glob("trials/*/best-*.pt")
        ]
    running = max(1, sum(record.outcome == "running" for record in sweep.records))
    needed = (checkpoint.KEPT + 1) * max(sizes, default=0) * running
    message = f"{_size(free)} free"
    if needed:
        message += f"; the checkpoints of {_count(running, 'trial')} need {_size(needed)}"
    if free < needed:
        todo = "make room before it goes on"
        yield Finding(check="disk", level="problem", message=message, todo=todo)
    elif free < LITTLE_BYTES:
        todo = "make room: the study and MLflow grow too"
        yield Finding(check="disk", level="warning", message=message, todo=todo)
    else:
        yield Finding(check="disk", level="ok", message=message)


def _versions(sweep: _Sweep) -> Iterator[Finding]:
    if not sweep.notes:
        return
    known: list[dict[str, Any]] = sweep.notes.get(versions.NOTE) or []
    if not known:
        if sweep.notes.get("sessions"):
            yield Finding(
                check="versions",
                level="warning",
                message="the study does not say under which versions it was run",
                todo="nothing: the next session writes them down",
            )
        return
    sessions = len(sweep.notes.get("sessions") or [])
    ends = [entry["session"] for entry in known[1:]] + [sessions + 1]
    for (before, entry), end in zip(pairwise(known), ends[1:], strict=True):
        inside = range(entry["session"], end)
        trials = [str(r.number) for r in sweep.records if set(r.sessions) & set(inside)]
        changes = "; ".join(map(str, versions.differences(before, entry)))
        yield Finding(
            check="versions",
            level="warning",
            message=f"from session {entry['session']} on {changes}; "
            f"epochs of {_count(len(trials), 'trial')} since then"
            + (f": {', '.join(trials)}" if trials else ""),
            todo="compare trials of the same versions only",
        )
    changed = versions.differences(known[-1], versions.versions())
    if not changed:
        same = "those of the launch" if len(known) == 1 else "those of the last session"
        yield Finding(check="versions", level="ok", message=f"{same}: {_listed(known[-1])}")
        return
    refused = any(change.major for change in changed)
    yield Finding(
        check="versions",
        level="problem" if refused else "warning",
        message="not those of the last session: " + "; ".join(map(str, changed)),
        todo="go on with the version that it was, or mix both knowingly: "
        f"{sweep.command('resume')} --allow-code-change"
        if refused
        else "numbers of new epochs may differ; go on with the old version if they must not",
    )


def _modes(sweep: _Sweep) -> Iterator[Finding]:
    """What others can read, given the folders on the way."""
    top = sweep.folder.root.parent
    beside = [path for path in top.glob("ml*") if path.name.startswith(("mlflow.", "mlartifacts"))]
    found, starts = list[Path](), list[Path]()
    for start in (sweep.folder.root, *beside):
        inside = (start, *(start.rglob("*") if start.is_dir() else ()))
        if opened := [path for path in inside if _open_to_others(path, top)]:
            starts.append(start)
            found += opened
    if found:
        names = ", ".join(str(path.relative_to(top)) for path in found[:3])
        yield Finding(
            check="modes",
            level="warning",
            message=f"others can read {_count(len(found), 'file or folder', 'files and folders')}: "
            + names
            + (", ..." if len(found) > 3 else ""),
            todo="chmod -R go= " + " ".join(_quoted(path) for path in starts),
        )
    else:
        yield Finding(check="modes", level="ok", message="nobody else can read it")


def _open_to_others(path: Path, top: Path) -> bool:
    try:
        if path.is_symlink() or not path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            return False
        way = path.parents[: len(path.relative_to(top).parts)]
        return all(p.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH) for p in way)
    except FileNotFoundError:  # a running driver has taken it away
        return False


def _trial_folders(sweep: _Sweep) -> list[Path]:
    found = sweep.folder.root.glob("trials/*")
    return sorted(path for path in found if path.is_dir() and re.fullmatch(r"\d{4,}", path.name))


def _bytes_of(path: Path) -> int:
    parts = path.rglob("*") if path.is_dir() else [path]
    return sum(part.stat().st_size for part in parts if part.is_file())


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _listed(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in entry.items() if k != "session")


def _count(amount: int, noun: str, many: str = "") -> str:
    return f"{amount} {noun}" if amount == 1 else f"{amount} {many or noun + 's'}"


def _size(amount: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
