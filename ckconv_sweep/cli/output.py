"""Standard output that may go away: its reader leaves (`| head -1`), its disk becomes full. And the
files that a user requests."""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
from pathlib import Path

from ckconv_sweep.errors import CannotWrite, ConfigError
from ckconv_sweep.record.blobs import FolderBlobs


class Output(io.TextIOWrapper):
    """From the first failure on, everything that is written goes nowhere, because a sweep must
    not end because `head` did. `lost` says why, unless only the reader has gone."""

    lost: str = ""

    @classmethod
    def install(cls) -> Output | None:
        """In the place of `sys.stdout`; None where that is closed or no plain file."""
        old = sys.stdout
        if not isinstance(old, io.TextIOWrapper):
            return None
        sys.stdout = cls(old.buffer, old.encoding, old.errors, line_buffering=old.line_buffering)
        return sys.stdout

    def write(self, text: str, /) -> int:
        """As ever, but never fails for want of a reader or of room."""
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        """As ever, but never fails for want of a reader or of room."""
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if error.errno != errno.EPIPE:
            self.lost = error.strerror or str(error)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def write_out(path: Path, content: str | bytes) -> None:
    """Write a file that a user requested, and the folders that it lies in. A link is followed;
    special files, such as `/dev/stdout`, are written in place.

    Raises:
        CannotWrite: it cannot be written; what was there stays.
    """
    content = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.resolve()
        if target.exists() and not target.is_file():
            target.write_bytes(content)
            return
    except OSError as error:
        raise CannotWrite(f"cannot be written: {error.strerror}", where=str(path)) from error
    FolderBlobs(target.parent).put(target.name, content)


def write_new(path: Path, content: str | bytes, *, force: bool) -> None:
    """Write a file that people edit, or wait for. Another one that is there stays, unless
    `force`.

    Raises:
        ConfigError: there is another one.
        CannotWrite: it cannot be written.
    """
    content = content.encode() if isinstance(content, str) else content
    if not force and _holds_another(path, content):
        raise ConfigError(
            "the file is there and holds something else",
            where=str(path),
            hint="take another name, or write over it: --force",
        )
    write_out(path, content)


def check_new(path: Path, *, force: bool) -> None:
    """That `write_new` will do, asked before work that must not be lost; whatever is there counts
    as another file.

    Raises:
        ConfigError: a file is there, and not `force`.
        CannotWrite: none can be written there.
    """
    if path.is_file() and not force:
        raise ConfigError(
            "the file is there already",
            where=str(path),
            hint="take another name, or write over it: --force",
        )
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.is_file():
            with tempfile.TemporaryFile(dir=path.resolve().parent):
                pass
    except OSError as error:
        raise CannotWrite(f"cannot be written: {error.strerror}", where=str(path)) from error


def _holds_another(path: Path, content: bytes) -> bool:
    try:
        return path.is_file() and path.read_bytes() != content
    except OSError:  # nobody knows what it holds
        return True
