"""A population under Ray, whose driver is killed three times."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.commands import PROGRAM, ckconv_sweep, ended, environment

SPACE = """\
trial:
  data: {name: digits}
  model: {hidden_channels: 16, blocks: 2, kernel: {hidden_channels: 16, layers: 3}}
  training: {epochs: 12}
search:
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.dropout: {low: 0.0, high: 0.4}
sampler: {name: random, seed: 1}
scheduler: {name: pbt, interval_epochs: 3}
budget: {trials: 6}
"""


def epochs_in(study: Path) -> int:
    with contextlib.suppress(sqlite3.Error):
        base = sqlite3.connect(f"file:{study}?mode=ro", uri=True)
        with contextlib.closing(base):
            (count,) = base.execute("select count(*) from trial_intermediate_values").fetchone()
            return int(count)
    return 0


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.fault("population-killed")
def test_a_population_whose_driver_is_killed_three_times_ends_whole(tmp_path: Path) -> None:
    (tmp_path / "pbt.yaml").write_text(SPACE)
    command = [PROGRAM, "launch", "pbt.yaml", "--pack", "6", "--concurrency", "6"]
    for target in (18, 34, 50):
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL
        ) as driver:
            while driver.poll() is None and epochs_in(tmp_path / "sweeps/pbt/study.db") < target:
                time.sleep(0.05)
            driver.send_signal(signal.SIGKILL)
    said = ended(ckconv_sweep("launch", "pbt.yaml", cwd=tmp_path, timeout=600))
    assert re.search(r"6 trials completed, 0 pruned, \d+ continued, 0 failed", said)
    assert re.search(r"t\d{3} epoch \d+", said)
    assert "problem" not in ended(ckconv_sweep("doctor", "pbt", cwd=tmp_path))
    ended(ckconv_sweep("plot", "pbt", "lineage", cwd=tmp_path))
    assert (tmp_path / "pbt-lineage.png").exists()
    ended(ckconv_sweep("best", "pbt", "--out", "best.yaml", cwd=tmp_path))
    summary = json.loads(ended(ckconv_sweep("status", "pbt", "--json", cwd=tmp_path)))
    trained = ended(ckconv_sweep("train", "best.yaml", cwd=tmp_path, timeout=300))
    assert f"val/accuracy {summary['best_value']:.4f} (validation split" in trained
