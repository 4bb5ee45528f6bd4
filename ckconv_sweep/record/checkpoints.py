"""The checkpoints of a trial as files: which there are, and which are needed no more. What they
hold, only `training.checkpoint` knows, and PyTorch.

    trials/0004/checkpoint-00012-<16 hex digits of its SHA-256>.pt    the two newest while it runs
    trials/0004/best-<16 hex digits>.pt                   the trial and its best weights, once ended
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar, cast

from ckconv_sweep.record.blobs import UNFINISHED, Place, blobs_at

P = TypeVar("P", bound=Place)

_NAME = re.compile(r"checkpoint-(?P<epoch>\d{5,})-[0-9a-f]{16}\.pt")


def checkpoints(folder: P) -> list[tuple[int, P]]:
    """The checkpoints of a trial with their epochs, newest first."""
    found = [
        (int(match["epoch"]), cast("P", folder / name))
        for name in blobs_at(folder).list("checkpoint-*.pt")
        if (match := _NAME.fullmatch(name))
    ]
    return sorted(found, reverse=True)


def best(folder: P) -> P | None:
    """The file with the best weights of an ended trial."""
    return next((cast("P", folder / name) for name in blobs_at(folder).list("best-*.pt")), None)


def forget(folder: Place, kept_epochs: int = 0) -> None:
    """Delete the checkpoints of a trial that has ended, but for those after each `kept_epochs`
    epochs; its best weights and ledger stay."""
    blobs, found = blobs_at(folder), checkpoints(folder)
    still = kept(found, kept_epochs)
    blobs.delete(*(path.name for number, path in found if (number, path) not in still))
    blobs.delete(*blobs.list(UNFINISHED))


def kept(found: Sequence[tuple[int, P]], kept_epochs: int) -> list[tuple[int, P]]:
    """Those of some checkpoints with which other trials may begin."""
    return [one for one in found if kept_epochs and one[0] % kept_epochs == 0]
