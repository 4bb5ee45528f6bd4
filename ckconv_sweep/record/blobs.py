"""What a sweep keeps beside its study: checkpoints, weights, leases, its space for a person.

A file is written under another name, synced, renamed, and its folder synced; only then is it there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.durable import give_name, opened, sync
from ckconv_sweep.errors import CannotWrite, DamagedData

UNFINISHED = ".tmp-*"
"""The names of files whose writer was killed."""
_WITH_DIGEST = re.compile(r".+-(?P<digest>[0-9a-f]{16})\.\w+")


def digest(content: bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a content."""
    return hashlib.sha256(content).hexdigest()[:16]


def digest_of_files(files: Mapping[str, bytes]) -> str:
    """32 hexadecimal digits that change with any file, its name or content."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\0".encode())
    return whole.hexdigest()[:32]


class Blobs:
    """The files of one folder, each there whole or as it was before.

    A name that ends in a digest, as in `best-0123456789abcdef.pt`, promises the content.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, content: str | bytes) -> Path:
        """Write a file in the place of an older one.

        Raises:
            CannotWrite: the disk is full or the folder cannot be written; what was there stays.
        """
        content = content.encode() if isinstance(content, str) else content
        path = self.folder / name
        temporary = self.folder / f".tmp-{uuid.uuid4().hex}"
        try:
            descriptor = opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                crash_point("blob.written")
                sync(file)
            crash_point("blob.synced")
            give_name(temporary, path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if not isinstance(error, OSError):
                raise
            raise CannotWrite(
                f"cannot be written: {error.strerror} ({len(content):,} bytes)", where=str(path)
            ) from error
        crash_point("blob.kept")
        return path

    def get(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            DamagedData: it is not the content that the name promises.
            OSError: there is no such file, or it cannot be read.
        """
        content = (self.folder / name).read_bytes()
        promised = _WITH_DIGEST.fullmatch(name)
        if promised and promised["digest"] != digest(content):
            raise DamagedData(
                f"damaged: its SHA-256 begins with {digest(content)}, its name says "
                f"{promised['digest']}",
                where=str(self.folder / name),
            )
        return content

    def list(self, pattern: str) -> Sequence[str]:
        """The names that match, in their order as text."""
        return sorted(path.name for path in self.folder.glob(pattern))

    def delete(self, *names: str) -> None:
        """Delete the files of these names; one that is not there is no error."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
