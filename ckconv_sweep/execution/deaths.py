"""Why a worker died, from what Ray says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ckconv_sweep.errors import OutOfMemory

WORKER_DIED = "worker_died"
"""The reason of a trial that is given up because its workers died."""
_NODE_DIED = "its node has died"
_LONGEST = 300
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_VANISHED = ("", "The actor died unexpectedly before finishing this task.")
"""All that is left of what Ray says where it does not know more than that."""


@dataclass(frozen=True)
class Death:
    """`reason` is the word that the study keeps; `words` follow on "its worker died 4 times"."""

    reason: str
    words: str


def of_the_node(said: str) -> bool:
    """Whether a worker died because its node has left; `said` as of `death`."""
    return _NODE_DIED in said


def death(said: str, used_gib: float = 0.0) -> Death:
    """What killed a worker. Memory is suspected only where Ray names no other cause: a process that
    is killed for it says nothing.

    Args:
        said: the text of Ray's error; empty if there is none.
        used_gib: the most memory that the worker is known to have used; 0 if that is not known.
    """
    had = f"; it had used {used_gib:.2f} GiB" if used_gib else ""
    if "low on memory" in said or "OutOfMemory" in said or "OUT_OF_MEMORY" in said:
        return Death(OutOfMemory.reason, f"at last because its node ran out of memory{had}")
    if of_the_node(said):
        return Death(WORKER_DIED, "at last with its node")
    lines = _COLOURS.sub("", said).strip().splitlines()
    last = lines[-1].rpartition("Worker exit detail: ")[2].strip() if lines else ""
    if last in _VANISHED or "unexpectedly exits with a connection error" in last:
        return Death(
            WORKER_DIED, f"at last without an error message, probably killed for memory{had}"
        )
    return Death(WORKER_DIED, f"at last with: {last[:_LONGEST]}")
