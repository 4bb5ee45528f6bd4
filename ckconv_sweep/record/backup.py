"""Copies of the study beside the trials' files, from which a sweep continues where its driver's
machine is lost.

A copy is made by SQLite's own backup, so it is the study as it was between two transactions. Its
name promises its content, and it is there whole or not at all. One is made after each trial's end,
and after an epoch where the last one is a minute old, by a thread: what ends while one is sent, or
soon after, waits for the next. The two newest are kept.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ckconv_sweep.errors import (
    CannotWrite,
    CkconvSweepError,
    ConfigError,
    DamagedData,
    SweepBusy,
)
from ckconv_sweep.record.blobs import Place, blobs_at, digest
from ckconv_sweep.record.elsewhere import Claim
from ckconv_sweep.record.events import Ended, Event, Listener
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.records import STUDY
from ckconv_sweep.record.snapshot import damage

PATTERN = "snapshot-*.db"
EVERY_SECONDS = 60.0
"""How old a snapshot may be while epochs are recorded."""
_AGAIN_SECONDS = 10.0
"""After which a snapshot that could not be written is tried again."""
_REST = 4.0
"""How many times as long as the last snapshot took none is made: those of a large study would else
be sent all the time."""
KEPT = 2


class Backup(Listener):
    """Keeps the snapshots of a sweep while a driver runs it.

    Args:
        claim: this driver's; each snapshot is made only as long as it is.
        stop: called with SweepBusy where it is another driver's.
        say: hears, once, that none can be written, and why.
    """

    def __init__(
        self,
        folder: SweepFolder,
        claim: Claim,
        *,
        stop: Callable[[Exception], None],
        say: Callable[[str], None],
    ) -> None:
        self._path, self._place = folder.records.path, folder.files
        self._claim, self._stop, self._say = claim, stop, say
        self._wanted, self._closed = threading.Event(), threading.Event()
        self._complained = False
        self._made_at = 0.0
        self._thread = threading.Thread(target=self._work, name="backup", daemon=True)

    def start(self) -> None:
        """The first snapshot is made at once: a driver that is lost before the next one has a
        number of its own. Raises CannotWrite, SweepBusy."""
        self._make()
        self._thread.start()

    def hear(self, event: Event) -> None:
        if isinstance(event, Ended) or time.monotonic() >= self._made_at + EVERY_SECONDS:
            self._wanted.set()

    def close(self) -> None:
        """Make the last one. Raises CannotWrite, SweepBusy."""
        self._closed.set()
        self._wanted.set()
        self._thread.join()
        self._make()

    def _work(self) -> None:
        while self._wanted.wait() and not self._closed.is_set():
            self._wanted.clear()
            try:
                self._make()
                self._closed.wait(_REST * (time.monotonic() - self._made_at))
            except SweepBusy as error:
                self._stop(error)
                return
            except (CkconvSweepError, OSError, sqlite3.Error) as error:
                if not self._complained:
                    self._complained = True
                    self._say(f"no snapshot of the study can be written: {error}")
                self._wanted.set()
                self._closed.wait(_AGAIN_SECONDS)

    def _make(self) -> None:
        self._claim.check()
        self._made_at = time.monotonic()
        put_snapshot(self._path, self._place)
        self._complained = False


def put_snapshot(study: Path, place: Place) -> None:
    """Put a copy of a study, and forget all but the newest. Raises CannotWrite."""
    content, blobs = _content(study), blobs_at(place)
    blobs.put(f"snapshot-{time.time_ns() // 1_000_000:013d}-{digest(content)}.db", content)
    blobs.delete(*blobs.list(PATTERN)[:-KEPT])


def _content(study: Path) -> bytes:
    with (
        contextlib.closing(sqlite3.connect(study, timeout=60.0)) as source,
        contextlib.closing(sqlite3.connect(":memory:")) as copy,
    ):
        source.backup(copy)
        return copy.serialize()


def restore(place: Place, folder: SweepFolder) -> None:
    """Make the folder of a sweep from its newest snapshot that is whole.

    Raises:
        ConfigError: there is no snapshot, or the sweep is here already.
        DamagedData: no snapshot is whole.
        CannotWrite: the folder cannot be written.
    """
    if folder.records.exists():
        raise ConfigError(
            f"a sweep of this name is here already: {folder.root}",
            where="--from",
            hint=f"to continue that: {folder.command('resume')}\n  to continue the snapshot take "
            "another --sweeps-dir",
        )
    content = _newest(place)
    folder.make()
    folder.keep_files_at(place)
    folder.blobs.put(STUDY, content)


def _newest(place: Place) -> bytes:
    blobs, why = blobs_at(place), ""
    for name in reversed(blobs.list(PATTERN)):
        try:
            content = blobs.get(name)
            if not (wrong := _damage(content)):
                return content
            why = why or f"{name}: {wrong}"
        except DamagedData as error:
            why = why or f"{name}: {error.message}"
    if why:
        raise DamagedData(f"no snapshot is whole: {why}", where=str(place))
    raise ConfigError(
        "no snapshot of a sweep is here",
        where=f"--from {place}",
        hint="name what --blobs and the sweep's name make together, as in s3://bucket/prefix/NAME",
    )


def _damage(content: bytes) -> str | None:
    with tempfile.TemporaryDirectory(prefix="ckconv-sweep-") as name:
        path = Path(name) / STUDY
        try:
            path.write_bytes(content)
        except OSError as error:
            raise CannotWrite(f"cannot be written: {error.strerror}", where=name) from error
        return damage(path)
