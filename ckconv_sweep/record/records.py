"""The records of a sweep: its study, in one file that nobody else asks for, and its lock."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ckconv_sweep.errors import CannotWrite, CkconvSweepError, DamagedData
from ckconv_sweep.record import lock

if TYPE_CHECKING:
    from ckconv_sweep.config.space import Space
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.study import Study

log = logging.getLogger(__name__)

STUDY = "study.db"
"""The name of the study's file, in every sweep's folder."""
RESCUED = "study-rescued-*.db"
"""The names of the copies that were made of a study whose file was taken away."""


class Records:
    """One sweep's records.

    Whoever only asks whether there are some, or who holds their lock, does not load Optuna.
    """

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self.path = folder.root / STUDY
        self._lock = folder.root / "lock"

    def exists(self) -> bool:
        """Whether the sweep was begun."""
        return self.path.exists()

    def check_not_lost(self) -> None:
        """Raises DamagedData if there are trials, and no study that knows of them."""
        if not self.exists() and self._folder.has_trials():
            raise DamagedData(
                "the study is missing, and there are trials: nothing is started over",
                where=str(self.path),
                hint=f"what is left, and what to do: {self._folder.command('doctor')}",
            )

    @contextlib.contextmanager
    def create(self, space: Space, before: Study | None = None) -> Iterator[Study]:
        """For the driver, who holds the lock: the study, made if there is none yet. `before`: as it
        was opened under the same lock.

        Raises:
            DamagedData: the file is there, and is no whole study.
            CannotWrite, SweepBusy: it cannot be written, or was taken away or replaced while it
                was open; another program keeps it locked. Also later, from any use of the study,
                and at the end.
        """
        from ckconv_sweep.record import database
        from ckconv_sweep.record.study import make

        if not self.exists():
            self.check_not_lost()
            make(self.path, space)
        database.check_size(self.path)
        database.set_journal_mode(self.path)
        with self._opened(self.path, before) as study:
            count = database.count_of(self.path)
            yield study
            study.check_file()
        epochs, ended = database.count_of(self.path)
        written = study.written
        if epochs < count[0] + written["epochs"] or ended < count[1] + written["ends"]:
            raise CannotWrite(
                f"the study holds {epochs} epochs and {ended} ended trials, and this session had "
                f"recorded {count[0] + written['epochs']} and {count[1] + written['ends']}: "
                "another program has written to the file",
                where=str(self.path),
                hint="checkpoints and weights of the trials are untouched: "
                + self._folder.command("doctor"),
            )

    @contextlib.contextmanager
    def open(self) -> Iterator[Study]:
        """The study, for readers; also while a driver writes, and where nothing can be written,
        because the disk is full or read-only. Raises as `create`."""
        from ckconv_sweep.record import snapshot

        with contextlib.ExitStack() as stack:
            try:
                study = stack.enter_context(self.open_for_writing())
            except CannotWrite as refused:  # SQLite writes beside a study that it only reads
                try:
                    copy = stack.enter_context(snapshot.copied(self.path))
                except OSError as error:
                    refused.hint = f"{error.strerror}: {error.filename}"
                    raise refused from error
                stack.enter_context(_named(copy, self.path))
                study = stack.enter_context(self._opened(copy))
            yield study

    def open_for_writing(self) -> contextlib.AbstractContextManager[Study]:
        """The study that is there, for whoever holds its lock. Raises as `create`."""
        return self._opened(self.path)

    @contextlib.contextmanager
    def _opened(self, path: Path, before: Study | None = None) -> Iterator[Study]:
        from ckconv_sweep.record import database
        from ckconv_sweep.record.study import Study

        log.debug("opening %s", path)
        with database.storage_at(path) as storage:
            yield database.read(path, lambda: Study(self._folder, storage, before))

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the sweep's lock, for whoever writes. Raises SweepBusy, CannotWrite."""
        return lock.held(self._lock)

    def holder(self) -> str | None:
        """Who holds the lock, in words; None when nobody does."""
        return lock.holder(self._lock)

    def held_since(self) -> float | None:
        """When the lock was last taken or released, in seconds since 1970; None if it is gone."""
        with contextlib.suppress(OSError):
            return self._lock.stat().st_mtime
        return None

    def holder_here(self) -> int | None:
        """The process of this machine that holds it; None when there is none."""
        return lock.holder_here(self._lock)

    def holder_was_killed(self) -> bool:
        """Whether the last holder of a free lock died before it could release it."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return bool(self._lock.read_text().strip())
        return False


@contextlib.contextmanager
def _named(copy: Path, path: Path) -> Iterator[None]:
    """Errors of a copy name the file itself, and its sweep."""
    try:
        yield
    except CkconvSweepError as error:
        if error.where == str(copy):
            error.where = str(path)
        if error.hint:
            error.hint = error.hint.replace(str(copy.parents[1]), str(path.parents[1]))
        raise
