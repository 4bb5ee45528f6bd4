"""Who may write in a trial's folder: the newest worker of the trial, and nobody once the trial has
been stopped."""

from __future__ import annotations

import uuid
from pathlib import Path

from ckconv_sweep.durable import make_folder
from ckconv_sweep.errors import CannotWrite
from ckconv_sweep.record.blobs import Blobs

_NAME = "lease"


class Lease:
    """The newest worker of a trial owns its folder; one that was cut off and comes back after the
    trial was handed out again must not write there.

    Args:
        attempt: the hand-out, as `session:time`. Ray Tune may give one to a second worker where it
            takes the first for dead.
    """

    def __init__(self, folder: Path, attempt: str) -> None:
        self._blobs, self._attempt = Blobs(folder), attempt
        self._owner = f"{attempt}:{uuid.uuid4().hex}"

    def take(self) -> None:
        """Raises RuntimeError if a later session handed the trial out, CannotWrite."""
        try:
            make_folder(self._blobs.folder)
            owner = self._blobs.get(_NAME).decode() if self._blobs.list(_NAME) else ""
        except OSError as error:
            raise CannotWrite(
                f"cannot be written: {error.strerror}", where=str(self._blobs.folder)
            ) from error
        if self._session(owner) > self._session(self._attempt):
            raise self._lost(owner)
        self._blobs.put(_NAME, self._owner)

    def check(self) -> None:
        """Raises RuntimeError if it is another's by now."""
        owner = self._blobs.get(_NAME).decode()
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
    blobs = Blobs(folder)
    if blobs.list(_NAME):
        blobs.put(_NAME, "nobody")
