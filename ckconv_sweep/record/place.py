"""In which folder a sweep was driven last, so that a copy of it is told from one that was moved.

The study's note `place` is `{"folder": the path, "inode": of the study's file}`. A folder that was
moved or renamed is the same sweep; a copy of one that still is there must not write to its runs in
MLflow, and becomes a sweep of its own. Where all sweeps were copied with MLflow's database beside
them, each writes to its own database, and the copy goes on as it is.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import Any

from ckconv_sweep.record.database import UNREADABLE, note_at
from ckconv_sweep.record.folder import SweepFolder, all_sweeps
from ckconv_sweep.record.study import Study

NOTE = "place"


def settle(study: Study, *, own_database: bool) -> list[str]:
    """For the driver: note that the sweep is driven in this folder, and give a copy a uid of its
    own, under which MLflow has nothing yet. Returns a line for the user where either is news.

    Args:
        own_database: whether it is tracked in the database beside the sweeps of this folder.
    """
    folder, here = study.folder, _here(study)
    before = study.note(NOTE)
    original = copied_from(study, folder)
    if original is not None and not shares_runs(original, folder, own_database=own_database):
        return []  # not noted, so that it is still known when it is tracked elsewhere
    if original is not None:
        study.set_uid(uuid.uuid4().hex, {NOTE: here, "mlflow": None})
        return [f"this is a copy of the sweep in {original}; it gets runs of its own in MLflow"]
    if study.note(NOTE) != here:
        study.set_note(NOTE, here)
    if before is None or before["folder"] == here["folder"]:
        return []
    return [f"this sweep was in {before['folder']}; it keeps its runs in MLflow"]


def is_noted(study: Study) -> bool:
    """Whether the sweep was driven last in this folder, as this file."""
    return bool(study.note(NOTE) == _here(study))


def _here(study: Study) -> dict[str, Any]:
    folder = study.folder
    return {"folder": str(folder.root.resolve()), "inode": folder.records.path.stat().st_ino}


def copied_from(study: Study, folder: SweepFolder) -> Path | None:
    """Where the sweep is that lies in `folder` as a copy; None where it is that sweep itself,
    wherever it was before.

    Args:
        study: that of the folder, or one read from a copy of its file.
    """
    before = study.note(NOTE)
    if before is None or before["folder"] == str(folder.root.resolve()):
        return None
    there = Path(before["folder"])
    others = [SweepFolder(there, there.name)]
    same_file = folder.records.path.stat().st_ino == before["inode"]
    # The original may have been renamed since, or copied along; then it bears the name it had.
    if not same_file and folder.name != there.name:
        others += all_sweeps(folder.root.parent)
    found = [other.root for other in others if _is_another(other, folder, study.uid)]
    return min(found, key=lambda root: root.parent != folder.root.parent, default=None)


def shares_runs(original: Path, folder: SweepFolder, *, own_database: bool) -> bool:
    """Whether a copy would write to the runs of its original. `own_database`: see `settle`."""
    return not own_database or original.parent == folder.root.parent


def notes_here(study: Study, folder: SweepFolder, *, own_database: bool) -> dict[str, Any]:
    """The study's notes, as they are of the sweep in this folder: a copy will have a uid of its
    own, of which MLflow has nothing. `own_database`: see `settle`."""
    original, notes = copied_from(study, folder), study.notes()
    if original is not None and shares_runs(original, folder, own_database=own_database):
        notes |= {"uid": uuid.uuid4().hex, "mlflow": None}
    return notes


def _is_another(other: SweepFolder, folder: SweepFolder, uid: str) -> bool:
    """Whether another folder than this one holds a study of this uid. One that cannot be read is
    none: nobody can drive it."""
    path = other.records.path
    with contextlib.suppress(*UNREADABLE):
        if os.path.samefile(path, folder.records.path):
            return False
        return bool(note_at(path, "uid") == uid)
    return False
