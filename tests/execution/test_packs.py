"""A sweep whose trials are trained in packs, on a real, local Ray."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sweep.in_process import make_space

from benchmarks.chaos.state import trained_again
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.execution import cluster
from ckconv_sweep.execution.cluster import Placement, pack_size
from ckconv_sweep.execution.executor import RayExecutor
from ckconv_sweep.record.events import EpochEnded, Event, Listener
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.sweep.driver import run_sweep
from ckconv_sweep.training import checkpoint

from .test_tune import ledger

SEARCH = """
  model.hidden_channels: {choices: [4, 6]}
  model.dropout: {low: 0.0, high: 0.3, step: 0.1}
  model.kernel.omega_0: {low: 1.0, high: 30.0, log: true}
  optimizer.learning_rate: {low: 1.0e-3, high: 1.0e-1, log: true}
"""


@dataclass
class Heard(Listener):
    events: list[Event] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    then: Callable[[Event], None] = lambda event: None

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self.then(event)

    def say(self, message: str) -> None:
        self.said.append(message)


def sweep(root: Path, space: Space, placement: Placement, heard: Heard) -> list[TrialRecord]:
    return run_sweep(
        SweepFolder.of(root, "digits"),
        space,
        RayExecutor(placement),
        tracking_uri=f"sqlite:///{root}/mlflow.db",
        data_dir=None,
        listeners=(heard,),
    ).records


@pytest.fixture
def same_ray(ray_of_two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweeps of this file need not each start one."""
    monkeypatch.setattr(cluster, "connected", lambda *_: contextlib.nullcontext())


def told(records: list[TrialRecord]) -> list[object]:
    """Of each trial what does not depend on time or on how the file is called."""
    return [
        (
            record.number,
            record.outcome,
            record.reason,
            dict(record.params),
            [
                {k: v.hex() for k, v in e.metrics.items() if not k.startswith("time/")}
                for e in record.history
            ],
        )
        for record in records
    ]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("same_ray")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("trials", "places"), [(6, 3), (64, 8)])
def test_a_sweep_with_packs_leaves_the_study_of_the_same_sweep_without(
    trials: int, places: int, tmp_path: Path
) -> None:
    space = make_space(sampler="random", search=SEARCH, trials=trials, epochs=3)
    heard = Heard()
    packed = sweep(tmp_path / "packed", space, Placement(pack=places, concurrency=places), heard)
    alone = sweep(tmp_path / "alone", space, Placement(), Heard())
    assert [record.outcome for record in packed] == ["completed"] * trials
    assert told(packed) == told(alone)
    assert f"trials at a time: {places}" in heard.said
    # One process trained them all.
    folder = SweepFolder.of(tmp_path / "packed", "digits")
    assert len({line["pid"] for n in range(trials) for line in ledger(folder, n)}) == 1


@pytest.mark.ray
@pytest.mark.usefixtures("same_ray")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.fault("worker-killed")
def test_when_a_pack_dies_its_trials_go_on_from_their_checkpoints(tmp_path: Path) -> None:
    epochs = 40
    space = make_space(sampler="random", search=SEARCH, trials=4, epochs=epochs)
    folder = SweepFolder.of(tmp_path, "digits")
    begun, killed = set[int](), list[int]()

    def kill(event: Event) -> None:
        if isinstance(event, EpochEnded):
            begun.add(event.number)
            if len(begun) == 4 and not killed:
                killed.append(ledger(folder, event.number)[-1]["pid"])
                os.kill(killed[0], signal.SIGKILL)

    records = sweep(tmp_path, space, Placement(pack=4, concurrency=4), Heard(then=kill))
    assert [(r.outcome, len(r.history)) for r in records] == [("completed", epochs)] * 4
    went_on = 0
    for number in range(4):
        lines = ledger(folder, number)
        assert {line["epoch"] for line in lines} == set(range(1, epochs + 1))
        assert trained_again(lines) <= 1
        went_on += {line["pid"] for line in lines} > {killed[0]}
    assert went_on >= 2  # a trial may have ended before the last one had begun


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("same_ray")
@pytest.mark.filterwarnings("ignore")
def test_trials_that_are_stopped_early_leave_their_pack_and_no_checkpoint(tmp_path: Path) -> None:
    space = make_space(
        sampler="random",
        search=SEARCH,
        trials=8,
        epochs=9,
        scheduler="{name: asha, grace_epochs: 1, reduction_factor: 3}",
    )
    records = sweep(tmp_path, space, Placement(pack=4, concurrency=4), Heard())
    outcomes = [record.outcome for record in records]
    assert set(outcomes) == {"completed", "pruned"}
    for record in records:
        folder = SweepFolder.of(tmp_path, "digits").trial(record.number)
        assert checkpoint.checkpoints(folder) == []
        assert (checkpoint.best(folder) is not None) == (record.outcome == "completed")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "257", "²"])
def test_a_size_that_no_pack_can_have_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be auto or a whole number from 1 to 256"):
        pack_size(text)
