"""Whether a folder lies on this machine."""

from __future__ import annotations

import os
from pathlib import Path

_NETWORK = {
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
    "wekafs",
}


def is_local(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether the file system that holds `folder` is local; True where the system does not tell
    (it has no /proc)."""
    try:
        lines = mounts.read_bytes().splitlines()
    except OSError:
        return True
    folder, deepest, found = folder.resolve(), -1, ""
    for line in lines:
        _, point, kind, *_ = line.split()
        # Spaces in a mount point are written as octal escapes, other letters as their bytes.
        path = Path(os.fsdecode(point.decode("unicode_escape").encode("latin-1")))
        # Of two at one place the later one lies on top.
        if folder.is_relative_to(path) and len(path.parts) >= deepest:
            deepest, found = len(path.parts), kind.decode()
    return not (found in _NETWORK or found.startswith("fuse."))
