"""A sweep without Ray: a real coordinator over a real study, and trials that are a formula.

A `Machine` stands for the computer: its disk (study and checkpoints) outlives every session. A
`Session` stands for a driver with its workers; `Killed` ends one as SIGKILL does, before a chosen
write to the study. `Clock` hands out the time.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.opening import read_migrations_once
from ckconv_sweep.config.history import Epoch, end_reason
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.execution import executor
from ckconv_sweep.execution.executor import RayExecutor
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.protocol import Assignment, Signals, Work
from ckconv_sweep.record.confirmation import Confirmation
from ckconv_sweep.record.database import Writes
from ckconv_sweep.record.events import Event, Listener, Started
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.sweep.confirming import Confirming
from ckconv_sweep.sweep.coordinator import Coordinator
from ckconv_sweep.sweep.driver import _confirming

read_migrations_once()

WRITES = (
    "create_new_trial",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "set_study_user_attr",
    "set_study_system_attr",
)
"""Everything by which Optuna's storage is changed; our own transactions come on top."""

IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where hundreds of sweeps need not wait for a disk; what a kill leaves is the same there."""

REAL = """
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.dropout: {low: 0.0, high: 0.3, step: 0.1}
  schedule:
    choices:
      constant: {}
      plateau: {factor: 0.5, patience: {low: 1, high: 4}}
"""
COUNTED = """
  optimizer.learning_rate: {choices: [0.001, 0.01]}
  schedule:
    choices:
      constant: {}
      plateau: {factor: 0.5, patience: {low: 1, high: 2}}
"""


def make_space(
    *,
    search: str = "",
    sampler: str = "random",
    scheduler: str = "{name: none}",
    trials: int = 4,
    epochs: int = 3,
    hours: float | None = None,
    constraints: Sequence[str] = (),
    training: str = "",
    data: str = "digits",
    metrics: str = "",
    first: str = "[]",
    repeats: str = "",
) -> Space:
    search = search or (COUNTED if sampler == "grid" else REAL)
    return parse_space(
        f"""
trial:
  data: {{name: {data}}}
  model: {{hidden_channels: 4, blocks: 1, kernel: {{hidden_channels: 4, layers: 2}}}}
  training: {{epochs: {epochs}, seed: 5 {training}}}
search:
{search}
first: {first}
sampler: {{name: {sampler}, seed: 3}}
scheduler: {scheduler}
constraints: {list(constraints)}
budget: {{trials: {trials}{f", hours: {hours}" if hours else ""}}}
{f"metrics: {metrics}" if metrics else ""}
{f"repeats: {repeats}" if repeats else ""}
""",
        "space.yaml",
    )


def in_this_process(
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[Work, Signals, KnownData], None],
    at_a_time: int = 2,
) -> None:
    """Let `run` train in the place of Ray."""
    monkeypatch.setattr(executor, "load", lambda: None)
    monkeypatch.setattr(RayExecutor, "connected", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(RayExecutor, "prepare", lambda self, session, signals: (at_a_time, []))
    monkeypatch.setattr(
        RayExecutor, "run", lambda self, work, signals, session, known: run(work, signals, known)
    )


class Killed(BaseException):
    """The driver's process is gone."""


class Clock:
    """Seconds since 1970, as a test says."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Heard(Listener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.said: list[str] = []

    def hear(self, event: Event) -> None:
        self.events.append(event)

    def say(self, message: str) -> None:
        self.said.append(message)

    @property
    def started(self) -> list[int]:
        return [event.number for event in self.events if isinstance(event, Started)]


def formula(trial: Trial, number: int, at: float | None = None) -> Epoch:
    """An epoch's metrics as a function of (settings, seed, epoch)."""
    settings = trial.model_dump_json()
    draw = zlib.crc32(f"{settings}/{number}".encode()) / 2**32
    base = zlib.crc32(settings.encode()) / 2**32
    accuracy = 0.5 * base + 0.4 * (1 - 0.6**number) + 0.05 * draw
    metrics = {"val/accuracy": accuracy, "val/loss": 1 - accuracy + 0.1 * draw}
    when = 1_700_000_000_000 + zlib.crc32(settings.encode()) + number if at is None else at * 1000
    return Epoch(number=number, metrics=metrics, timestamp_ms=int(when))


