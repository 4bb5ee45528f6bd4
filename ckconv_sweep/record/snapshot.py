"""A copy of a SQLite file to look at.

Whoever opens the file itself changes what lies on disk: the last to close it folds the write-ahead
log into it, and a reader writes to the log's index. A look at a sweep must change nothing, and must
be possible where nothing can be written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ckconv_sweep.errors import SweepBusy

_TRIES = 50
_STILL_SECONDS = 0.05
"""Longer than the file system's clock stands still."""
_MEMORY = Path("/dev/shm")
_BESIDE_BYTES = 2**20


@contextlib.contextmanager
def copied(path: Path) -> Iterator[Path]:
    """The file with its log, as it was at one moment, in a folder of its own of the same name.

    Raises:
        SweepBusy: it is written to all the time.
        OSError: it cannot be read, or there is no room for the copy.
    """
    parts = [path, *(path.with_name(path.name + end) for end in ("-wal", "-journal"))]
    place = _place_for(parts)
    with tempfile.TemporaryDirectory(prefix="ckconv-sweep-", dir=place) as name:
        folder = Path(name) / path.parent.name
        folder.mkdir(mode=0o700)
        for _ in range(_TRIES):
            before = _state(parts)
            time.sleep(_STILL_SECONDS)
            if _state(parts) == before:
                for part in before:
                    shutil.copyfile(part, folder / part.name)
                time.sleep(_STILL_SECONDS)
                if _state(parts) == before:
                    break
            for part in folder.iterdir():
                part.unlink()
        else:
            raise SweepBusy("it is written to all the time", where=str(path))
        yield folder / path.name


def _place_for(parts: list[Path]) -> Path:
    """A folder with room for a copy of these files and what SQLite writes as it reads them."""
    needed = 2 * sum(size for size, _ in _state(parts).values()) + _BESIDE_BYTES
    for place in (places := _places()):
        with contextlib.suppress(OSError):
            if os.access(place, os.W_OK | os.X_OK) and shutil.disk_usage(place).free >= needed:
                return place
    names = ", ".join(map(str, places))
    raise OSError(errno.ENOSPC, "no room for a copy of it", names)


def _places() -> list[Path]:
    """The folder of temporary files, and memory: on a full disk there may be no such folder."""
    with contextlib.suppress(FileNotFoundError):
        return [Path(tempfile.gettempdir()), _MEMORY]
    return [_MEMORY]


def _state(parts: list[Path]) -> dict[Path, tuple[int, int]]:
    """Size and time of each part that is there."""
    found = {}
    for part in parts:
        with contextlib.suppress(FileNotFoundError):
            said = part.stat()
            found[part] = said.st_size, said.st_mtime_ns
    return found


def damage(path: Path) -> str | None:
    """What SQLite finds wrong with a copy; None where it is whole."""
    if path.stat().st_size == 0:
        return "it is empty"
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            said = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)
    return None if said == ["ok"] else said[0].splitlines()[-1]
