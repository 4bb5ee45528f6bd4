"""The command line as `own_process` starts it, with a formula in the place of what Ray trains."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.protocol import Signals, Work

_PATHS = [str(Path(__file__).parents[n]) for n in (1, 0)]
PROGRAM = (
    f"import sys; sys.argv.pop(1); sys.path[:0] = {_PATHS}; from without_ray import main; main()"
)
"""In the place of `own_process._PROGRAM`."""
_PAUSE_SECONDS = 0.02


def _train(work: Work, signals: Signals, known: KnownData) -> None:
    from sweep.in_process import formula

    while assignment := work.next():
        for number in range(1, assignment.trial.training.epochs + 1):
            time.sleep(_PAUSE_SECONDS)
            signals.check()
            if not work.epoch(assignment.number, formula(assignment.trial, number)):
                break
        work.end(assignment.number)


def main() -> None:
    """Runs until the sweep ends."""
    from sweep.in_process import in_this_process

    from ckconv_sweep.cli import from_python

    in_this_process(pytest.MonkeyPatch(), _train)
    from_python.main()
