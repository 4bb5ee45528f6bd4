"""Files that survive a power cut: synced before they get their name, their folder after."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO


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
