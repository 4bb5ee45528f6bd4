"""One trial, trained again in a process of its own, which may be killed at any moment: the same
command goes on where it was.

    python -P -c ... ROOT FOLDER PARENT

PARENT is the process that started it, with which it dies. FOLDER holds `trial.yaml`, which may have
segments, and `again.json`: `until`, the number of the last epoch, `data_dir`, and `device`. On
standard output is a line of JSON as soon as the data are read, `{"epoch": 0}`, and for each epoch,
also for those that it finds in a checkpoint; and at last `{"error": ...}`, if so.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ckconv_sweep.config.read import read_segments
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import CkconvSweepError
from ckconv_sweep.training.loop import train_in_segments

_PR_SET_PDEATHSIG = 1
TRIAL, GIVEN = "trial.yaml", "again.json"


def main() -> None:
    """Train until the last epoch is reached, or the parent has died."""
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    _die_with(parent)

    def tell(said: dict[str, Any]) -> None:
        sys.stdout.write(f"{json.dumps(said)}\n")
        sys.stdout.flush()

    try:
        _train(folder, lambda number: tell({"epoch": number}))
    except CkconvSweepError as error:
        tell({"error": [type(error).__name__, error.message, error.where, error.hint]})
        sys.exit(1)


def _die_with(parent: int) -> None:
    """Be killed by Linux when the parent ends, however it does; at once if it has ended."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def _train(folder: Path, reached: Callable[[int], None]) -> None:
    given = json.loads((folder / GIVEN).read_text())
    trial, segments = read_segments(str(folder / TRIAL))
    task = load(trial.data, Path(given["data_dir"]) if given["data_dir"] else None)
    reached(0)

    train_in_segments(
        segments,
        trial,
        task,
        lambda epoch: reached(epoch.number),
        folder=folder,
        device=given["device"],
        until=given["until"],
    )
