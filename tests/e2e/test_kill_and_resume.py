"""A real sweep, its driver killed twice, resumed by the same command."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study, TrialRecord

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

PROGRAM = Path(sys.executable).parent / "ckconv-sweep"
TRIALS, EPOCHS, AT_A_TIME = 8, 6, 2
SPACE = f"""
trial:
  data: {{name: digits}}
  model: {{hidden_channels: 4}}
  optimizer: {{name: adam, learning_rate: 0.01}}
  training: {{epochs: {EPOCHS}, batch_size: 256}}
search:
  model.kernel.omega_0: {{low: 5, high: 50, log: true}}
  optimizer.learning_rate: {{low: 1.0e-3, high: 1.0e-1, log: true}}
sampler: {{name: tpe, seed: 1}}
scheduler: {{name: asha, grace_epochs: 2, reduction_factor: 2}}
budget: {{trials: {TRIALS}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    (tmp_path / "killed.yaml").write_text(SPACE)
    return SweepFolder.of(tmp_path / "sweeps", "killed")


def launched(folder: SweepFolder) -> subprocess.Popen[str]:
    space = folder.root.parents[1] / "killed.yaml"
    return subprocess.Popen(
        [PROGRAM, "launch", space, "--sweeps-dir", folder.root.parent],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd=folder.root.parents[1],
    )


def acknowledged(folder: SweepFolder) -> int:
    """How many epochs the study has, read beside the driver that writes it."""
    try:
        database = f"file:{folder.study}?mode=ro"
        with contextlib.closing(sqlite3.connect(database, uri=True, timeout=10)) as connection:
            query = "select count(*) from trial_intermediate_values"
            return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def kill_after(folder: SweepFolder, epochs: int) -> None:
    driver = launched(folder)
    while acknowledged(folder) < epochs:
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()


def recorded(folder: SweepFolder) -> dict[int, TrialRecord]:
    with Study.open(folder) as study:
        return {record.number: record for record in study.trials()}


def ended(records: dict[int, TrialRecord]) -> dict[int, TrialRecord]:
    return {n: r for n, r in records.items() if r.outcome != "running"}


def test_a_sweep_killed_twice_ends_as_if_it_had_not_been(folder: SweepFolder) -> None:
    states = []
    for epochs in (5, 15):
        kill_after(folder, epochs)
        states.append(recorded(folder))
        # The kill hit work in flight.
        assert any(r.outcome == "running" for r in states[-1].values())

    last = launched(folder)
    printed, _ = last.communicate(timeout=200)
    assert last.returncode == 0, printed

    final = recorded(folder)
    assert len(final) == TRIALS
    assert ended(final).keys() == final.keys()
    for state in states:
        assert {n: final[n] for n in ended(state)} == ended(state), "an ended trial was changed"
        for number, record in state.items():
            known = record.history
            assert final[number].history[: len(known)] == known, "a recorded epoch was changed"
    for record in final.values():
        assert [e.number for e in record.history] == list(range(1, len(record.history) + 1))

    lines = [
        (path.parent.name, json.loads(line)["epoch"])
        for path in folder.root.glob("trials/*/ledger.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert len(set(lines)) >= sum(len(r.history) for r in final.values())
    assert len(lines) - len(set(lines)) <= len(states) * AT_A_TIME

    in_mlflow = epochs_in_mlflow(folder)
    assert in_mlflow == {
        number: [(e.number, e.metrics["val/accuracy"]) for e in record.history]
        for number, record in final.items()
    }


def epochs_in_mlflow(folder: SweepFolder) -> dict[int, list[tuple[int, float]]]:
    client = MlflowClient(f"sqlite:///{folder.root.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("ckconv-sweep")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.role = 'trial'")
    return {
        int(run.data.tags["trial"]): [
            (metric.step, metric.value)
            for metric in client.get_metric_history(run.info.run_id, "val/accuracy")
        ]
        for run in runs
    }
