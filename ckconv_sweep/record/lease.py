"""Who may write in a trial's folder: the newest worker of the trial, and nobody once the trial has
been stopped."""

from __future__ import annotations

import uuid
from pathlib import Path

from ckconv_sweep.errors import CannotWrite


class Lease:
    """The newest worker of a trial owns its folder; one that was cut off and comes back after the
    trial was handed out again must not write there.

    Args:
        attempt: the hand-out, as `session:time`. Ray Tune may give one to a second worker where it
            takes the first for dead.
    """

    def __init__(self, folder: Path, attempt: str) -> None:
        self._path, self._attempt = folder / "lease", attempt
        self._owner = f"{attempt}:{uuid.uuid4().hex}"

    def take(self) -> None:
        """Raises RuntimeError if a later session handed the trial out, CannotWrite."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._path.exists() and self._session(owner := self._path.read_text()) > (
                self._session(self._attempt)
            ):
                raise self._lost(owner)
            _write(self._path, self._owner)
        except OSError as error:
            raise CannotWrite(
                f"cannot be written: {error.strerror}", where=str(self._path.parent)
            ) from error

    def check(self) -> None:
        """Raises RuntimeError if it is another's by now."""
        owner = self._path.read_text()
        if owner != self._owner:
            raise self._lost(owner)

    def _lost(self, owner: str) -> RuntimeError:
        return RuntimeError(
            f"this trial was stopped or handed out again: {owner}, not {self._owner}"
        )

    @staticmethod
    def _session(owner: str) -> int:
        number = owner.partition(":")[0]
        return int(number) if number.isdecimal() else 0


def revoke(folder: Path) -> None:
    """Whoever trains this trial writes nothing more. A later hand-out may take the lease again."""
    if (folder / "lease").exists():
        _write(folder / "lease", "nobody")


def _write(path: Path, owner: str) -> None:
    temporary = path.with_name(f".tmp-lease-{uuid.uuid4().hex}")
    temporary.write_text(owner)
    temporary.rename(path)
