"""The commands as `own_process` starts them: in the place of a view, and of a printed error, are
lines of JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ckconv_sweep.cli import main as command_line
from ckconv_sweep.cli import progress
from ckconv_sweep.errors import CkconvSweepError
from ckconv_sweep.record.events import EpochEnded, Event, Listener, Started
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.signals import end_at_a_signal


class ToPython(Listener):
    """Tells what a person should read, when a sweep begins, and all that happens to a single run.
    Of a sweep's trials the study tells.

    Args:
        descriptor: the file to which it is written.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._of_a_sweep = descriptor, False

    def begin(self, records: Sequence[TrialRecord]) -> None:
        self._of_a_sweep = True
        self._tell(begun=True)

    def hear(self, event: Event) -> None:
        match event:
            case Started() if not self._of_a_sweep:
                self._tell(trial=event.trial.model_dump(mode="json"))
            case EpochEnded() if not self._of_a_sweep:
                self._tell(epoch=asdict(event.epoch))

    def say(self, message: str) -> None:
        self._tell(said=message)

    def fail(self, error: CkconvSweepError) -> None:
        """The last that it tells."""
        told = {"message": error.message, "where": error.where, "hint": error.hint}
        self._tell(error={"kind": type(error).__name__, **told})

    def _tell(self, **news: Any) -> None:
        os.write(self._descriptor, f"{json.dumps(news)}\n".encode())


def main() -> None:
    """The arguments are the descriptor of a file, the process that started this one, and those of
    the command."""
    end_at_a_signal()
    view, starter = ToPython(int(sys.argv.pop(1))), int(sys.argv.pop(1))
    os.set_inheritable(view._descriptor, False)
    threading.Thread(target=_end_with, args=(starter,), daemon=True).start()
    sys.argv[0] = "ckconv-sweep"
    progress.instead = view
    command_line(on_error=view.fail)


def _end_with(starter: int) -> None:
    """Stop as by Ctrl-C when that process has ended: nobody else knows that this one runs."""
    while os.getppid() == starter:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
