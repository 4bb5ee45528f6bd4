"""One driver a sweep.

The lock is the kernel's (flock): it ends with the process that holds it, however that dies, so
there is no dead holder to recognise. What the file says is only for people.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ckconv_sweep import durable
from ckconv_sweep.errors import CannotWrite, SweepBusy


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a sweep's lock.

    Raises:
        SweepBusy: another process holds it; says which.
        CannotWrite: the file cannot be made, or its file system has no locks.
    """
    descriptor = _opened(path)
    try:
        taken = _taken(descriptor, path)
        while taken and not _is_at(descriptor, path):  # its holder took it away as it ended
            os.close(descriptor)
            descriptor = _opened(path)
            taken = _taken(descriptor, path)
        if not taken:
            raise SweepBusy(
                f"{holder(path) or 'another process'} runs this sweep",
                where=path.parent.name,
                hint="wait for it, or stop it there with Ctrl-C",
            )
        _check_excludes(path)
        os.ftruncate(descriptor, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        with contextlib.suppress(OSError):  # the disk is full: the lock is held all the same
            os.write(descriptor, text.encode())
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    try:
        return durable.opened(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise CannotWrite(f"cannot be made: {error.strerror}", where=str(path)) from None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still bears this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _taken(descriptor: int, path: Path) -> bool:
    """Whether we hold the lock now. Somebody who only asks for its holder has it for a moment."""
    for _ in range(20):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError as error:
            raise _no_locks(path, f"cannot be locked: {error.strerror}") from None
        else:
            return True
    return False


def _check_excludes(path: Path) -> None:
    """A network file system may grant a lock to everybody who asks."""
    second = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        os.close(second)
    raise _no_locks(path, "is locked, and could be locked once more")


def _no_locks(path: Path, what: str) -> CannotWrite:
    return CannotWrite(
        what,
        where=str(path),
        hint="two drivers could ruin a sweep here: put it on a file system whose locks work "
        "(--sweeps-dir), or mount this one with them",
    )


def holder(path: Path) -> str | None:
    """Who holds a lock, in words; None when nobody does. For whoever may only read, too."""
    if (said := _holder(path)) is None:
        return None
    try:
        return f"process {said['pid']} on {said['host']} (since {said['since']})"
    except KeyError:
        return "another process"


def holder_here(path: Path) -> int | None:
    """The process of this machine that holds a lock; None when there is none."""
    said = _holder(path) or {}
    return said.get("pid") if said.get("host") == socket.gethostname() else None


def _holder(path: Path) -> dict[str, Any] | None:
    """What the holder of a lock wrote into it; None when nobody holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            return dict(json.loads(path.read_text()))
        except (ValueError, TypeError):  # the holder has not written it yet
            return {}
    except OSError:  # no locks here, so nobody can hold one
        return None
    finally:
        os.close(descriptor)
    return None
