"""A study's file while it is open: is it still there, and still the same?"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from optuna.storages import RDBStorage

from ckconv_sweep.durable import give_name, opened
from ckconv_sweep.errors import CannotWrite
from ckconv_sweep.record.database import doctor_of
from ckconv_sweep.record.records import RESCUED


class Watched:
    """A database that is open, and whose file somebody may take away or replace meanwhile: SQLite
    goes on in the file that it has opened, which then bears no name any more.

    Args:
        path: the file.
        storage: has it open.
    """

    def __init__(self, path: Path, storage: RDBStorage) -> None:
        self._path, self._storage = path, storage
        self._inode, self._size = _inode_and_size(path) or (0, 0)
        self._lost: CannotWrite | None = None
        self._log: tuple[int, ...] = ()
        """Inodes of the write-ahead log and its index, once there was one."""

    def is_same(self, other: Watched) -> bool:
        """Whether both were opened as the same file."""
        return self._inode == other._inode

    def check(self) -> None:
        """Raises CannotWrite if it is not the same file any more; once it was not, always."""
        try:
            if self._lost is None:
                self._check()
        except CannotWrite as error:
            self._lost = error
        if self._lost is not None:
            raise self._lost

    def _check(self) -> None:
        state = _inode_and_size(self._path)
        if state is not None and state[0] == self._inode and state[1] >= self._size:
            self._size = state[1]
            self._log = self._log or self._log_inodes()
            return
        if not self._path.parent.exists():
            raise CannotWrite(
                "the sweep's folder was moved or removed while the sweep was running",
                where=str(self._path.parent),
                hint="nothing more is recorded. Put the folder back in its place and resume",
            )
        what = "removed or renamed" if state is None else "replaced by another file"
        kept = self._rescue()
        kept_hint = (
            f"all that had been recorded until then is in {kept.name} beside it: to continue "
            f"with that, stop all readers and rename it to {self._path.name}"
            if kept
            else "what had been recorded until then could not be copied"
        )
        raise CannotWrite(
            f"the study was {what} while the sweep was running; nothing more is recorded",
            where=str(self._path),
            hint=f"{kept_hint}; checkpoints and weights of the trials are untouched. "
            f"What is left of what: {doctor_of(self._path)}",
        )

    def _log_paths(self) -> list[Path]:
        return [self._path.with_name(self._path.name + end) for end in ("-wal", "-shm")]

    def _log_inodes(self) -> tuple[int, ...]:
        return tuple(found[0] for path in self._log_paths() if (found := _inode_and_size(path)))

    def _rescue(self) -> Path | None:
        """A copy of what SQLite still has open, where that can be read. The log that belonged to it
        is taken away then: SQLite would replay it into whatever file is put in its place."""
        new = self._path.with_name(f".tmp-rescued-{os.getpid()}.db")
        kept = self._path.with_name(RESCUED.replace("*", str(time.time_ns() // 1_000_000)))
        try:
            os.close(opened(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            connection = self._storage.engine.raw_connection()
            try:
                connection.cursor().execute("VACUUM INTO ?", (str(new),))
            finally:
                connection.close()
            give_name(new, kept)
            if self._log and self._log_inodes() == self._log:
                for path in self._log_paths():
                    path.unlink(missing_ok=True)
        except (OSError, sqlite3.Error):
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            return None
        return kept


def _inode_and_size(path: Path) -> tuple[int, int] | None:
    try:
        said = path.stat()
    except FileNotFoundError:
        return None
    return said.st_ino, said.st_size
