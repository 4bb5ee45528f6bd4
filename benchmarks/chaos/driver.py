"""Drivers to disturb: the real command in a fork of this process, with threads in the place of Ray.

What is replaced is Ray alone, and the data by a task that is learned in milliseconds. The command
line, the driver, its lock, the study, the worker's code with its lease, training, checkpoints and
MLflow are the real ones. A fork costs no imports, so that a second has room for several sessions.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import itertools
import json
import os
import queue
import resource
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks.chaos.opening import read_migrations_once
from ckconv_sweep import crash_points
from ckconv_sweep.config.data import Description
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.execution import executor, seat
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.desk import Desk
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.protocol import Session, Signals, Work
from ckconv_sweep.execution.roster import Roster
from ckconv_sweep.execution.seat import Seat
from ckconv_sweep.execution.surveyor import Surveyor
from ckconv_sweep.record import versions
from ckconv_sweep.signals import SIGNALS

AT_A_TIME = 2
"""Trials that run at a time."""

AT_RISK = 2 * AT_A_TIME
"""Trials of which a kill may cost epochs: each place may have been given the next one already."""

SIGNS_CHECKPOINT_SECONDS = 0.15
"""`seat.CHECKPOINT_SECONDS` of a task whose epochs take some 50 ms: one in two or three has a
checkpoint."""


@dataclass
class Process:
    """A program that runs, and where it prints."""

    pid: int
    log: Path
    code: int | None = None
    """How it ended: an exit code, or minus the signal that killed it."""

    @property
    def runs(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is None

    def send(self, number: int) -> None:
        if self.runs:
            os.kill(self.pid, number)

    def wait(self, seconds: float = 120.0) -> int:
        """Its exit code. Raises TimeoutError if it has none by then; it is killed in that case."""
        deadline = time.monotonic() + seconds
        while self.runs:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise TimeoutError(f"it does not end; it said:\n{self.said()}")
            time.sleep(0.002)
        assert self.code is not None
        return self.code

    def kill(self) -> int:
        self.send(signal.SIGKILL)
        return self.wait()

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under which a driver runs."""

    crash_at: str | None = None
    """A crash point and the number of the pass, as in `blob.synced:3`."""
    in_turn: bool = False
    """Whether the trials take turns, so that a session is the same each time."""
    largest_file: int | None = None
    """Bytes that a file can have before the disk is full."""
    digits: bool = False
    """Whether the data are the real ones that the space names, not a task of milliseconds."""
    environment: Mapping[str, str] | None = None


def forked(work: Callable[[], object], log: Path) -> Process:
    """A fork of this process that does the work, in a session of its own."""
    log.touch(mode=0o600)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12: of threads, which the child leaves alone
        # A signal that comes at once waits until the fork hears it as itself, not as its parent.
        heard = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
        return Process(pid, log)
    code = 1
    try:
        _as_if_new(log)
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:  # before anybody catches signals
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def command(arguments: Sequence[object], log: Path, conditions: Conditions) -> Process:
    """`ckconv-sweep` without Ray."""

    def run() -> None:
        _without_ray(conditions.in_turn)
        if not conditions.digits:
            _with_signs(in_turn=conditions.in_turn)
        os.environ |= conditions.environment or {}
        if conditions.crash_at is not None:
            crash_points._counter = crash_points._Counter(conditions.crash_at)
        if conditions.largest_file is not None:
            size = conditions.largest_file
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        from ckconv_sweep.__main__ import main

        sys.argv = ["ckconv-sweep", *map(str, arguments)]
        main()

    return forked(run, log)


def warm_up() -> None:
    """Import what a driver imports, so that its forks need not, and compute nothing: threads and
    open databases would not survive a fork."""
    for name in (
        "alembic.command",
        "ckconv_sweep.cli.feasible",
        "ckconv_sweep.cli.hooks",
        "ckconv_sweep.cli.pages",
        "ckconv_sweep.cli.progress",
        "ckconv_sweep.cli.result",
        "ckconv_sweep.cli.run",
        "ckconv_sweep.cli.serve",
        "ckconv_sweep.data.digits",
        "ckconv_sweep.models.blocks",
        "ckconv_sweep.models.ckcnn",
        "ckconv_sweep.models.kernel_nets.mlp",
        "ckconv_sweep.models.parameters",
        "ckconv_sweep.training.allocator",
        "ckconv_sweep.training.loop",
        "mlflow.store.tracking.sqlalchemy_workspace_store",
        "pyarrow.pandas_compat",  # by pandas
        "sqlalchemy.dialects.sqlite",
        "torch._dynamo",  # by the first optimiser
        "torch.distributed.tensor",
    ):
        importlib.import_module(name)
    read_migrations_once()


