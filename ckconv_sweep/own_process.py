"""Our command line in a process of its own, started and watched from Python.

A sweep needs the main thread's signals, changes the environment and the umask, and may be ended by
Ray together with its process; none of that may happen to a notebook. The process tells what happens
as lines of JSON in a file without a name (`cli/from_python.py` writes them), so it never waits for
a reader.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ckconv_sweep.errors import CkconvSweepError, ConfigError, as_it_was

_PROGRAM = (
    "import sys; root = sys.argv.pop(1); root in sys.path or sys.path.insert(0, root); "
    "from ckconv_sweep.cli.from_python import main; main()"
)
_PAUSE_SECONDS = 0.05
_LAST_LINES = 15
STOPPED = (129, 130, 143)
"""Exit codes of a session that a signal ended."""


class OwnProcess:
    """A command that runs. It is stopped when this Python ends, and stops by itself if that is
    killed.

    Args:
        arguments: the command and its options.
        text: its standard input.
        password_uri: MLflow's address, which may hold a password: everybody on the machine can
            read a process's arguments.
    """

    def __init__(
        self, arguments: Sequence[str], text: str = "", password_uri: str | None = None
    ) -> None:
        environment = dict(os.environ)
        if password_uri is not None:
            environment["MLFLOW_TRACKING_URI"] = password_uri
        us = os.getpid()
        self._told = tempfile.TemporaryFile()  # noqa: SIM115
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        for file in (self._told, self._output):
            weakref.finalize(self, file.close)
        self._read, self._starter = 0, us
        self._news: deque[dict[str, Any]] = deque()
        self._error: dict[str, Any] | None = None
        descriptor = self._told.fileno()
        with tempfile.TemporaryFile() as given:
            given.write(text.encode())
            given.seek(0)
            self._process = subprocess.Popen(
                # -P: not the modules that lie around in the user's current folder
                [
                    sys.executable,
                    "-P",
                    "-c",
                    _PROGRAM,
                    package_root(),
                    f"{descriptor}",
                    f"{us}",
                    *arguments,
                ],
                stdin=given,
                stdout=self._output,
                stderr=self._output,
                env=environment,
                pass_fds=[descriptor],
                start_new_session=True,  # a Ctrl-C is ours to hear
            )
        atexit.register(self._end)

    def ended_within(self, seconds: float) -> bool:
        """Whether it has ended, after so long at most."""
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        atexit.unregister(self._end)
        return True

    def news(self) -> Iterator[dict[str, Any]]:
        """What it has told, each of it once; but for an error, which `check` raises."""
        self._listen()
        while self._news:
            yield self._news.popleft()

    def _listen(self) -> None:
        size = os.fstat(self._told.fileno()).st_size
        # Not by `read`: the file has one position, which is the writer's.
        content = os.pread(self._told.fileno(), size - self._read, self._read)
        lines = content[: content.rfind(b"\n") + 1]
        self._read += len(lines)
        for line in lines.splitlines():
            news = json.loads(line)
            self._error = news.pop("error", self._error)
            self._news.extend([news] if news else [])

    def news_until_the_end(self) -> Iterator[dict[str, Any]]:
        """What it tells, until it ends. An interrupt meanwhile stops it. Raises as `check`."""
        ended = False
        try:
            while not ended:
                ended = self.ended_within(_PAUSE_SECONDS)
                yield from self.news()
        except KeyboardInterrupt:
            self.stop()
            raise
        self.check()

    def check(self) -> None:
        """Once it has ended.

        Raises:
            CkconvSweepError: what the command would have printed as its error.
        """
        self._listen()
        code = self._process.returncode
        if self._error is not None:
            raise as_it_was(**self._error)
        if code not in (0, *STOPPED):
            raise self._unexpected(code)

    def stop(self) -> None:
        """End it as Ctrl-C does, and wait until it has ended."""
        try:
            self._process.terminate()
            self._process.wait()
        except KeyboardInterrupt:  # a second signal ends it at once
            self._process.terminate()
            raise
        atexit.unregister(self._end)

    def output(self) -> list[str]:
        """The lines that it printed."""
        content = os.pread(self._output.fileno(), os.fstat(self._output.fileno()).st_size, 0)
        return content.decode(errors="replace").splitlines()

    def _unexpected(self, code: int) -> CkconvSweepError:
        said = [line for line in self.output() if line.strip()]
        if code == ConfigError.exit_code and said:  # an option that the command line refuses
            return ConfigError(said[-1].removeprefix("Error: "))
        if code < 0:
            return CkconvSweepError(f"its process was ended by {signal.Signals(-code).name}")
        last = "\n  ".join(said[-_LAST_LINES:])
        return CkconvSweepError(f"its process ended with exit code {code}", hint=last or None)

    def _end(self) -> None:
        """Python ends. A fork of it, which ends too, has started nothing."""
        if os.getpid() == self._starter:
            with contextlib.suppress(KeyboardInterrupt):
                self.stop()


def package_root() -> str:
    """Where this package lies: the process must run this one, not another that is installed."""
    return str(Path(__file__).resolve().parents[1])
