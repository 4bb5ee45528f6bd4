"""Files of a dataset: found in a folder or downloaded into it, and never used unchecked.

A single file is known by the SHA-256 of its unpacked content, as gzip archives of the same content
differ from one source to the next. It may lie in the folder as `<name>` or as `<name>.gz`.

An archive of many files (`find_or_download_archive`) is known by the checksum of itself, as it was
published. It is opened by `archives.unpack` only.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import ipaddress
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import platformdirs

from ckconv_sweep.config.names import expanded
from ckconv_sweep.durable import give_name, sync
from ckconv_sweep.errors import CannotWrite, CkconvSweepError, ConfigError, DamagedData, reading

if TYPE_CHECKING:
    from requests import Response

log = logging.getLogger(__name__)

DATA_VARIABLE = "CKCONV_DATA"
MAX_BYTES = 64 * 2**20
"""No single file of ours is larger, packed or unpacked: a mirror or an archive cannot fill the
memory."""
ROUNDS = 3
"""How often every mirror is tried."""
WAIT_SECONDS = 1.0
"""Before the second round; twice as long before the third."""
CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
CHUNK_BYTES = 2**16
TRY_LATER = (408, 429)  # request timeout, too many requests: the mirror has the file
GZIP_MAGIC = b"\x1f\x8b"


def data_folder(data_dir: Path | None) -> Path:
    """The folder that holds the datasets: the option, else CKCONV_DATA, else the user's cache."""
    if data_dir is not None:
        folder = data_dir
    elif from_environment := os.environ.get(DATA_VARIABLE):
        folder = Path(from_environment)
    else:
        folder = platformdirs.user_cache_path("ckconv-sweep") / "data"
    return expanded(folder).absolute()


def find_or_download(
    folder: Path, sha256: Mapping[str, str], mirrors: Sequence[str]
) -> dict[str, Path]:
    """Where each file lies; what is missing is downloaded into the folder first.

    Args:
        folder: where to look, and where downloads go. Not written to when nothing is missing.
        sha256: for each file its name, without `.gz`, and the SHA-256 of its unpacked content.
        mirrors: addresses of folders that hold `<name>.gz`, each with a slash at its end.

    Returns:
        The path of each name. A file that was found is not yet checked: `read_content` does that.

    Raises:
        ConfigError: a file is missing and no mirror could be reached.
        DamagedData: a mirror sent something else.
        CannotWrite: the folder cannot be written.
    """
    paths = {name: _find(folder, name) for name in sha256}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        try:
            with locked(folder):
                for name in missing:
                    # Another process may have brought it while this one waited for the lock.
                    paths[name] = _find(folder, name) or _download(
                        folder / f"{name}.gz",
                        mirrors,
                        MAX_BYTES,
                        partial(read_content, sha256=sha256[name]),
                    )
        except OSError as error:
            raise _cannot_write(folder, ", ".join(missing), error) from error
    return {name: path for name, path in paths.items() if path is not None}


def find_or_download_archive(
    folder: Path, name: str, mirrors: Sequence[str], *, checksum: str | None, max_bytes: int
) -> Path:
    """Where an archive lies; it is downloaded into the folder first where it is missing.

    Args:
        folder: where to look, and where the download goes.
        name: of the archive, with its ending.
        mirrors: addresses of folders that hold `<name>`, each with a slash at its end.
        checksum: `sha256:<hex>` or, where only that is published, `md5:<hex>`, of the archive. None
            where none is known: then only https vouches for a download, and the reader of the files
            must check them.
        max_bytes: the archive is not larger.

    Returns:
        Its path. An archive that was found is not yet checked: `archives.unpack` does that.

    Raises:
        ConfigError: it is missing and no mirror could be reached.
        DamagedData: a mirror sent something else.
        CannotWrite: the folder cannot be written.
    """
    path = folder / name
    if not os.path.isfile(path):
        try:
            with locked(folder):
                if not path.is_file():
                    _download(path, mirrors, max_bytes, partial(_check, checksum=checksum))
        except OSError as error:
            raise _cannot_write(folder, name, error) from error
    return path


def digest(file: BufferedReader, checksum: str) -> str:
    """The checksum of an open file's content, by the algorithm of another: `<algorithm>:<hex>`."""
    algorithm = checksum.partition(":")[0]
    return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def _check(path: Path, checksum: str | None) -> None:
    if checksum is not None:
        with path.open("rb") as file:
            got = digest(file, checksum)
        if got != checksum:
            raise DamagedData(f"expected {checksum}, got {got}", where=str(path))


def _cannot_write(folder: Path, names: str, error: OSError) -> CannotWrite:
    return CannotWrite(
        f"{names} must be downloaded into this folder, which failed: {error}",
        where=str(folder),
        hint=f"name another folder with --data-dir or {DATA_VARIABLE}",
    )


