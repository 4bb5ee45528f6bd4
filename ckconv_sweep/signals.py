"""The signals that end the program: Ctrl-C, the end of a job, a terminal that is closed. This file
imports next to nothing, because they are heard before anything else is imported."""

from __future__ import annotations

import os
import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

LATER = signal.SIGUSR1
"""Ends a session as when its time is up: running epochs end, and the sweep is continued later."""
LATER_EXIT_CODE = 75


def end_at_a_signal() -> None:
    """One line and the exit code of the shell, until a command hears signals by itself. The process
    ends at once: NumPy and PyTorch turn an exception that is raised while they are imported into
    others. A signal that is ignored (nohup) stays so."""
    for number in (*SIGNALS, LATER):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, f"stopped by {signal.Signals(number).name}\n".encode())
    finally:
        os._exit(LATER_EXIT_CODE if number == LATER else 128 + number)
