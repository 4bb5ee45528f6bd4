"""Ctrl-C, and what a cluster sends to end a job.

The first signal ends the work by an exception. Where one must not come from nowhere (Ray's compiled
code turns it into another, and a write should be finished) the work is shielded, and asks with
`check` at places of its own. A second signal ends the process at once. Nothing is lost either way:
what was acknowledged is in the study.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from ckconv_sweep.signals import LATER, SIGNALS


class Interrupted(BaseException):
    """A signal asked the sweep to end. Not an `Exception`, so that nobody in between keeps it."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)

    @property
    def exit_code(self) -> int:
        return 128 + self.number


def _kill_descendants() -> None:
    """A local Ray's processes, which would notice only after a while that nobody is left. Where
    there is no /proc they do."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    for pid in family - {os.getpid()}:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


class Interruption:
    """Catches the signals of `SIGNALS` while it is entered.

    Args:
        later: also SIGUSR1, which only sets `ends_session`.
    """

    def __init__(self, *, later: bool = False) -> None:
        self.ends_session = False
        """Whether a SIGUSR1 has come."""
        self._also = (LATER,) if later else ()
        self._shields = 0
        self._received: int | None = None
        self._raised = False
        self._ignored: set[signal.Signals] = set()

    @contextlib.contextmanager
    def caught(self) -> Iterator[Interruption]:
        before = {number: signal.getsignal(number) for number in (*SIGNALS, *self._also)}
        if before[signal.SIGHUP] is signal.SIG_IGN:  # nohup: the terminal's end is not to end us
            self._ignored.add(signal.SIGHUP)
        try:
            self.install()
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def install(self) -> None:
        """Again after Ray has started, which puts handlers of its own in place."""
        for number in SIGNALS:
            if number not in self._ignored:
                signal.signal(number, self._handle)
        for number in self._also:
            signal.signal(number, self._end_session)

    @property
    def came(self) -> bool:
        """Whether a signal has come. Unlike `check` for any thread."""
        return self._received is not None

    def check(self) -> None:
        """Raises Interrupted if a signal has come; also inside a shield."""
        if self._received is not None and not self._raised:
            self._raised = True
            raise Interrupted(self._received)

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """What happens inside is not interrupted, unless it asks `check`; a signal that came
        meanwhile takes effect at the end."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if not self._shields:
            self.check()

    def _end_session(self, number: int, frame: FrameType | None) -> None:
        self.ends_session = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            _kill_descendants()
            os._exit(128 + number)
        self._received = number
        if not self._shields:
            # Not by `check`, which raises once: where Python swallows what is raised here (in the
            # callback of a weak reference) the next `check` raises it again.
            raise Interrupted(number)


@contextlib.contextmanager
def ended_by_signal(exit_codes: list[int]) -> Iterator[None]:
    """What is inside ends at a signal, whose exit code is noted."""
    try:
        yield
    except Interrupted as interrupted:
        exit_codes.append(interrupted.exit_code)