def _as_if_new(log: Path) -> None:
    """What a fork has of its parent and a new process would not have."""
    os.setsid()
    gc.freeze()  # looking for garbage among it would copy its memory
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    out, error = (os.fdopen(standard, "w", buffering=1, closefd=False) for standard in (1, 2))
    sys.stdout, sys.stderr = out, error
    sys.__stdout__, sys.__stderr__ = out, error  # type: ignore[misc]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    threading.excepthook = threading.__excepthook__


def _without_ray(in_turn: bool) -> None:
    """Threads in the place of Ray, in this process."""
    torch.set_num_threads(1)
    ray: Any = _module("ray")
    ray.tune, ray.is_initialized = _module("ray.tune"), lambda: False
    sys.modules |= {"ray": ray, "ray.tune": ray.tune}
    replaced: Any = executor
    replaced.RayExecutor = functools.partial(_Threads, in_turn)


def _with_signs(*, in_turn: bool) -> None:
    """A task that is learned in milliseconds in the place of the data. Checkpoints, which would be
    rarer than the trials, come after some epochs, and in turn after each."""
    seat.CHECKPOINT_SECONDS = 0.0 if in_turn else SIGNS_CHECKPOINT_SECONDS
    for place, name, found in (
        (Surveyor, "identity_of", lambda *_: signs().identity),
        (seat, "task_of", lambda *_: signs()),
    ):
        assert hasattr(place, name), name
        setattr(place, name, found)


def _module(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    return module


def signs() -> SequenceTask:
    """Two classes that differ in the sign of their mean."""

    def split(size: int, seed: int) -> Split:
        targets = torch.arange(size) % 2
        draws = torch.randn(size, 1, 6, generator=torch.Generator().manual_seed(seed))
        return Split(draws + (2.0 * targets - 1.0)[:, None, None], targets)

    def no_test() -> Split:
        raise AssertionError("the test split was read")

    return SequenceTask(
        description=Description(name="signs", in_channels=1, length=6, outputs=2),
        train=split(22, 1),
        validation=split(40, 2),
        test_reader=no_test,
    )


# The executor


class _Threads:
    """An executor of this process."""

    def __init__(self, in_turn: bool, placement: Placement, surveyor: Surveyor) -> None:
        self._in_turn, self.surveyor = in_turn, surveyor
        self._at_a_time = placement.concurrency or AT_A_TIME

    def check(self) -> None:
        """Nothing is asked for that a process has not."""

    def connected(self, log: Path, signals: Signals) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def prepare(self, session: Session, signals: Signals) -> tuple[int, list[str]]:
        return self._at_a_time, []

    def run(self, work: Work, signals: Signals, session: Session, known: KnownData) -> None:
        desk = Desk(work, known, places=1, at_a_time=self._at_a_time, roster=Roster())
        seats, names = dict[str, _Seat](), itertools.count()
        while not desk.over:
            signals.check()
            desk.attend()
            if places := desk.seat_wanted():
                name = str(next(names))
                desk.open(name, places)
                seats[name] = _Seat(places, known, in_turn=self._in_turn)
                continue
            for name in list(seats):
                if not _served(desk, name, seats[name], signals):
                    desk.ended(name)
                    del seats[name]


class _Seat(Seat):
    """In this process.

    Args:
        in_turn: it trains an epoch each time that it is told to.
    """

    def __init__(self, places: int, known: KnownData, *, in_turn: bool) -> None:
        self._turns: queue.SimpleQueue[None] | None = queue.SimpleQueue() if in_turn else None
        self._has_turn = False
        super().__init__(
            places, 0.0, None, versions.of_worker(), allow_data_change=known.allow_change
        )

    @property
    def is_asked(self) -> bool:
        """Whether something must be said sooner or later; with turns this gives it one."""
        trained = [place for place in list(self._places.values()) if not place.left]
        if self._turns is None or not trained or self._said:
            return False
        self._turns.put(None)
        return True

    def _wait(self) -> None:
        if self._turns is not None and not self._has_turn:
            self._turns.get()
            self._has_turn = True

    def _welcome(self, place: Any) -> None:
        self._wait()
        super()._welcome(place)
        self._has_turn = place.pack is not None

    def _step(self, pack: Any) -> None:
        if not pack.running:
            self._wait()
            if any(place.left for place in self._places.values()):
                return  # the turn is for who comes in its place
            self._has_turn = False
        super()._step(pack)


def _served(desk: Desk, name: str, seat: _Seat, signals: Signals) -> bool:
    """Whether a seat goes on, after what it has said; as in `execution.tune`."""
    asked, said = seat.is_asked, list[Any]()
    while not said:
        signals.check()
        with seat._changed:
            seat._changed.wait_for(lambda: seat._said, 0.02)
            said, seat._said = seat._said, []
        if not asked:
            break
    orders = desk.heard(name, json.loads(json.dumps(said)))
    if orders is not None:
        seat.take(orders)
    return orders is not None
