"""A sweep on a real, local Ray."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from sweep.in_process import make_space
from tracking.mlflow_real import points_of, runs_of

from benchmarks.chaos.state import trained_again
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import CannotWrite, ResourcesMissing
from ckconv_sweep.execution import cluster, desk
from ckconv_sweep.execution import tune as ray_executor
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.executor import RayExecutor
from ckconv_sweep.execution.trainable import SeatTrainable
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Listener, Started
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.report.summary import winner
from ckconv_sweep.sweep.delivery import Session
from ckconv_sweep.sweep.driver import run_sweep
from ckconv_sweep.training import checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


def ledger(folder: SweepFolder, number: int) -> list[dict[str, Any]]:
    path = folder.trial(number) / "ledger.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@dataclass
class Sweep:
    folder: SweepFolder
    space: Space
    uri: str
    session: Session


@dataclass
class Watching(Listener):
    """Hears; and kills, once each, the workers of the trials and epochs that it is told."""

    root: SweepFolder
    kill_after: frozenset[tuple[int, int]] = frozenset()
    events: list[Event] = field(default_factory=list)
    killed: list[tuple[int, int]] = field(default_factory=list)
    """(trial, process)"""

    def hear(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, EpochEnded) and (
            (event.number, event.epoch.number) in self.kill_after
        ):
            pid = ledger(self.root, event.number)[-1]["pid"]
            self.killed.append((event.number, pid))
            os.kill(pid, signal.SIGKILL)


# One after the other, in the order of their numbers, so that a trial that does not end well runs
# while others wait.
EPOCHS = 30  # so many that a busy driver still kills before the last one
DEATHS = 2
"""After which a trial is given up here: each costs seconds. In earnest it is one more than
MOST_DEATHS."""
GRID = """
  optimizer:
    choices:
      adam: {}
      sgd: {learning_rate: 1.0e+30}
  model.dropout: {choices: [0.0, 0.1]}
