"""One sweep that is disturbed again and again, and the promises that it must keep all the while."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos.driver import (
    AT_A_TIME,
    SIGNS_CHECKPOINT_SECONDS,
    Conditions,
    Process,
    command,
    forked,
)
from benchmarks.chaos.nodes import Nodes
from benchmarks.chaos.server import Server
from benchmarks.chaos.state import State, in_mlflow, result_of, state_of
from ckconv_sweep import keys
from ckconv_sweep.config.history import Stop
from ckconv_sweep.execution.seat import CHECKPOINT_SECONDS
from ckconv_sweep.record.folder import SweepFolder

PROGRAM = Path(sys.executable).parent / "ckconv-sweep"
QUIET = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is swept: small, and without a stopping rule the same each time."""

    trials: int = 6
    epochs: int = 5
    sampler: str = "random"
    scheduler: str = "{name: none}"
    digits: bool = False
    """Whether it is trained on real data, in epochs of a tenth of a second."""
    ray: bool = False

    def space(self) -> str:
        batch = 256 if self.digits else 8
        return f"""
trial:
  data: {{name: digits}}
  model: {{hidden_channels: 2, blocks: 1, kernel: {{hidden_channels: 3, layers: 2}}}}
  training: {{epochs: {self.epochs}, batch_size: {batch}, seed: 5}}
search:
  optimizer.learning_rate: {{low: 1.0e-4, high: 1.0e-1, log: true}}
  model.dropout: {{low: 0.0, high: 0.3, step: 0.1}}
sampler: {{name: {self.sampler}, seed: 3}}
scheduler: {self.scheduler}
budget: {{trials: {self.trials}}}
"""


