"""Named places at which a test may let a process die.

    CKCONV_CRASH_AT=blob.synced:3 ckconv-sweep launch ...

dies without a word the third time that it passes there. Without the variable a place is an empty
call. Each name is in `POINTS`, and a test passes each of them.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "CKCONV_CRASH_AT"

POINTS = (
    "blob.written",  # its bytes are in a temporary file, not synced
    "blob.synced",  # and synced
    "blob.kept",  # it has its name; nothing that it replaces is forgotten yet
    "object.begun",  # nothing of it was sent to the object store
    "object.sent",  # its bytes are on their way, and it is not closed
    "epoch.trained",  # trained and in the ledger, not in a checkpoint
    "epoch.saved",  # in a checkpoint, not reported
    "trial.drawn",  # all parameters of a new trial are drawn, the study has none of them
    "trial.recorded",  # the study has the new trial, it is not handed out
    "epoch.judged",  # the stopping rule has answered; neither epoch nor answer is recorded
    "epoch.described",  # half of the epoch's transaction is written
    "epoch.acknowledged",  # the epoch is recorded with the rule's answer; nobody has heard of it
    "trial.explained",  # half of the transaction of a trial's end is written
    "trial.told",  # the end is told; nobody has heard of it
    "trial.forgotten",  # the checkpoints of an ended trial are gone, MLflow's mark is not written
    "tracking.created",  # MLflow has a new run, without its settings
    "tracking.delivered",  # MLflow has points that are not marked as delivered
    "request.obeyed",  # what a person asked is done, and has no answer
    "request.answered",  # the answer is recorded, the request's file is still there
    "study.made",  # a new study is whole, and has not its name yet
    "test.scored",  # the winner is scored on the test split, and nobody knows it
    "test.recorded",  # the study has the opening; it is not printed, and MLflow has it not
    "warm_start.noted",  # the study has the trials of earlier sweeps; none is drawn yet
)


class _Counter:
    def __init__(self, wanted: str) -> None:
        self.name, _, number = wanted.partition(":")
        self.left = int(number or 1)
        if self.name not in POINTS:
            raise ValueError(f"{VARIABLE}: no crash point is called {self.name!r}")

    def passed(self, name: str) -> None:
        if name == self.name:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


_counter = _Counter(os.environ[VARIABLE]) if VARIABLE in os.environ else None


def crash_point(name: str) -> None:
    """Here a test may let the process die."""
    if _counter is not None:
        _counter.passed(name)
