"""Where each opening of the test split is recorded: in the study of the sweep in whose folder a
checkpoint lies, or in a file beside the checkpoint of a single run.

    runs/mine/openings.jsonl        a line for each opening, as JSON
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ckconv_sweep.durable import opened, sync
from ckconv_sweep.errors import CannotWrite, SweepBusy
from ckconv_sweep.record.blobs import Place
from ckconv_sweep.record.confirmation import Opening, add_openings, openings
from ckconv_sweep.record.elsewhere import sweep_at
from ckconv_sweep.record.folder import SweepFolder

if TYPE_CHECKING:  # Optuna
    from ckconv_sweep.record.study import Study

FILE = "openings.jsonl"


class OfSweep:
    """Of a trial of a sweep, whose lock is held."""

    def __init__(self, study: Study, trial: int) -> None:
        self.study, self.trial = study, trial

    def known(self) -> list[Opening]:
        """Those that were recorded, oldest first."""
        return openings(self.study.notes())

    def add(self, opening: Opening) -> None:
        add_openings(self.study, opening)


class OfRun:
    """Of a single run, in its folder. A line is written and synced before its number is shown, so
    one that is not whole was shown to nobody, and is passed over."""

    trial: int | None = None

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def known(self) -> list[Opening]:
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text().splitlines():
            with contextlib.suppress(ValueError, TypeError):
                found.append(Opening(**json.loads(line)))
        return found

    def add(self, opening: Opening) -> None:
        """Raises OSError if it cannot be written."""
        before = self._path.read_bytes() if self._path.exists() else b""
        line = "\n" * (before[-1:] not in (b"", b"\n")) + json.dumps(asdict(opening)) + "\n"
        descriptor = opened(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with os.fdopen(descriptor, "ab") as file:
            file.write(line.encode())
            sync(file)


Ledger = OfSweep | OfRun


def sweep_of(checkpoint: Place) -> tuple[SweepFolder, int] | None:
    """The sweep to which a trial's file belongs, and the trial's number; None of others."""
    if not isinstance(checkpoint, Path):
        return None
    folder = checkpoint.resolve().parent
    if folder.parent.name != "trials" or not folder.name.isdecimal():
        return None
    root = folder.parents[1]
    here = SweepFolder(root, root.name)
    sweep = here if here.records.exists() else sweep_at(root)
    return None if sweep is None else (sweep, int(folder.name))


@contextlib.contextmanager
def ledger_of(checkpoint: Place) -> Iterator[Ledger | str]:
    """Where openings by this file are recorded, to be held while it is scored; or why they cannot
    be, in words.

    Raises:
        SweepBusy: a driver runs the sweep.
        DamagedData: its study is no whole one.
    """
    with contextlib.ExitStack() as stack:
        yield _entered(stack, checkpoint)


def _entered(stack: contextlib.ExitStack, checkpoint: Place) -> Ledger | str:
    found = sweep_of(checkpoint)
    if not isinstance(checkpoint, Path):
        return "it lies in an object store"
    if found is None:
        folder = checkpoint.resolve().parent
        if not (folder / "trial.yaml").is_file():
            return "it lies in no sweep's and no run's folder"
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"{folder} cannot be written"
        return OfRun(folder)
    sweep, trial = found
    try:
        stack.enter_context(sweep.records.lock())
        return OfSweep(stack.enter_context(sweep.records.open_for_writing()), trial)
    except SweepBusy as busy:
        busy.hint = (
            "each opening of the test split is recorded in its sweep, which a driver writes to: "
            "wait for it, or stop it there with Ctrl-C"
        )
        raise
    except CannotWrite as error:
        return f"{error.where}: {error.message}"