def read_content(path: Path, sha256: str) -> bytes:
    """The content of a file, unpacked where it is packed, and checked against its SHA-256.

    Raises:
        DamagedData: the content is not the expected one.
        ConfigError: the file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    got = None
    if content.startswith(GZIP_MAGIC):  # by content: browsers unpack a file and keep its name
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as archive:
                content = archive.read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            got = f"an archive that cannot be unpacked ({error})"
    if got is None and len(content) > MAX_BYTES:
        got = f"more than {MAX_BYTES} bytes"
    if got is None:
        got = hashlib.sha256(content).hexdigest()
    if got != sha256:
        raise DamagedData(
            f"expected content with SHA-256 {sha256}, got {got}",
            where=str(path),
            hint="delete the file and run again: it is then downloaded again",
        )
    return content


def _find(folder: Path, name: str) -> Path | None:
    """The unpacked file, as it is read faster, else the packed one."""
    candidates = (folder / name, folder / f"{name}.gz")
    # os.path: where Path.is_file raises, in a folder that may not be searched, this says no.
    return next((path for path in candidates if os.path.isfile(path)), None)


_OFFLINE: ContextVar[bool] = ContextVar("offline", default=False)


@contextmanager
def offline() -> Iterator[None]:
    """For those who only look: what is missing is refused, not downloaded or unpacked."""
    token = _OFFLINE.set(True)
    try:
        yield
    finally:
        _OFFLINE.reset(token)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that processes started together share one download.

    The lock file stays: if it were removed, one process could lock the old file, another a new one.
    """
    if _OFFLINE.get():
        raise ConfigError("data are missing in this folder", where=str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(folder / ".lock", flags, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that downloads or unpacks into %s", folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # and the lock with it; a killed process releases it likewise


def _download(
    path: Path, mirrors: Sequence[str], max_bytes: int, check: Callable[[Path], object]
) -> Path:
    """Bring one file from the first mirror that has it, whole and right.

    Args:
        path: where it goes; its name is that at the mirrors.
        mirrors: tried in this order.
        max_bytes: no more is written.
        check: raises `DamagedData` when the file that it is given is not the right one.
    """
    part = path.with_name(f"{path.name}.part")
    urls = [urljoin(mirror, path.name) for mirror in mirrors]
    for url in urls:
        if not _is_safe(url):
            raise ConfigError("a download must go over https", where=url)
    failures: dict[str, CkconvSweepError] = {}
    try:
        for round_ in range(ROUNDS):
            still_open = [
                url for url in urls if not isinstance(failures.get(url), _FinalDownloadError)
            ]
            if round_ and still_open:
                time.sleep(WAIT_SECONDS * round_)
            for url in still_open:
                try:
                    _download_once(url, part, max_bytes)
                    check(part)
                except (_DownloadError, DamagedData) as failure:
                    log.info("%s: %s", url, failure.message)
                    failures[url] = failure
                else:
                    give_name(part, path)
                    return path
    finally:
        part.unlink(missing_ok=True)
    raise _no_mirror_helped(path, failures)


def _no_mirror_helped(path: Path, failures: Mapping[str, CkconvSweepError]) -> CkconvSweepError:
    tried = "; ".join(f"{url}: {failure.message}" for url, failure in failures.items())
    # Something that answers with other content is worth more attention than a network that is down.
    damaged = any(isinstance(failure, DamagedData) for failure in failures.values())
    kind = DamagedData if damaged else ConfigError
    return kind(
        f"this file is missing and could not be downloaded; tried {tried}",
        where=str(path),
        hint=f"put it there yourself, or name the folder above {path.parent.name}/ that "
        f"has it with --data-dir or {DATA_VARIABLE}",
    )


class _DownloadError(CkconvSweepError):
    """One try of one mirror failed. Never leaves this file."""


class _FinalDownloadError(_DownloadError):
    """The mirror does not have the file, or must not be followed."""


class _LimitedFile(io.BufferedWriter):
    """A file that refuses to grow beyond a size, whatever size the server promised."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__(io.FileIO(path, "x"))
        self.max_bytes = max_bytes

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.max_bytes:
            raise _FinalDownloadError(f"sent more than {self.max_bytes} bytes")
        return super().write(data)


def _download_once(url: str, part: Path, max_bytes: int) -> None:
    """Write what the address sends to the file `part`, from its start."""
    import pooch
    from requests import HTTPError, RequestException
    from tqdm import tqdm

    answers: list[Response] = []  # pooch leaves the connection of a failed download open

    def look_at(answer: Response, **_: Any) -> None:
        answers.append(answer)
        _refuse_unsafe_redirect(answer)

    part.unlink(missing_ok=True)  # left by a process that was killed
    # disable=None: no bar where the error output is no terminal, in a log for instance. total=1: a
    # bar without a total has no truth value, which pooch asks for before it sets the real one.
    bar = tqdm(desc=part.stem, total=1, unit="B", unit_scale=True, leave=False, disable=None)
    get = pooch.HTTPDownloader(
        progressbar=bar,
        chunk_size=CHUNK_BYTES,
        timeout=(CONNECT_SECONDS, READ_SECONDS),
        headers={"Accept-Encoding": "identity"},  # the archive as it is, not unpacked on the way
        hooks={"response": look_at},
    )
    try:
        with _LimitedFile(part, max_bytes) as file:
            get(url, file, None)
            sync(file)
    except HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        lasting = 400 <= status < 500 and status not in TRY_LATER
        kind = _FinalDownloadError if lasting else _DownloadError
        raise kind(f"answered with status {status}") from error
    except RequestException as error:  # before OSError, which it is a kind of: not the disk's fault
        raise _DownloadError(f"{type(error).__name__}: {error}") from error
    finally:
        bar.close()
        for answer in answers:
            answer.close()


def _refuse_unsafe_redirect(response: Response) -> None:
    """Look at every answer before requests follows a redirect."""
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        leaves_https = urlsplit(response.url).scheme == "https" != urlsplit(target).scheme
        if leaves_https or not _is_safe(target):
            raise _FinalDownloadError(f"sent on to {target}, which is not https")


def _is_safe(url: str) -> bool:
    """Whether an address may be read from.

    https, or this machine itself: nobody on the way can change what never leaves the machine, and a
    test can serve files without a certificate.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:  # a name, not a number
        return False
