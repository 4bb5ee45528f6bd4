"""What a sweep keeps beside its study: checkpoints, weights, leases, its space for a person.

They lie in a folder or in an object store (`record.objects`), and have one face: `Blobs`. A file is
written under another name, synced, renamed, and its folder synced; only then is it there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.durable import give_name, make_folder, opened, sync
from ckconv_sweep.errors import CannotWrite, DamagedData
from ckconv_sweep.record.remote import Remote

Place = Path | Remote
"""A folder, or a prefix of an object store; or what lies there."""

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


class Blobs(Protocol):
    """The files of one place, each there whole or as it was before.

    A name that ends in a digest, as in `best-0123456789abcdef.pt`, promises the content.
    """

    def make(self) -> None:
        """Make the place, if it needs that. Raises CannotWrite."""

    def put(self, name: str, content: str | bytes) -> None:
        """Write a file in the place of an older one.

        Raises:
            CannotWrite: there is no room, or no permission; what was there stays.
        """

    def get(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            DamagedData: it is not the content that the name promises.
            OSError: there is no such file (FileNotFoundError), or it cannot be read.
        """

    def list(self, pattern: str) -> Sequence[str]:
        """The names that match, in their order as text."""

    def sizes(self) -> Mapping[str, int]:
        """The bytes of each file here and below, by its path from here, as `0004/lease`."""

    def delete(self, *names: str) -> None:
        """Delete the files of these names, or paths from here; one that is not there is no
        error."""


def blobs_at(place: Place) -> Blobs:
    """The files of a place."""
    if isinstance(place, Path):
        return FolderBlobs(place)
    from ckconv_sweep.record.objects import ObjectBlobs

    return ObjectBlobs(place)


def place_of(text: str) -> Place:
    """The place that a text names, as `str` writes it."""
    return Remote.of(text) if "://" in text else Path(text)


def checked(content: bytes, place: Place) -> bytes:
    """The content of a file. Raises DamagedData if it is not the one that the name promises."""
    promised = _WITH_DIGEST.fullmatch(place.name)
    if promised and promised["digest"] != digest(content):
        raise DamagedData(
            f"damaged: its SHA-256 begins with {digest(content)}, its name says "
            f"{promised['digest']}",
            where=str(place),
        )
    return content


class FolderBlobs:
    """`Blobs` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        try:
            make_folder(self.folder)
        except OSError as error:
            raise CannotWrite(
                f"cannot be written: {error.strerror}", where=str(self.folder)
            ) from error

    def put(self, name: str, content: str | bytes) -> None:
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

    def get(self, name: str) -> bytes:
        return checked((self.folder / name).read_bytes(), self.folder / name)

    def list(self, pattern: str) -> Sequence[str]:
        return sorted(path.name for path in self.folder.glob(pattern))

    def sizes(self) -> Mapping[str, int]:
        found = {}
        for path in sorted(self.folder.rglob("*")):
            with contextlib.suppress(FileNotFoundError):  # a driver has just forgotten it
                if path.is_file():
                    found[str(path.relative_to(self.folder))] = path.stat().st_size
        return found

    def delete(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
