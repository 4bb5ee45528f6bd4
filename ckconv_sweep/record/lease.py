"""Who may write in a trial's folder: the worker that the driver named there, and nobody once the
trial has been stopped.

The driver writes the name of each hand-out before it hands out. So a worker that was cut off and
comes back after its trial was handed out again writes nothing, and neither does one that does not
see the sweep's files: on its node the name is missing.
"""

from __future__ import annotations

from ckconv_sweep.errors import NodeUnfit
from ckconv_sweep.record.blobs import Place, blobs_at

_NAME = "lease"


def grant(place: Place, attempt: str) -> None:
    """For the driver: the worker of this hand-out may write there, and no other one. Raises
    CannotWrite."""
    blobs_at(place).make()
    blobs_at(place).put(_NAME, attempt)


def revoke(place: Place) -> None:
    """For the driver: whoever trains this trial writes nothing more."""
    blobs = blobs_at(place)
    if blobs.list(_NAME):
        blobs.put(_NAME, "nobody")


class Lease:
    """What a worker was granted.

    Args:
        attempt: names the hand-out.
    """

    def __init__(self, place: Place, attempt: str) -> None:
        self._place, self._attempt = place, attempt

    def check(self) -> None:
        """To be called before anything is written.

        Raises:
            RuntimeError: the trial was stopped, or handed out again.
            NodeUnfit: the sweep's files are not to be seen from here.
        """
        try:
            owner = blobs_at(self._place).get(_NAME).decode(errors="replace")
        except OSError as error:
            raise NodeUnfit(
                f"the sweep's files cannot be read here: {error.strerror}",
                where=str(self._place),
                hint="on a cluster they must lie in a folder that all nodes share, or in an object "
                "store: --blobs",
            ) from error
        if owner != self._attempt:
            raise RuntimeError(
                f"this trial was stopped or handed out again: {owner}, not {self._attempt}"
            )
