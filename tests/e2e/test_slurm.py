"""The SLURM script of docs/cluster.md, run as it stands by an `sbatch` and a `scontrol` of our own:
what is requeued, how often, and that the sweep is whole then."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.commands import PROGRAM, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.fault("driver-sigterm")]

ROOT = Path(__file__).parents[2]
SPACE = """
trial:
  data: {name: digits}
  model: {hidden_channels: 8, blocks: 1, kernel: {hidden_channels: 8, layers: 2}}
  training: {epochs: 60, seed: 5}
search:
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
sampler: {name: random, seed: 3}
scheduler: {name: none}
budget: {trials: 4}
"""
SCONTROL = """#!/bin/sh
case "$1" in
    requeue) echo "$2" >> requeued ;;
    show) echo "JobId=$3 EndTime=$(date -d "@$(cat end)" +%Y-%m-%dT%H:%M:%S)" ;;
esac
"""


class Slurm:
    """Runs a script as SLURM does: with the variables that it sets, again where it is requeued."""

    def __init__(self, here: Path) -> None:
        self.here = here
        (here / "bin").mkdir()
        self._program("scontrol", SCONTROL)
        self._program("ckconv-sweep", f'#!/bin/sh\nexec "{PROGRAM}" "$@"\n')
        text = (ROOT / "docs" / "cluster.md").read_text().partition("## SLURM, one node")[2]
        (script,) = re.findall(r"```bash\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
        (here / "sweep.sh").write_text(script)
        (here / "small.yaml").write_text(SPACE)
        self.said: list[str] = []

    def _program(self, name: str, text: str) -> None:
        path = self.here / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *, seconds: float, restart: int, **more: str) -> subprocess.Popen[str]:
        (self.here / "end").write_text(str(int(time.time() + seconds)))
        path = os.pathsep.join([str(self.here / "bin"), environment()["PATH"]])
        slurm = {"SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": str(restart), "PATH": path}
        return subprocess.Popen(
            ["bash", "sweep.sh", "small.yaml", "--concurrency", "1"],
            cwd=self.here,
            env={**environment(), **slurm, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ended(self, job: subprocess.Popen[str]) -> int:
        """The job's exit code."""
        self.said.append(job.communicate()[0])
        return job.returncode

    @property
    def requeued(self) -> int:
        path = self.here / "requeued"
        return len(path.read_text().splitlines()) if path.exists() else 0

    @property
    def epochs(self) -> int:
        study = self.here / "sweeps" / "small" / "study.db"
        try:
            with sqlite3.connect(f"{study.as_uri()}?mode=ro", uri=True) as database:
                asked = "select count(*) from trial_user_attributes where key like 'epoch:%'"
                return int(database.execute(asked).fetchone()[0])
        except sqlite3.Error:
            return 0

    def wait_for_epochs(self, more: int, job: subprocess.Popen[str]) -> None:
        wanted = self.epochs + more
        while self.epochs < wanted:
            assert job.poll() is None, job.communicate()[0]
            time.sleep(0.1)


def test_the_recipe_requeues_at_the_end_of_the_time_and_when_it_is_told_to_end(
    tmp_path: Path,
) -> None:
    slurm = Slurm(tmp_path)
    # SLURM's signal before the end.
    job = slurm.start(seconds=7200, restart=0)
    slurm.wait_for_epochs(3, job)
    job.send_signal(signal.SIGUSR1)
    assert slurm.ended(job) == 75, slurm.said
    assert (
        "SIGUSR1 came, and the epochs that were running have ended; continue later"
        in slurm.said[-1]
    )
    assert (slurm.requeued, slurm.epochs > 3) == (1, True)
    # Preempted.
    job = slurm.start(seconds=7200, restart=1)
    slurm.wait_for_epochs(3, job)
    job.send_signal(signal.SIGTERM)
    assert slurm.ended(job) == 143, slurm.said
    assert slurm.requeued == 2
    # The time is up before anything can be trained, and it was requeued as often as it may be.
    job = slurm.start(seconds=1, restart=2, MOST_REQUEUES="2")
    assert slurm.ended(job) == 75, slurm.said
    assert "no time for another epoch is left in this session; continue later" in slurm.said[-1]
    assert "not requeued again: at most 2 times" in slurm.said[-1]
    assert slurm.requeued == 2
    # To its end.
    job = slurm.start(seconds=7200, restart=3)
    assert slurm.ended(job) == 0, slurm.said
    assert (slurm.requeued, slurm.epochs) == (2, 4 * 60)


def test_the_recipe_does_not_requeue_a_mistake(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path)
    (tmp_path / "small.yaml").write_text("trial: {}\nsearch: nonsense\n")
    job = slurm.start(seconds=7200, restart=0)
    assert slurm.ended(job) == 2, slurm.said
    assert slurm.requeued == 0
