"""Archives of datasets (`.tar.gz`, `.zip`) in, a folder of plain files out, and nothing elsewhere.

Python's own `extractall` is not used: its filters were bypassed more than once (CVE-2024-12718,
CVE-2025-4138, CVE-2025-4330, CVE-2025-4517), and it knows no limits. Here each file is written by a
loop of ours, into a new folder that holds nothing but what the loop wrote: regular files only, no
links, no devices, names that stay inside, no two names that are one on another file system, not
more bytes or files than allowed. The first thing that breaks a rule ends it and nothing is left.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import IO

from ckconv_sweep.data.fetch import DATA_VARIABLE, GZIP_MAGIC, digest, locked
from ckconv_sweep.durable import give_name
from ckconv_sweep.errors import CannotWrite, CkconvSweepError, DamagedData, reading

CHUNK_BYTES = 2**13
"""Read at a time, and the longest header of a tar file: Python 3.11 needs time that grows with the
square of a header's length (CVE-2024-6232), and memory for all of it."""
MAX_NAME_BYTES = 255
MAX_DEPTH = 16
ARCHIVE_OVERHEAD_BYTES = 2**20
"""What an archive may have beside its members: the end of a tar file is padded."""
MEMBER_OVERHEAD_BYTES = 2**12
"""The same for each member: its header, perhaps a long name, and the padding."""
ZIP_MAGIC = b"PK\x03\x04"
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

BROKEN = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
    RuntimeError,  # zipfile: encrypted, or a method that it does not know
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the readers of the standard library raise when an archive is broken."""


@dataclass(frozen=True)
class _Member:
    """One file or folder of an archive."""

    name: str
    is_folder: bool
    byte_count: int
    """As the archive says; what is counted in the end is what comes out."""
    open: Callable[[], IO[bytes]]


class _Broken(Exception):
    """What is wrong with an archive. Never leaves this file."""


def unpack(
    archive: Path,
    folder: Path,
    *,
    checksum: str | None,
    max_bytes: int,
    max_files: int,
    inside: str = "",
    wanted: Callable[[str], bool] = lambda name: True,
) -> Path:
    """Unpack an archive into a folder, unless the folder is there.

    The folder appears at once and whole: everything is written beside it, then renamed. Processes
    that are started together share one unpacking.

    Args:
        archive: a `.tar.gz` or `.zip` file; its content tells which.
        folder: where its files go; made here.
        checksum: `sha256:<hex>` or `md5:<hex>` of the archive, checked before it is opened. None
            only where none is known: the reader of the files must then check them.
        max_bytes: of everything in the archive together, unpacked.
        max_files: files and folders in the archive.
        inside: only this folder of the archive is unpacked, without its own name.
        wanted: decides, by a file's name below `inside` (`yes/one.wav`), whether it is unpacked.

    Returns:
        `folder`.

    Raises:
        ConfigError: the archive cannot be read.
        DamagedData: it has another checksum, is broken, breaks a rule, or has no file that is
            wanted.
        CannotWrite: the folder cannot be written.
    """
    if folder.is_dir():
        return folder
    try:
        with locked(folder.parent):
            if not folder.is_dir():  # another process may have made it while this one waited
                part = folder.with_name(f".{folder.name}.part")
                shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
                part.mkdir()
                try:
                    _unpack_aside(archive, part, checksum, max_bytes, max_files, inside, wanted)
                    give_name(part, folder)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise CannotWrite(
            f"{archive.name} must be unpacked into this folder, which failed: {error}",
            where=str(folder),
            hint=f"name another folder with --data-dir or {DATA_VARIABLE}",
        ) from error
    return folder


def _unpack_aside(
    archive: Path,
    root: Path,
    checksum: str | None,
    max_bytes: int,
    max_files: int,
    inside: str,
    wanted: Callable[[str], bool],
) -> None:
    with reading(archive):
        file = archive.open("rb")
    with file:
        try:
            # Of the file that is then unpacked, not of another of its name.
            if checksum is not None and (got := digest(file, checksum)) != checksum:
                raise _Broken(f"expected {checksum}, got {got}")
            file.seek(0)
            written = _write_all(file, root.resolve(), max_bytes, max_files, inside, wanted)
            if not written:
                raise _Broken("it has none of the needed files")
        except _Broken as broken:
            raise _damaged(archive, str(broken)) from broken.__cause__
        except _WriteFailed as failed:
            raise failed.error from failed.error.__cause__
        except BROKEN as error:
            raise _damaged(archive, f"it cannot be unpacked ({error})") from error


def _damaged(archive: Path, what: str) -> CkconvSweepError:
    return DamagedData(
        f"this archive is refused: {what}",
        where=str(archive),
        hint="delete the file and get it again",
    )


class _WriteFailed(Exception):
    """An OSError of the target, told apart from those that a broken archive gives."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _write_all(
    file: BufferedReader,
    root: Path,
    max_bytes: int,
    max_files: int,
    inside: str,
    wanted: Callable[[str], bool],
) -> int:
    """How many files were written."""
    names = _Names(root)
    announced = came_out = written = 0
    for number, member in enumerate(_members(file, max_bytes, max_files), start=1):
        if number > max_files:
            raise _Broken(f"it has more than {max_files} files")
        announced += member.byte_count
        if announced > max_bytes:
            raise _Broken(f"it unpacks to more than {max_bytes} bytes")
        parts = names.checked(member)
        below = [part for part in inside.split("/") if part]
        if member.is_folder or parts[: len(below)] != below:
            continue
        name = "/".join(parts[len(below) :])
        if not name or not wanted(name):
            continue
        with member.open() as content:
            came_out += _write(content, root.joinpath(name), max_bytes - came_out)
        written += 1
    return written