"""


HOSTILE_FILES = (
    "tuner.pkl",
    "trainable.pkl",
    "experiment_state-2030-01-01_00-00-00.json",
    "searcher-state-2030-01-01_00-00-00.pkl",
    "search_gen_state-2030-01-01_00-00-00.json",
)


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self._path, "w"))


def launch(root: Path, space: Space, watching: Watching, uri: str) -> Session:
    return run_sweep(
        watching.root,
        space,
        RayExecutor(Placement(concurrency=2)),
        tracking_uri=uri,
        data_dir=None,
        listeners=(watching,),
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, ray_of_two: None) -> tuple[Sweep, Watching]:
    """Four trials; trial 0's worker is killed after its first epoch, trial 1's each time that it
    has trained one, and the trials 2 and 3 diverge. Where Ray Tune keeps its files lie files of
    its names that would run a program if they were read."""
    root = tmp_path_factory.mktemp("sweeps")
    space = make_space(sampler="grid", search=GRID, trials=4, epochs=EPOCHS)
    kills = frozenset({(0, 1), *((1, epoch) for epoch in range(1, DEATHS + 1))})
    watching = Watching(SweepFolder.of(root, "digits"), kill_after=kills)
    for name in HOSTILE_FILES:
        path = watching.root.tune / "session" / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(Hostile(str(root / "canary"))))
    uri = f"sqlite:///{root}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "connected", lambda *_: contextlib.nullcontext())
        patch.setattr(desk, "MOST_DEATHS", DEATHS - 1)
        session = launch(root, space, watching, uri)
    return Sweep(watching.root, space, uri, session), watching


@pytest.mark.fault("nonfinite")
def test_a_sweep_runs_its_trials_to_their_ends_in_one_session(
    swept: tuple[Sweep, Watching],
) -> None:
    sweep, watching = swept
    assert sweep.session.trained
    assert sweep.session.undelivered == 0
    assert sweep.session.signal_exit_code is None
    outcomes = {r.number: (r.outcome, r.reason, len(r.history)) for r in sweep.session.records}
    assert outcomes == {
        0: ("completed", "epochs", EPOCHS),
        1: ("failed", "worker_died", outcomes[1][2]),
        2: ("failed", "nonfinite", 0),
        3: ("failed", "nonfinite", 0),
    }
    best = winner(sweep.session.records, sweep.space)
    assert best is not None
    assert best.number == 0
    with sweep.folder.records.open() as study:
        assert study.trials() == sweep.session.records
        assert len(study.note("sessions")) == 1
    handed_out = Counter(e.number for e in watching.events if isinstance(e, Started))
    assert handed_out == {0: 2, 1: DEATHS, 2: 1, 3: 1}


@pytest.mark.fault("worker-killed")
def test_a_trial_whose_worker_was_killed_goes_on_from_its_checkpoint(
    swept: tuple[Sweep, Watching],
) -> None:
    sweep, watching = swept
    (killed,) = (pid for number, pid in watching.killed if number == 0)
    lines = ledger(sweep.folder, 0)
    assert killed in {line["pid"] for line in lines}
    assert len({line["pid"] for line in lines}) == 2
    assert {line["epoch"] for line in lines} == set(range(1, EPOCHS + 1))
    assert trained_again(lines) <= 1
    told = [e.epoch.number for e in watching.events if isinstance(e, EpochEnded) and e.number == 0]
    assert told == list(range(1, EPOCHS + 1))


@pytest.mark.fault("worker-killed")
@pytest.mark.fault("worker-out-of-memory")
def test_a_trial_whose_worker_is_killed_again_and_again_fails_with_the_likely_reason(
    swept: tuple[Sweep, Watching],
) -> None:
    sweep, watching = swept
    killed = [pid for number, pid in watching.killed if number == 1]
    assert len(killed) == len(set(killed)) == DEATHS
    lines, record = ledger(sweep.folder, 1), sweep.session.records[1]
    assert {line["pid"] for line in lines} == set(killed)
    assert trained_again(lines) <= len(killed)
    assert DEATHS <= len(record.history) < EPOCHS
    assert re.fullmatch(
        r"its worker died 2 times, at last without an error message, probably killed for memory; "
        r"it had used 0\.\d+ GiB",
        record.error,
    )


@pytest.mark.fault("no-unsafe-load")
def test_files_with_the_names_of_tunes_state_are_never_read(swept: tuple[Sweep, Watching]) -> None:
    sweep, _ = swept
    canary = sweep.folder.root.parent / "canary"
    assert not canary.exists()
    with contextlib.closing(pickle.loads(pickle.dumps(Hostile(str(canary))))):
        assert canary.exists()  # the trap works
    canary.unlink()


def test_its_curve_is_that_of_the_same_trial_trained_alone(
    swept: tuple[Sweep, Watching], tmp_path: Path
) -> None:
    from ckconv_sweep.config.history import Epoch
    from ckconv_sweep.data.datasets import load
    from ckconv_sweep.training.loop import train

    sweep, _ = swept
    record = sweep.session.records[0]
    alone: list[Epoch] = []
    trial = sweep.space.resolve(record.params, 0)
    train(trial, load(trial.data), alone.append)

    def without_time(epochs: list[Epoch]) -> list[dict[str, str]]:
        return [
            {k: v.hex() for k, v in e.metrics.items() if not k.startswith("time/")} for e in epochs
        ]

    assert without_time(list(record.history)) == without_time(alone)


def test_what_stays_on_disk_is_the_study_the_best_weights_and_the_ledgers(
    swept: tuple[Sweep, Watching],
) -> None:
    sweep, _ = swept
    root = sweep.folder.root
    assert sorted(path.name for path in root.iterdir()) == [
        "lock",
        "space.yaml",
        "study.db",
        "trials",
    ]
    assert not sweep.folder.tune.exists()
    assert checkpoint.best(sweep.folder.trial(0)) is not None
    for number in range(4):
        assert checkpoint.checkpoints(sweep.folder.trial(number)) == []
        assert not list(sweep.folder.trial(number).glob(".tmp-*"))


def test_mlflow_has_every_point_of_every_trial_once(swept: tuple[Sweep, Watching]) -> None:
    sweep, _ = swept
    runs = runs_of(sweep.uri, "digits")
    assert {name: run.info.status for name, run in runs.items()} == {
        "digits": "FINISHED",
        "t000": "FINISHED",
        "t001": "FAILED",
        "t002": "FAILED",
        "t003": "FAILED",
    }
    for record in sweep.session.records:
        points = points_of(sweep.uri, runs[f"t{record.number:03d}"])
        assert [step for step, _, _ in points.get("val/loss", [])] == [
            e.number for e in record.history
        ]
    assert "nonfinite" in runs["t002"].data.tags["reason"]


@pytest.mark.usefixtures("ray_of_two")
def test_the_same_command_again_trains_nothing_and_leaves_the_results(
    swept: tuple[Sweep, Watching], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, _ = swept
    monkeypatch.setattr(cluster, "connected", lambda *_: contextlib.nullcontext())
    watching = Watching(sweep.folder)
    again = launch(sweep.folder.root.parent, sweep.space, watching, sweep.uri)
    assert again.records == sweep.session.records
    assert watching.events == []


class TakingTheStudyAway(Watching):
    """Removes the study after the second epoch."""

    def hear(self, event: Event) -> None:
        super().hear(event)
        if isinstance(event, EpochEnded) and event.epoch.number == 2:
            for part in self.root.root.glob("study.db*"):
                part.unlink()


@pytest.mark.fault("study-taken-away")
@pytest.mark.usefixtures("ray_of_two")
def test_what_goes_wrong_in_the_coordinator_is_not_told_as_an_error_of_tune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "connected", lambda *_: contextlib.nullcontext())
    watching = TakingTheStudyAway(SweepFolder.of(tmp_path, "digits"))
    space = make_space(trials=2, epochs=50)
    with pytest.raises(CannotWrite, match="the study was removed or renamed while the sweep"):
        launch(tmp_path, space, watching, f"sqlite:///{tmp_path}/mlflow.db")
    assert list(watching.root.root.glob("study-rescued-*.db"))


class KillingBetween(Watching):
    """Kills the worker of a trial when the trial has ended, before it is given the next one."""

    def hear(self, event: Event) -> None:
        super().hear(event)
        if isinstance(event, Ended) and event.number < 2 and event.epochs:
            pid = ledger(self.root, event.number)[-1]["pid"]
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed.append((event.number, pid))


class Lacking(SeatTrainable):
    def setup(self, config: dict[str, Any]) -> None:
        import_module("an_extension_that_is_not_installed")


@pytest.mark.slow
@pytest.mark.fault("worker-explained")
@pytest.mark.usefixtures("ray_of_two")
def test_workers_that_cannot_start_end_the_sweep_with_the_last_line_of_their_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "connected", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(desk, "MOST_FALSE_STARTS", 1)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers know no tests
    monkeypatch.setattr(ray_executor, "SeatTrainable", Lacking)
    watching = Watching(SweepFolder.of(tmp_path, "digits"))
    with pytest.raises(ResourcesMissing) as stopped:
        launch(tmp_path, make_space(trials=1), watching, f"sqlite:///{tmp_path}/mlflow.db")
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert "at last with: ModuleNotFoundError: No module named 'an_extension_that" in str(
        stopped.value
    )
    assert watching.events == []


@pytest.mark.slow
@pytest.mark.fault("worker-killed")
@pytest.mark.usefixtures("ray_of_two")
def test_a_worker_that_is_killed_between_two_trials_fails_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "connected", lambda *_: contextlib.nullcontext())
    space = make_space(trials=4, epochs=2)
    watching = KillingBetween(SweepFolder.of(tmp_path, "digits"))
    session = launch(tmp_path, space, watching, f"sqlite:///{tmp_path}/mlflow.db")
    assert watching.killed
    assert [(r.outcome, len(r.history)) for r in session.records] == [("completed", 2)] * 4


@pytest.mark.slow
def test_a_sweep_starts_and_ends_a_ray_of_its_own(tmp_path: Path) -> None:
    import ray

    ray.shutdown()
    space = make_space(trials=1, epochs=1)
    watching = Watching(SweepFolder.of(tmp_path, "alone"))
    session = launch(tmp_path, space, watching, f"sqlite:///{tmp_path}/mlflow.db")
    assert [r.outcome for r in session.records] == ["completed"]
    assert not ray.is_initialized()
