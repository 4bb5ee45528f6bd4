"""A small space, epochs for it, and processes to kill."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pytest
from optuna.distributions import FloatDistribution

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord

REPOSITORY = Path(__file__).parents[2]
TEXT = """
trial:
  data: {name: smnist}
  model: {hidden_channels: 8}
  training: {epochs: 9}
  metric: {name: val/accuracy, mode: max}
search:
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
  model.dropout: {low: 0.0, high: 0.3}
budget: {trials: 3}
"""
SPACE = parse_space(TEXT, "space.yaml")
LOWER_IS_BETTER = parse_space(
    TEXT.replace("val/accuracy, mode: max", "val/loss, mode: min"), "space.yaml"
)
TWO_METRICS = parse_space(
    f"{TEXT}metrics: [{{name: val/accuracy}}, {{name: val/loss, mode: min}}]\n", "space.yaml"
)


DISTRIBUTIONS = {
    "optimizer.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "model.dropout": FloatDistribution(0.0, 0.3),
}


def ask(study: Study, seed: int = 0) -> TrialRecord:
    """A new trial of `SPACE`."""
    draws = random.Random(seed)
    params = {
        "optimizer.learning_rate": 10 ** draws.uniform(-4, -2),
        "model.dropout": draws.uniform(0.0, 0.3),
    }
    return study.create(params, DISTRIBUTIONS, position=study.next_number())


def epoch(number: int, accuracy: float = 0.1 + 0.2) -> Epoch:
    metrics = {"val/accuracy": accuracy, "val/loss": 1.0 / 3.0 + number}
    return Epoch(
        number=number,
        metrics=metrics,
        timestamp_ms=1_700_000_000_000 + number,
        checkpoint=f"checkpoint-{number:05d}-0123456789abcdef.pt",
    )


@dataclass
class Child:
    """A fork of this process."""

    pid: int
    said: TextIO

    def line(self) -> str:
        """The next line that it said; empty when it has ended."""
        return self.said.readline().strip()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    @property
    def runs(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


@contextlib.contextmanager
def forked(work: Callable[[Callable[[object], None]], None]) -> Iterator[Child]:
    """Another process, which does the work and can say lines; killed in the end."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12: of threads, which the child leaves alone
        pid = os.fork()
    if pid == 0:
        try:
            work(lambda line: os.write(writing, f"{line}\n".encode()))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    child = Child(pid, os.fdopen(reading))
    try:
        yield child
    finally:
        child.kill()
        child.said.close()
        os.waitpid(pid, 0)


@contextlib.contextmanager
def program(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """A Python program, running; killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def writing(folder: SweepFolder) -> Callable[[Callable[[object], None]], None]:
    """Write an epoch each time that a line comes from nowhere: as fast as it goes."""

    def write(say: Callable[[object], None]) -> None:
        with folder.records.create(SPACE) as study:
            ask(study)
            for i in itertools.count(1):
                study.add_epoch(0, epoch(i), 0.5)
                say(i)

    return write


def in_a_mount(place: Path, options: str, code: str) -> list[str]:
    """The lines that a Python program prints whose first argument is a file system in memory of
    its own, mounted with these options."""
    place.mkdir(exist_ok=True)
    mounted = f'mount -t tmpfs -o {options} none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mounted, "sh", str(place), sys.executable, code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this system lets nobody mount a file system of his own")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a program prints; empty when it has ended."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