@dataclass
class Sweep:
    """A sweep in a folder of its own.

    `broken` collects what was promised and not kept, as (word of the table, sentence); `allowed`
    is how many epochs may have been trained again by now.
    """

    home: Path
    plan: Plan
    database: Path
    """Where MLflow keeps its runs."""
    uri: str
    server: Server | None = None
    nodes: Nodes | None = None
    """The Ray cluster on which it runs; None: one of its own."""
    sessions: list[Process] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    allowed: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def new(
        cls, home: Path, plan: Plan, *, empty: Path | None = None, server: Server | None = None
    ) -> Sweep:
        """A sweep that is not started. `empty`: MLflow's database without runs, to be copied;
        `server`: an MLflow server in its place."""
        home.mkdir(parents=True)
        (home / "chaos.yaml").write_text(plan.space())
        database = home / "sweeps" / "mlflow.db" if server is None else server.database
        if server is None and empty is not None:
            database.parent.mkdir(mode=0o700)
            shutil.copy(empty, database)
        uri = f"sqlite:///{database}" if server is None else server.uri
        return cls(home, plan, database, uri, server)

    @property
    def name(self) -> str:
        """The home's, so that sweeps that share a server differ."""
        return self.home.name

    @property
    def folder(self) -> SweepFolder:
        return SweepFolder.of(self.home / "sweeps", self.name)

    # Sessions

    def launched(self, **conditions: Any) -> Process:
        """The command that starts the sweep, or goes on with it."""
        options = ["--name", self.name, "--concurrency", AT_A_TIME]
        if self.nodes is not None:
            options += ["--address", self.nodes.address]
        return self._run(
            ["launch", self.home / "chaos.yaml", *options, *self._places()], conditions
        )

    def finish(self, **conditions: Any) -> None:
        """Go on undisturbed to the end, give MLflow what it lacks, and check every promise."""
        last = self.launched(**conditions)
        self._check_code(last)
        if "not delivered" in last.said() or "trials at a time" not in last.said():
            self._check_code(self._run(["sync", self.name, *self._places()], conditions))
        self._check_end()

    def _check_code(self, session: Process) -> None:
        if (code := session.wait()) != 0:
            self.breaks("wrong", f"a session ended with {code}:\n{session.said()[-3000:]}")

    def _places(self) -> list[object]:
        return ["--sweeps-dir", self.home / "sweeps", "--tracking-uri", self.uri]

    def _run(self, arguments: list[object], conditions: dict[str, Any]) -> Process:
        log = self.home / f"session-{len(self.sessions):03d}.log"
        if self.plan.ray:
            new = _program(arguments, log, self.nodes)
        else:
            conditions = {"environment": QUIET, "digits": self.plan.digits, **conditions}
            new = command(arguments, log, Conditions(**conditions))
        self.sessions.append(new)
        return new

    def said(self) -> str:
        """What all sessions have printed."""
        return "".join(session.said() for session in self.sessions)

    def remove(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    # Promises

    def breaks(self, word: str, sentence: str) -> None:
        self.broken.append((word, f"{self.name}: {sentence}"))

    def look(self) -> State:
        """What is on disk now, compared with what was there at the last look: nothing that was
        acknowledged then is gone or different."""
        seconds = CHECKPOINT_SECONDS if self.plan.digits else SIGNS_CHECKPOINT_SECONDS
        now = state_of(self.folder, seconds)
        if self.states:
            before = self.states[-1]
            for place, epoch in before.epochs.items():
                if now.epochs.get(place) != epoch:
                    self.breaks("lost", f"epoch {place[1]} of trial {place[0]} is not what it was")
            for number, record in before.ended.items():
                if now.records.get(number) != record:
                    self.breaks("lost", f"ended trial {number} is not what it was")
            for number in before.running:
                stopped = before.records[number]
                if isinstance(stopped.verdict, Stop) and number in now.ended:
                    end = now.records[number]
                    if end.outcome != "pruned" or len(end.history) != len(stopped.history):
                        self.breaks("wrong", f"the stop of trial {number} was forgotten: {end}")
        for number, record in now.records.items():
            epochs = [e.number for e in record.history]
            if epochs != list(range(1, len(epochs) + 1)):
                self.breaks("twice", f"trial {number} has the epochs {epochs}")
        for sentence in now.contradictions:
            self.breaks("wrong", sentence)
        if len(now.records) > self.plan.trials:
            self.breaks("twice", f"{len(now.records)} trials of {self.plan.trials}")
        if now.trained_again > self.allowed:
            self.breaks("again", f"{now.trained_again} epochs again, {self.allowed} allowed")
        self.states.append(now)
        return now

    def _check_end(self) -> None:
        end = self.look()
        if not end.finished or len(end.ended) != self.plan.trials:
            self.breaks("lost", f"{len(end.ended)} of {self.plan.trials} trials have ended")
        if missing := [place for place in end.epochs if place not in end.executed]:
            self.breaks("wrong", f"epochs that nobody executed: {missing}")
        self._check_mlflow(end)
        left = [path for path in self.folder.root.glob("trials/*/*") if path.name[0] in ".c"]
        if left:
            self.breaks("wrong", f"ended trials have left {[p.name for p in left]}")

    def _check_mlflow(self, end: State) -> None:
        there = in_mlflow(self.database, self.name)
        for number in (None, *end.records):
            if (count := there.runs[number]) != 1:
                word = "twice" if count else "lost"
                self.breaks(word, f"MLflow has {count} runs of {number}")
        for place, count in there.points.items():
            if count != 1:
                self.breaks("twice", f"MLflow has {place} {count} times")
        expected = {
            (number, name, epoch): (value, e.timestamp_ms)
            for (number, epoch), e in end.epochs.items()
            for name, value in e.metrics.items()
        }
        for place, value in expected.items():
            if there.values.get(place) != value:
                self.breaks("lost", f"MLflow has {there.values.get(place)} for {place}: {value}")
        derived = (keys.best_of("val/accuracy"), "summary/", "log10/")
        own = [place for place in there.values if not place[1].startswith(derived)]
        if extra := [place for place in own if place not in expected]:
            self.breaks("twice", f"MLflow has what the study has not: {extra[:5]}")
        if there.status != "FINISHED":
            self.breaks("wrong", f"the sweep's run in MLflow is {there.status}")

    def compare(self, undisturbed: tuple[dict[int, Any], str]) -> None:
        """The study and the table against those of a sweep that nobody disturbed."""
        trials, table = result_of(self.folder)
        for number, expected in undisturbed[0].items():
            if trials.get(number) != expected:
                self.breaks("wrong", f"trial {number} is {trials.get(number)}, not {expected}")
        if table != undisturbed[1]:
            self.breaks("wrong", f"the table is\n{table}\nnot\n{undisturbed[1]}")


def _program(arguments: list[object], log: Path, nodes: Nodes | None) -> Process:
    """The command as it is installed, with Ray."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            [str(PROGRAM), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            cwd=log.parent,
            env=None if nodes is None else nodes.environment(),
        )
    process.returncode = 0  # we wait for it ourselves
    return Process(process.pid, log)


def empty_database(folder: Path) -> Path:
    """An MLflow database without runs; made once, since its tables take seconds."""
    path = folder / "empty.db"

    def make() -> None:
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()

    if (code := forked(make, folder / "empty.log").wait()) != 0:
        raise RuntimeError(f"MLflow made no database: {code}")
    return path


def pause(seconds: float, draws: random.Random) -> None:
    """Wait for a random part of it."""
    time.sleep(draws.uniform(0.0, seconds))