@dataclass
class Machine:
    """What outlives a driver: the study, the trials' checkpoints, and what the test counted."""

    folder: SweepFolder
    space: Space
    concurrency: int = 2
    fails: Callable[[int, int], str | None] = lambda number, epoch: None
    """The reason for which an epoch of a trial fails, if so."""
    work: Callable[[Trial, int], Epoch] = formula
    listeners: tuple[Listener, ...] = ()
    gpus: float = 0.0
    """How many each trial has."""
    plan: Confirmation | None = None
    """What is confirmed, if its sessions do not search."""
    data: str = ""
    """The digest of the data that trials are trained on."""
    clock: Clock = field(default_factory=Clock)
    checkpoints: dict[int, list[Epoch]] = field(default_factory=dict)
    executed: Counter[tuple[int, int]] = field(default_factory=Counter)
    acknowledged: dict[tuple[int, int], float] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    writes: int = 0
    """Writes to the study over all sessions."""
    before_write: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def session(self, kill_before: int | None = None) -> Iterator[Session]:
        """A driver over this machine's study. `kill_before`: the number of the write (from 0) in
        place of which it is killed."""
        with self.folder.records.create(self.space) as study:
            if study.space != self.space:
                study.set_space(self.space)
            left = kill_before

            def about_to_write() -> None:
                nonlocal left
                if left is not None:
                    if left <= 0:
                        raise Killed
                    left -= 1
                self.before_write()
                self.writes += 1

            def killing(write: Callable[..., Any]) -> Callable[..., Any]:
                def call(*args: Any, **options: Any) -> Any:
                    about_to_write()
                    return write(*args, **options)

                return call

            transaction = study._transaction

            @contextlib.contextmanager
            def killed_before_its_commit(**options: Any) -> Iterator[Writes]:
                inside_another = study._writes is not None
                with transaction(**options) as writes:
                    yield writes
                    if not inside_another:
                        about_to_write()

            for name in WRITES:
                setattr(study._database, name, killing(getattr(study._database, name)))
            study._transaction = killed_before_its_commit
            yield Session(self, study)

    def run_and_photograph(self, into: Path) -> list[Machine]:
        """A session to its end; this machine as SIGKILL would have left it before each write."""
        photographs: list[Machine] = []

        def photograph() -> None:
            folder = SweepFolder.of(into / str(len(photographs)), "sweep")
            shutil.copytree(self.folder.root, folder.root)
            kept = {number: list(epochs) for number, epochs in self.checkpoints.items()}
            photographs.append(
                replace(
                    self,
                    folder=folder,
                    checkpoints=kept,
                    executed=self.executed.copy(),
                    acknowledged=dict(self.acknowledged),
                    before_write=lambda: None,
                )
            )

        self.before_write = photograph
        assert self.run()
        return photographs

    def run(self, kill_before: int | None = None) -> bool:
        """A session to its end; False where it was killed on the way."""
        try:
            with self.session(kill_before) as session:
                session.run()
        except Killed:
            return False
        return True

    def confirming(self, study: Study) -> Confirming | None:
        """As the driver begins a session."""
        return _confirming(study, self.plan)

    def records(self) -> list[TrialRecord]:
        with self.folder.records.open() as study:
            return study.trials()

    def result(self) -> list[dict[str, Any]]:
        """All that must not depend on interruptions."""
        with self.folder.records.open() as study:
            every = study._study.get_trials(deepcopy=False)
            values = [t.values for t in every if "confirms" not in t.user_attrs]
            return [
                {
                    "number": r.number,
                    "outcome": r.outcome,
                    "reason": r.reason,
                    "error": r.error,
                    "params": dict(r.params),
                    "history": [(e.number, dict(e.metrics), e.timestamp_ms) for e in r.history],
                    "values": value,
                }
                for r, value in zip(study.trials(), values, strict=True)
            ]

    def everything(self) -> Any:
        """The study's content, without the note of when drivers ran."""
        with self.folder.records.open() as study:
            notes = {k: v for k, v in study.notes().items() if k != "sessions"}
            return notes, study._study.get_trials()


