"""A sweep whose files lie in an object store: killed, and continued from its snapshot alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import PROGRAM, environment
from tests.moto import needs_moto, object_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), needs_moto]

KILLS = 5
SPACE = """
trial:
  data: {name: digits}
  model: {hidden_channels: 8, blocks: 1, kernel: {hidden_channels: 8, layers: 2}}
  training: {epochs: 8, seed: 5, batch_size: 128}
search:
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.dropout: {low: 0.0, high: 0.3, step: 0.1}
sampler: {name: random, seed: 3}
scheduler: {name: none}
budget: {trials: 12}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with object_store(tmp_path_factory.mktemp("moto") / "log") as found:
        yield found


def result_of(study: Path) -> dict[int, Any]:
    """Each trial's state, parameters, and every metric of every epoch but times."""
    with contextlib.closing(sqlite3.connect(study)) as database:
        found = {}
        for key, number, state in database.execute("select trial_id, number, state from trials"):
            asked = "from {} where trial_id = ?"
            params = database.execute(
                f"select param_name, param_value {asked.format('trial_params')} order by 1", [key]
            )
            epochs = database.execute(
                f"select key, value_json {asked.format('trial_user_attributes')} "
                "and key like 'epoch:%'",
                [key],
            )
            metrics = {
                name: {
                    metric: value
                    for metric, value in json.loads(text)["metrics"].items()
                    if not metric.startswith("time/")
                }
                for name, text in epochs
            }
            found[number] = (state, list(params), metrics)
    return found


def epochs_in(study: Path) -> int:
    """How many are recorded; 0 of a study that is not there yet."""
    asked = "select count(*) from trial_user_attributes where key like 'epoch:%'"
    with contextlib.suppress(sqlite3.Error):
        connection = sqlite3.connect(f"{study.as_uri()}?mode=ro", uri=True)
        with contextlib.closing(connection) as database:
            return int(database.execute(asked).fetchone()[0])
    return 0


class Machine:
    """A machine on which a driver runs, with Ray and all; its disk can be lost."""

    def __init__(self, here: Path, store: dict[str, str]) -> None:
        self.here, self.store = here, store
        here.mkdir()
        (here / "small.yaml").write_text(SPACE)
        self.study = here / "sweeps" / "small" / "study.db"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, *arguments, "--concurrency", "2"],
            cwd=self.here,
            env={**environment(), **self.store},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def kill_after(self, epochs: int, *arguments: str) -> int:
        """Start a driver and kill it, and all that it started, once so many more epochs are
        recorded; returns how many are."""
        process, before = self.start(*arguments), epochs_in(self.study)
        while epochs_in(self.study) < before + epochs:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return epochs_in(self.study)

    def finish(self, *arguments: str) -> str:
        process = self.start(*arguments)
        said, _ = process.communicate()
        assert process.returncode == 0, said
        return said


@pytest.mark.fault("driver-machine-lost")
def test_a_sweep_on_s3_killed_five_times_and_its_disk_lost_is_the_undisturbed_one(
    tmp_path: Path, store: dict[str, str]
) -> None:
    undisturbed = Machine(tmp_path / "undisturbed", store)
    undisturbed.finish("launch", "small.yaml")
    one = Machine(tmp_path / "one", store)
    launch = ("launch", "small.yaml", "--blobs", "s3://bucket/sweeps")
    for kill in range(KILLS - 1):
        one.kill_after(9 + 2 * kill, *launch)
    before = one.kill_after(12, "resume", "small")
    shutil.rmtree(one.here)

    other = Machine(tmp_path / "other", store)
    said = other.finish("resume", "--from", "s3://bucket/sweeps/small")
    assert "restored from s3://bucket/sweeps/small" in said
    assert before < 12 * 8, "the last kill came too late to show anything"
    assert result_of(other.study) == result_of(undisturbed.study)


@pytest.mark.fault("two-drivers")
def test_a_driver_whose_sweep_was_continued_elsewhere_ends(
    tmp_path: Path, store: dict[str, str]
) -> None:
    """Its machine was cut off, and is back: it has the sweep's own folder and lock."""
    first, second = Machine(tmp_path / "first", store), Machine(tmp_path / "second", store)
    place = "s3://bucket/cut-off"
    process = first.start("launch", "small.yaml", "--blobs", place, "--trials", "40")
    while epochs_in(first.study) < 17:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    process.send_signal(signal.SIGSTOP)
    # The folder is not seen from there: it is on another machine.
    hidden = first.here.with_name("hidden")
    first.here.rename(hidden)
    second.finish("resume", "--from", f"{place}/small", "--trials", "6")
    hidden.rename(first.here)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate()
    assert process.returncode == 75, said
    assert "the sweep was continued on" in said