def _write(content: IO[bytes], path: Path, bytes_left: int) -> int:
    """Copy one file; how many bytes it has."""
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.fdopen(os.open(path, flags, 0o666), "wb")
    except OSError as error:
        raise _WriteFailed(error) from error
    with closing(target):
        while chunk := content.read(CHUNK_BYTES):
            count += len(chunk)
            if count > bytes_left:
                raise _Broken("it unpacks to more bytes than it says or may")
            try:
                target.write(chunk)
                target.flush()
            except OSError as error:
                raise _WriteFailed(error) from error
    return count


class _Names:
    """The names of an archive seen so far, to see what clashes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: dict[str, tuple[str, bool]] = {}
        """A path as the most careless file system compares it -> as written, whether a file."""

    def checked(self, member: _Member) -> list[str]:
        """The parts of a member's name, all of them harmless.

        Raises:
            _Broken: the name leads out of the folder, or clashes with another.
        """
        name = member.name
        parts = [part for part in name.split("/") if part not in ("", ".")]
        harmless = (
            name.isprintable()  # no NUL, no line break, no half of a character
            and "\\" not in name
            and not name.startswith("/")
            and ".." not in parts
            and len(parts) <= MAX_DEPTH
            and all(len(part.encode()) <= MAX_NAME_BYTES and ":" not in part for part in parts)
            and (member.is_folder or parts)
        )
        if not harmless or not self.root.joinpath(*parts).resolve().is_relative_to(self.root):
            raise _Broken(f"the name {name[:200]!a} is not allowed")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            is_file = depth == len(parts) and not member.is_folder
            key = unicodedata.normalize("NFKC", path).casefold()
            earlier, was_file = self.seen.get(key, (path, False))
            if earlier != path or was_file or (is_file and key in self.seen):
                raise _Broken(f"two of its names are one: {earlier[:200]!a} and {path[:200]!a}")
            self.seen[key] = path, is_file
        return parts


def _members(file: BufferedReader, max_bytes: int, max_files: int) -> Iterator[_Member]:
    """What is in the archive, each refused where it is neither a regular file nor a folder."""
    limit = max_bytes + max_files * MEMBER_OVERHEAD_BYTES + ARCHIVE_OVERHEAD_BYTES
    if os.fstat(file.fileno()).st_size > limit:
        raise _Broken(f"it is larger than {limit} bytes")
    start = file.read(4)
    file.seek(0)
    if start.startswith(GZIP_MAGIC):
        return _tar_members(file, limit)
    if start == ZIP_MAGIC:
        return _zip_members(file)
    raise _Broken(f"it is neither .tar.gz nor .zip; it begins with {start.hex(' ') or 'nothing'}")


class _TarStream(io.RawIOBase):
    """An unpacked tar file that is read in small pieces only, and not without end."""

    def __init__(self, file: BufferedReader, limit: int) -> None:
        self._unpacked = gzip.GzipFile(fileobj=file, mode="rb")
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= CHUNK_BYTES:
            raise _Broken(f"it has a header of more than {CHUNK_BYTES} bytes")
        if self.tell() > self._limit:
            raise _Broken(f"it unpacks to more than {self._limit} bytes")
        return self._unpacked.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        assert whence == os.SEEK_SET  # tarfile seeks in no other way
        if offset > self._limit:
            raise _Broken(f"it unpacks to more than {self._limit} bytes")
        return self._unpacked.seek(offset)

    def tell(self) -> int:
        return self._unpacked.tell()


def _tar_members(file: BufferedReader, limit: int) -> Iterator[_Member]:
    stream = _TarStream(file, limit)
    with stream, tarfile.TarFile(fileobj=stream, mode="r") as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # or all would be kept
            is_folder = info.type == tarfile.DIRTYPE
            if not is_folder and (
                info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.issparse()
            ):
                raise _Broken(f"{info.name[:200]!a} is no regular file")
            yield _Member(info.name, is_folder, max(info.size, 0), partial(_open_in_tar, tar, info))
        while stream.read(CHUNK_BYTES):  # to the end, where gzip's own checksum is
            pass


def _open_in_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(info)
    assert content is not None  # a regular file
    return content


def _zip_members(file: BufferedReader) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _Broken(f"{info.filename[:200]!a} is no regular file")
            if info.flag_bits & 1 or info.compress_type not in ZIP_METHODS:
                raise _Broken(f"{info.filename[:200]!a} is encrypted or packed in an unusual way")
            yield _Member(
                info.orig_filename, info.is_dir(), info.file_size, partial(archive.open, info)
            )
