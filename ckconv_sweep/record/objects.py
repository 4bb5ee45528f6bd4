"""`Blobs` in an object store that speaks S3, through pyarrow.

An object is there once all of it was sent, and takes the place of an older one at that moment. The
credentials are found as Amazon's own programs do: in the environment, in ~/.aws, or from the role
of the machine; `AWS_ENDPOINT_URL` names another store.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.errors import CannotWrite, StoreUnreachable
from ckconv_sweep.record.blobs import checked
from ckconv_sweep.record.remote import Remote

_HINT = (
    "is its bucket there? Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "~/.aws or the machine's role; another store than Amazon's from AWS_ENDPOINT_URL"
)


@functools.lru_cache(maxsize=8)
def _opened(bucket: str, query: str) -> Any:
    from pyarrow import fs

    # Small objects are sent in one request instead of three.
    query = "&".join(filter(None, (query, "allow_delayed_open=true")))
    with _named(Remote(bucket, query)):
        return fs.FileSystem.from_uri(f"{bucket}?{query}")[0]


class ObjectBlobs:
    """The objects whose names begin with a prefix."""

    def __init__(self, place: Remote) -> None:
        self._place = place
        self._prefix = place.address.removeprefix("s3://")

    @property
    def _store(self) -> Any:
        return _opened(f"s3://{self._prefix.partition('/')[0]}", self._place.query)

    def make(self) -> None:
        """Nothing: a prefix is there with the first object."""

    def put(self, name: str, content: str | bytes) -> None:
        content = content.encode() if isinstance(content, str) else content
        crash_point("object.begun")
        with _named(self._place / name), self._store.open_output_stream(self._path(name)) as out:
            out.write(content)
            crash_point("object.sent")
        crash_point("blob.kept")

    def get(self, name: str) -> bytes:
        place = self._place / name
        with _found(place), self._store.open_input_stream(self._path(name)) as stream:
            content: bytes = stream.read()
        return checked(content, place)

    def list(self, pattern: str) -> Sequence[str]:
        names = (name for name in self._sizes(recursive=False) if "/" not in name)
        return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))

    def sizes(self) -> Mapping[str, int]:
        return self._sizes(recursive=True)

    def delete(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError), _named(self._place / name):
                self._store.delete_file(self._path(name))

    def _sizes(self, *, recursive: bool) -> dict[str, int]:
        from pyarrow import fs

        asked = fs.FileSelector(self._prefix, recursive=recursive, allow_not_found=True)
        with _found(self._place):
            found = self._store.get_file_info(asked)
        return {
            info.path.removeprefix(f"{self._prefix}/"): info.size
            for info in sorted(found, key=lambda info: info.path)
            if info.is_file
        }

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}"


@contextlib.contextmanager
def _named(place: Remote) -> Iterator[None]:
    """Raises CannotWrite in the place of what pyarrow raises, but FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        said = str(error).partition(" (Request ID")[0].strip()
        raise CannotWrite(f"cannot be written: {said}", where=str(place), hint=_HINT) from error


@contextlib.contextmanager
def _found(place: Remote) -> Iterator[None]:
    """Raises FileNotFoundError, or StoreUnreachable, which name the object as we do."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, "No such object", str(place)) from None
    except OSError as error:
        said = str(error).partition(" (Request ID")[0].strip()
        raise StoreUnreachable(f"cannot be read: {said}", where=str(place), hint=_HINT) from error
