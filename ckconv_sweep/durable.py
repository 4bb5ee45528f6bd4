"""Files that survive a power cut: synced before they get their name, their folder after.

They are their owner's alone; in a shared folder its group can read them, whatever the umask.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_FOLDER, _FILE = 0o750, 0o640


def is_shared(folder: Path) -> bool:
    """Whether the group of a folder can read what lies in it, and new files get that group."""
    bits = stat.S_ISGID | stat.S_IRWXG
    return stat.S_IMODE(folder.stat().st_mode) & bits == stat.S_ISGID | 0o050


def share(folder: Path) -> None:
    """Let the group of a folder read it and all below it, also what will be written there.

    Raises:
        OSError: another user owns it, or we are not in its group.
    """
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(stat.S_ISGID | _FOLDER if path.is_dir() else _FILE)
    if not is_shared(folder):  # the system takes the sign away without a word
        raise PermissionError(f"you are not in its group: {folder.group()}")


def opened(path: Path, flags: int) -> int:
    """`os.open` of a file of ours; in a shared folder its group can read it."""
    descriptor = os.open(path, flags, 0o600)
    if flags & os.O_CREAT and is_shared(path.parent):
        with contextlib.suppress(PermissionError):  # it was there, and is somebody else's
            os.fchmod(descriptor, _FILE)
    return descriptor


def make_folder(folder: Path) -> None:
    """Make a folder of ours, and what is missing above it, with such modes."""
    if folder.is_dir():
        return
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if is_shared(folder.parent):
        folder.chmod(stat.S_ISGID | _FOLDER)


@contextlib.contextmanager
def as_readable_as(folder: Path) -> Iterator[None]:
    """Files that others write for us, as MLflow does, get such modes too."""
    if not is_shared(folder):
        yield
        return
    before = os.umask(0o777 & ~_FOLDER)
    try:
        yield
    finally:
        os.umask(before)


def sync(file: IO[bytes]) -> None:
    """After it the content of an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def give_name(new: Path, path: Path) -> None:
    """Rename a whole file or folder to `path`, in the place of what is there. After it the name is
    on the disk, too."""
    new.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder, there whole or not at all: yields where to write it. What writers of the same
    folder left that were killed is taken away. Raises OSError."""
    hidden = f".{folder.name}-"
    for left in folder.parent.glob(f"{glob.escape(hidden)}{'[0-9a-f]' * 32}"):
        with _written_to(left) as is_free:
            if is_free:
                shutil.rmtree(left, ignore_errors=True)
    new = folder.with_name(hidden + uuid.uuid4().hex)
    make_folder(new)
    try:
        with _written_to(new):
            yield new
            give_name(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextlib.contextmanager
def _written_to(folder: Path) -> Iterator[bool]:
    """Hold a folder that is written; the kernel's lock ends with its writer. Yields whether it is
    ours: not where somebody else writes it, and not where there are no locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
