"""One trial, trained again in a process of its own, which may be killed at any moment: the same
command goes on where it was.

    python -P -c ... ROOT FOLDER

FOLDER holds `trial.yaml`, which may have segments, and `again.json`: `until`, the number of the
last epoch, `data_dir`, and `device`. On standard output is a line of JSON as soon as the data are
read, `{"epoch": 0}`, and for each epoch, also for those that it finds in a checkpoint; and at last
`{"error": ...}`, if so.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import read_segments
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import CkconvSweepError
from ckconv_sweep.training.loop import train_in_segments

TRIAL, GIVEN = "trial.yaml", "again.json"


def main() -> None:
    """Train until the last epoch is reached, or nobody listens any more."""
    folder, parent = Path(sys.argv[1]), os.getppid()

    def tell(said: dict[str, Any]) -> None:
        sys.stdout.write(f"{json.dumps(said)}\n")
        sys.stdout.flush()

    try:
        _train(folder, lambda number: tell({"epoch": number}), parent)
    except CkconvSweepError as error:
        tell({"error": [type(error).__name__, error.message, error.where, error.hint]})
        sys.exit(1)


def _train(folder: Path, reached: Callable[[int], None], parent: int) -> None:
    given = json.loads((folder / GIVEN).read_text())
    trial, segments = read_segments(str(folder / TRIAL))
    task = load(trial.data, Path(given["data_dir"]) if given["data_dir"] else None)
    reached(0)

    def report(epoch: Epoch) -> None:
        if os.getppid() != parent:  # who asked for this has died
            sys.exit(1)
        reached(epoch.number)

    train_in_segments(
        segments,
        trial,
        task,
        report,
        folder=folder,
        device=given["device"],
        until=given["until"],
    )
