"""Commands of the user's own that a sweep runs: when it ends, and at each new best value."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence

import typer

from ckconv_sweep.config.history import best
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.errors import CkconvSweepError, NoResult
from ckconv_sweep.record.budget import is_finished
from ckconv_sweep.record.confirmation import noted
from ckconv_sweep.record.events import EpochEnded, Event, Listener
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.summary import winner
from ckconv_sweep.search.confirming import is_over

LONGEST_WAIT_SECONDS = 5.0
"""How long a sweep that has ended waits for a command. One that takes longer goes on alone."""


class Command:
    """A line for the shell. What it may want to know is in variables of its environment, never in
    the line: no name or number can become a part of the command.

    Args:
        option: what it was given by, for messages.
    """

    def __init__(self, option: str, line: str, folder: SweepFolder, metric: Metric) -> None:
        self.option, self._line = option, line
        self._always = {
            "CKCONV_SWEEP": folder.name,
            "CKCONV_SWEEPS": str(folder.root.parent),  # so that our own commands find it
            "CKCONV_METRIC": metric.name,
        }

    def run(self, variables: Mapping[str, str], stop: threading.Event | None = None) -> str:
        """Run it to its end; returns what went wrong, or nothing. It reads nothing, and what it
        prints is only seen where it fails: the terminal belongs to the sweep.

        Args:
            stop: when it is set the command has `LONGEST_WAIT_SECONDS` left; then it goes on
                alone. From the start without it.
        """
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    ["/bin/sh", "-c", self._line],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    env={**os.environ, **self._always, **variables},
                    start_new_session=True,  # a Ctrl-C is meant for the sweep
                )
            except OSError as error:
                return f"{self.option}: cannot be started: {error.strerror}"
            if not _ended(process, stop):
                process.returncode = 0  # Python must not complain that nobody waited for it
                return f"{self.option}: the command is still running and was not stopped"
            if process.returncode == 0:
                return ""
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
        return f"{self.option}: the command ended with {process.returncode}" + (
            f": {lines[-1][:200]}" if lines else ""
        )


def _ended(process: subprocess.Popen[bytes], stop: threading.Event | None) -> bool:
    left = LONGEST_WAIT_SECONDS
    while left > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
            return True
        if stop is None or stop.is_set():
            left -= 0.1
    return False


class OnBest(Listener):
    """Runs a command at each new best value, one at a time, in a thread of its own; while one runs
    only the newest best waits.

    Args:
        view: is told why a command failed, once.
    """

    def __init__(self, command: Command, metric: Metric, view: Listener) -> None:
        self._command, self._metric, self._view = command, metric, view
        self._said: set[str] = set()
        self._best: float | None = None
        self._next: dict[str, str] | None = None
        self._changed, self._stop = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="on-best", daemon=True)

    def begin(self, records: Sequence[TrialRecord]) -> None:
        at_best = self._metric.model_copy(update={"at": "best"})
        for record in records:
            if record.history:
                self._is_better(best(record.history, at_best).metrics[self._metric.name])
        self._thread.start()

    def hear(self, event: Event) -> None:
        if isinstance(event, EpochEnded) and self._is_better(event.best):
            with self._changed:
                self._next = {
                    "CKCONV_STATE": "running",
                    "CKCONV_BEST_TRIAL": str(event.number),
                    "CKCONV_BEST_EPOCH": str(event.epoch.number),
                    "CKCONV_BEST_VALUE": repr(event.best),
                }
                self._changed.notify()

    def close(self) -> None:
        """Nothing more will be heard; what waits is still run, if there is time."""
        with self._changed:
            self._stop.set()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=LONGEST_WAIT_SECONDS + 1.0)

    def _is_better(self, value: float) -> bool:
        if self._best is not None and not self._metric.better(value, self._best):
            return False
        self._best = value
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._stop.is_set())
                variables, self._next = self._next, None
            if variables is None:
                return
            problem = self._command.run(variables, self._stop)
            if problem and problem not in self._said:
                self._said.add(problem)
                self._view.say(problem)


@contextlib.contextmanager
def at_each_best(
    line: str | None, folder: SweepFolder, metric: Metric, view: Listener
) -> Iterator[Listener]:
    """Who runs the command of `--on-best`, if there is one, while a sweep runs inside."""
    if line is None:
        yield Listener()
        return
    runs = OnBest(Command("--on-best", line, folder, metric), metric, view)
    try:
        yield runs
    finally:
        runs.close()


class _Began(Listener):
    """Whether a session began."""

    it_did = False

    def begin(self, records: Sequence[TrialRecord]) -> None:
        self.it_did = True


@contextlib.contextmanager
def at_the_end(
    line: str | None, folder: SweepFolder, metric: Metric, *, confirms: bool = False
) -> Iterator[Listener]:
    """Runs the command of `--on-finish`, if there is one, when the session inside has ended, in
    whatever way. Where it could not even begin nothing is run. `confirms`: whether the session
    confirms the sweep."""
    if line is None:
        yield Listener()
        return
    command, began, code, failed = Command("--on-finish", line, folder, metric), _Began(), 0, False
    try:
        yield began
    except typer.Exit as end:
        code = end.exit_code
        raise
    except CkconvSweepError as error:
        code, failed = error.exit_code, not isinstance(error, NoResult)
        raise
    except BaseException:
        code, failed = 1, True
        raise
    finally:
        if began.it_did and (problem := command.run(_how_it_ended(folder, code, failed, confirms))):
            typer.echo(problem, err=True)


def _how_it_ended(folder: SweepFolder, code: int, failed: bool, confirms: bool) -> dict[str, str]:
    variables = {"CKCONV_EXIT_CODE": str(code), "CKCONV_STATE": "failed"}
    with contextlib.suppress(CkconvSweepError), folder.records.open() as study:
        records, space = study.trials(), study.space
        if not failed:
            plan = noted(study.notes()) if confirms else None
            over = is_finished(records, space)
            if plan is not None:
                over = is_over(plan, study.confirmations(), space.metric)
            variables["CKCONV_STATE"] = "finished" if over else "interrupted"
        if record := winner(records, space):
            epoch = best(record.history, space.metric)
            variables["CKCONV_BEST_TRIAL"] = str(record.number)
            variables["CKCONV_BEST_EPOCH"] = str(epoch.number)
            variables["CKCONV_BEST_VALUE"] = repr(record.value(space.metric))
    return variables
