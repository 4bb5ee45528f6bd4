"""Whether a folder lies on this machine, and whether it can be written to and locked."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from ckconv_sweep.durable import give_name
from ckconv_sweep.errors import CannotWrite

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


def check_writable(folder: Path, *, option: str = "--sweeps-dir") -> None:
    """Do with a small file all that a sweep does with its own, and leave nothing.

    Raises:
        CannotWrite: something of it is impossible here; says what.
    """
    probe, renamed = (folder / f".tmp-probe-{os.getpid()}{end}" for end in ("", "-renamed"))
    step = "written"
    try:
        descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, b"probe")
            step = "synced"
            os.fsync(descriptor)
            step = "locked"
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as SQLite does
        finally:
            os.close(descriptor)
        step = "renamed"
        give_name(probe, renamed)
    except OSError as error:
        raise CannotWrite(
            f"a file here cannot be {step}: {error.strerror}",
            where=str(folder),
            hint=f"nothing was started; they can lie elsewhere: {option}",
        ) from error
    finally:
        for path in (probe, renamed):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
