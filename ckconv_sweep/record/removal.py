"""Deleting what a sweep keeps: all of it, or what nobody needs any more."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from shlex import quote

from ckconv_sweep.errors import CannotWrite, ConfigError
from ckconv_sweep.record.backup import KEPT, PATTERN
from ckconv_sweep.record.blobs import Place, blobs_at
from ckconv_sweep.record.elsewhere import owner
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.records import STUDY
from ckconv_sweep.record.trials import TrialRecord

_OF_A_TRIAL = re.compile(r"trials/(?P<number>\d{4,})/(?P<name>.+)")
_CHECKPOINT = re.compile(r"checkpoint-(\d+)-[0-9a-f]{16}\.pt")
_LEFT = (".tmp-*", ".probe-*", "tune/*")
"""What a killed process leaves, and nobody reads."""


def places(folder: SweepFolder) -> list[Place]:
    """Where a sweep has files: its own folder, and where its trials keep theirs."""
    return list(dict.fromkeys([folder.root, folder.files]))


def check_owned(folder: SweepFolder) -> None:
    """Raises ConfigError if the trials' files are another driver's by now, which runs the sweep on
    another machine, or from another folder."""
    there = owner(folder.files) if folder.files != folder.root else {}
    root = Path(str(there.get("folder", folder.root)))
    is_here = there.get("host") == socket.gethostname()
    moved = is_here and not SweepFolder(root, root.name).records.exists()
    if there and not moved and not (is_here and root == folder.root):
        raise ConfigError(
            f"the sweep was continued on {there.get('host')} in {there.get('folder')}, and its "
            f"files in {folder.files} are that one's",
            where=folder.name,
            hint=f"delete it there; to delete this folder alone: rm -r {quote(str(folder.root))}",
        )


def unneeded(
    folder: SweepFolder, records: Iterable[TrialRecord], kept_epochs: int
) -> Sequence[tuple[Place, Mapping[str, int]]]:
    """The files that nobody needs: in each place their paths from there, and bytes.

    Args:
        records: all trials of the study.
        kept_epochs: as of `training.checkpoint.save`: with those checkpoints others may begin.
    """
    known = {record.number: record for record in records}
    found = []
    for place in places(folder):
        sizes = blobs_at(place).sizes()
        old = [name for name in sizes if fnmatchcase(name, PATTERN)][:-KEPT]
        names = {name for name in sizes if name in old or _is_left(name, known, kept_epochs)}
        found.append((place, {name: sizes[name] for name in sorted(names)}))
    return found


def _is_left(name: str, known: Mapping[int, TrialRecord], kept_epochs: int) -> bool:
    if any(fnmatchcase(name, pattern) for pattern in _LEFT):
        return True
    of_a_trial = _OF_A_TRIAL.fullmatch(name)
    if of_a_trial is None:
        return False
    record = known.get(int(of_a_trial["number"]))
    if record is None or fnmatchcase(of_a_trial["name"], _LEFT[0]):
        return True
    if record.outcome == "running":
        return False
    if checkpoint := _CHECKPOINT.fullmatch(of_a_trial["name"]):
        return not kept_epochs or int(checkpoint[1]) % kept_epochs != 0
    return fnmatchcase(of_a_trial["name"], "best-*.pt") and record.outcome != "completed"


def delete(found: Iterable[tuple[Place, Iterable[str]]]) -> None:
    """Delete files by their paths from each place, and the trials' folders that are empty then.
    Raises CannotWrite."""
    for place, names in found:
        try:
            blobs_at(place).delete(*names)
            if isinstance(place, Path):
                for folder in {(place / name).parent for name in names} - {place}:
                    if not any(folder.iterdir()):
                        folder.rmdir()
        except OSError as error:
            raise CannotWrite(f"cannot be deleted: {error.strerror}", where=str(place)) from error


def delete_all(folder: SweepFolder) -> None:
    """Delete a sweep, its study last: until then the same again completes what was interrupted. For
    who holds the lock, which goes with it. Raises CannotWrite."""
    try:
        if folder.files != folder.root:
            _delete_place(folder.files)
        last = (f"{STUDY}-wal", f"{STUDY}-shm", STUDY, "lock")
        for path in folder.root.iterdir():
            if path.name not in last:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in last:
            (folder.root / name).unlink(missing_ok=True)
        os.rmdir(folder.root)
    except OSError as error:
        raise CannotWrite(
            f"cannot be deleted: {error.strerror}", where=str(error.filename or folder.root)
        ) from error


def _delete_place(place: Place) -> None:
    if isinstance(place, Path):
        if place.exists():
            shutil.rmtree(place)
    else:
        blobs = blobs_at(place)
        blobs.delete(*blobs.sizes())