@dataclass
class _Worker:
    assignment: Assignment
    epoch: int = 0


class Session:
    """A driver: its coordinator, and up to `concurrency` trials that take turns."""

    def __init__(self, machine: Machine, study: Study) -> None:
        self.machine, self.study = machine, study
        self.coordinator = Coordinator(
            study,
            count_parameters=lambda trial: 100 * trial.model.hidden_channels,
            listeners=machine.listeners,
            clock=machine.clock,
            places=machine.concurrency,
            confirming=machine.confirming(study),
        )
        self.workers: list[_Worker] = []
        self.handed_out: list[int] = []

    def run(self) -> None:
        while self.step():
            pass

    def step(self) -> bool:
        """Hand out what there is room for, then one epoch of the trial whose turn it is. False
        when nothing is left to do."""
        self.coordinator.attend()
        self.workers = [w for w in self.workers if self.coordinator.wanted(w.assignment.number)]
        while len(self.workers) < self.machine.concurrency:
            assignment = self.coordinator.next()
            if assignment is None:
                break
            self.handed_out.append(assignment.number)
            self.workers.append(_Worker(assignment))
        if not self.workers:
            return False
        worker = self.workers.pop(0)
        if self._turn(worker):
            self.workers.append(worker)
        return True

    def _turn(self, worker: _Worker) -> bool:
        """An epoch of a trial, or one that it finds in its checkpoint; whether it goes on."""
        machine, trial = self.machine, worker.assignment.trial
        number = worker.assignment.number
        source, every = worker.assignment.source, worker.assignment.kept_epochs
        begin = source.epoch if source else 0
        if source and number not in machine.checkpoints:
            copied = machine.checkpoints[int(Path(source.path).parent.name)][:begin]
            assert copied[-1].checkpoint == Path(source.path).name
            machine.checkpoints[number] = list(copied)
        kept = machine.checkpoints.setdefault(number, [])
        worker.epoch = max(worker.epoch, begin)
        if worker.epoch == len(kept):
            if end_reason(trial, kept[begin:]) is not None:
                self.coordinator.end(number)
                machine.ended.append(number)
                return False
            if reason := machine.fails(number, len(kept) + 1):
                self.coordinator.end(number, reason=reason, error=f"it was {reason}")
                machine.ended.append(number)
                return False
            machine.executed[number, len(kept) + 1] += 1
            trained = machine.work(trial, len(kept) + 1)
            if every and trained.number % every == 0:
                trained = replace(trained, checkpoint=f"checkpoint-{trained.number}-{number}.pt")
            kept.append(trained)
        epoch = kept[worker.epoch]
        worker.epoch += 1
        goes_on = self.coordinator.epoch(number, epoch, machine.data, gpus=machine.gpus)
        machine.acknowledged[number, epoch.number] = epoch.metrics["val/accuracy"]
        if not goes_on:
            self.coordinator.end(number)
        return goes_on


@cache
def _template(space_text: str) -> Path:
    root = tempfile.mkdtemp(prefix="ckconv-test-", dir=IN_MEMORY)
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    folder = SweepFolder.of(Path(root), "sweep")
    folder.make()
    with folder.records.create(parse_space(space_text, "space")):
        pass
    return folder.records.path


def machine(root: Path, space: Space, *, name: str = "sweep", **others: Any) -> Machine:
    """A machine with a new study; the empty study is made once for each space."""
    folder = SweepFolder.of(root, name)
    folder.make()
    shutil.copy(_template(space.to_yaml()), folder.records.path)
    return Machine(folder, space, **others)


def with_trials(space: Space, trials: int) -> Space:
    return replace(space, budget=space.budget.model_copy(update={"trials": trials}))
