"""Checkpoints and best weights, what a killed process left, and who can read it all."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ckconv_sweep.config.trial import Trial
from ckconv_sweep.doctor.finding import Examined, Finding, count, ok, problem, quoted, size, warning
from ckconv_sweep.durable import is_shared
from ckconv_sweep.errors import DamagedData
from ckconv_sweep.execution.seat import CHECKPOINT_SECONDS
from ckconv_sweep.record.blobs import Place, blobs_at
from ckconv_sweep.training import checkpoint


def checkpoints(sweep: Examined) -> Iterator[Finding]:
    """Which can be gone on from, and which best weights are whole."""
    files, total, resumed = 0, 0, dict[int, int]()
    folders, sizes = _trial_folders(sweep)
    for folder in folders:
        number = int(folder.name)
        record = sweep.record(number)
        runs_or_unknown = record is None or record.outcome == "running"
        newest, broken = 0, list[tuple[Place, str, bool]]()
        for epoch, path in checkpoint.checkpoints(folder):
            copied = record is not None and epoch == record.from_epoch  # of another trial
            why, damaged = _why_unusable(path, None if copied else sweep.settings.get(number))
            if why is None:
                newest = max(newest, epoch)
                files, total = files + 1, total + sizes.get(f"{folder.name}/{path.name}", 0)
            elif _is_there(path):  # a running driver may just have forgotten it
                broken.append((path, why, damaged))
        every = 0 if sweep.space is None else sweep.space.scheduler.kept_epochs
        for path, why, damaged in broken:
            if not runs_or_unknown and every:
                todo = f"no trial can begin with it any more: {_away(path)}"
            elif not runs_or_unknown:
                todo = f"nothing reads it: {_away(path)}"
            elif damaged:
                goes_on = f"resumes after epoch {newest}" if newest else "is trained from its start"
                todo = f"it is not used, trial {number} {goes_on}: {sweep.folder.command('resume')}"
            else:
                todo = f"{_away(path)}, or trial {number} fails"
            yield problem(f"{sweep.short(path)}: {why}", todo, damaged=True)
        for path in (folder / name for name in blobs_at(folder).list("best-*.pt")):
            why, _ = _why_unusable(path, sweep.settings.get(number))
            if why is None:
                files, total = files + 1, total + sizes.get(f"{folder.name}/{path.name}", 0)
            elif _is_there(path):
                yield problem(
                    f"{sweep.short(path)}: {why}",
                    f"trial {number}'s numbers are in the study and stay; its weights "
                    "are lost, unless it is trained again "
                    f"({sweep.folder.command('best')}, ckconv-sweep train)",
                    damaged=True,
                )
        if record is None:
            if sweep.notes:
                yield warning(
                    f"{sweep.short(folder)} belongs to no trial of the study",
                    f"{_away(folder, every=True)}",
                )
        elif record.outcome == "running" and newest:
            resumed[number] = newest
    message = f"{count(files, 'whole file')}, {size(total)}"
    if not sweep.runs:
        yield from _without_files(sweep, resumed)
        message += "".join(f"; trial {n} resumes after epoch {e}" for n, e in resumed.items())
    yield ok(message)


def _without_files(sweep: Examined, resumed: Mapping[int, int]) -> Iterator[Finding]:
    """Trials that should have a checkpoint, or their best weights, and have none."""
    for record in sweep.records:
        lost = record.outcome == "running" and record.number not in resumed and record.history
        seconds = (e.metrics.get("time/epoch_seconds", 0.0) for e in record.history[:-1])
        if lost and sum(seconds) >= CHECKPOINT_SECONDS:  # of less there need be none
            yield warning(
                f"trial {record.number} has {count(len(record.history), 'epoch')} and no "
                "usable checkpoint: it is trained from its start, and its recorded epochs stay",
                sweep.folder.command("resume"),
            )
        place = sweep.folder.trial(record.number)
        if record.outcome == "completed" and checkpoint.best(place) is None:
            yield warning(
                f"trial {record.number} completed, and its weights are gone",
                "its numbers are in the study; to have weights, train it again",
            )


def _why_unusable(path: Place, trial: Trial | None) -> tuple[str | None, bool]:
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
    if trial is not None and not trial.is_meant_by(state["trial"]):
        return "is of another trial", False
    return None, False


def leftovers(sweep: Examined) -> Iterator[Finding]:
    """What a killed driver or worker left, which nothing ever reads."""
    if sweep.runs:  # then they may be in use
        return
    found = [
        path
        for top in {sweep.folder.root, sweep.folder.files}
        for pattern in (".tmp-*", ".probe-*", "trials/*/.tmp-*", "tune")
        if isinstance(top, Path)  # an object store has none
        for path in sorted(top.glob(pattern))
    ]
    if found:
        yield warning(
            f"{count(len(found), 'leftover')} of a killed process, "
            f"{size(sum(_bytes_of(path) for path in found))}: "
            + ", ".join(sweep.short(path) for path in found[:3])
            + (", ..." if len(found) > 3 else ""),
            "nothing reads them: rm -r " + " ".join(quoted(path) for path in found),
        )


def modes(sweep: Examined) -> Iterator[Finding]:
    """What others can read, given the folders on the way."""
    top = sweep.folder.root.parent
    beside = [path for path in top.glob("ml*") if path.name.startswith(("mlflow.", "mlartifacts"))]
    found, starts = list[Path](), list[Path]()
    shared = is_shared(sweep.folder.root)
    for start in (sweep.folder.root, *beside):
        inside = (start, *(start.rglob("*") if start.is_dir() else ()))
        if opened := [path for path in inside if _open_to_others(path, top, shared=shared)]:
            starts.append(start)
            found += opened
    if found:
        names = ", ".join(str(path.relative_to(top)) for path in found[:3])
        yield warning(
            f"others can read {count(len(found), 'file or folder', 'files and folders')}: "
            + names
            + (", ..." if len(found) > 3 else ""),
            f"chmod -R {'o' if shared else 'go'}= " + " ".join(quoted(path) for path in starts),
        )
    else:
        yield ok("only its group can read it" if shared else "nobody else can read it")


def _open_to_others(path: Path, top: Path, *, shared: bool) -> bool:
    others = stat.S_IROTH if shared else stat.S_IRGRP | stat.S_IROTH
    try:
        if path.is_symlink() or not path.stat().st_mode & others:
            return False
        way = path.parents[: len(path.relative_to(top).parts)]
        return all(p.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH) for p in way)
    except FileNotFoundError:  # a running driver has taken it away
        return False


def _trial_folders(sweep: Examined) -> tuple[list[Place], Mapping[str, int]]:
    """The trials' folders, and the size of each file in them, as of `Blobs.sizes`."""
    top = sweep.folder.files / "trials"
    sizes = blobs_at(top).sizes()
    names = {name.partition("/")[0] for name in sizes}
    if isinstance(top, Path):
        names |= {path.name for path in top.glob("*") if path.is_dir()}
    numbered = sorted((n for n in names if re.fullmatch(r"\d{4,}", n)), key=int)
    return [top / name for name in numbered], sizes


def _is_there(path: Place) -> bool:
    return bool(blobs_at(path.parent).list(path.name))


def _away(path: Place, *, every: bool = False) -> str:
    """The command that deletes it. `every`: it is a folder."""
    if isinstance(path, Path):
        return f"rm {'-r ' * every}{quoted(path)}"
    return f"aws s3 rm {'--recursive ' * every}{path.address}"


def _bytes_of(path: Path) -> int:
    parts = path.rglob("*") if path.is_dir() else [path]
    return sum(part.stat().st_size for part in parts if part.is_file())
