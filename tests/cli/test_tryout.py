"""`launch --dry-run` and `validate --run` train the ends of a space for a few steps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.cli import tryout
from ckconv_sweep.cli.run_options import RunOptions
from ckconv_sweep.cli.tryout import try_space
from ckconv_sweep.config.read import read_space, read_trial
from ckconv_sweep.config.space import Space
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.training.tryout import try_out

from .commands import TRIAL, ckconv_sweep, ended, files_in

WIDTHS = """\
trial: trial.yaml
search:
  model.hidden_channels: {low: 4, high: 12}
  training.batch_size: {choices: [32, 256], ordered: true}
constraints: [model.hidden_channels * training.batch_size <= 2_560]
budget: {trials: 40, hours: 0.000001}
"""


@pytest.fixture
def there(here: Path) -> Path:
    (here / "widths.yaml").write_text(WIDTHS)
    return here


def cells(said: str, row: str) -> list[str]:
    line = next(line for line in said.splitlines() if line.startswith(f"│ {row} "))
    return [cell.strip() for cell in line.split("│")[2:-1]]


def test_a_dry_run_tries_the_smallest_and_the_largest_trial_and_writes_nothing(
    there: Path,
) -> None:
    before = files_in(there)
    said = ended(ckconv_sweep("launch", "widths.yaml", "--dry-run", cwd=there, COLUMNS="80"))
    assert files_in(there) == before
    assert cells(said, "hidden_channels")[0] == "4"
    assert cells(said, "hidden_channels")[2] == "10"  # 11 and more violate the constraint
    assert cells(said, "batch_size")[::2] == ["32", "256"]
    assert cells(said, "steps an epoch")[::2] == ["41", "6"]
    assert all(float(seconds) > 0 for seconds in cells(said, "seconds an epoch"))
    assert all(0.05 < float(memory.split()[0]) < 4 for memory in cells(said, "memory"))
    assert re.search(
        r"^40 trials, \d+ at a time: about [\d.]+ \w+ \([\d.]+ \w+ to [\d.]+ \w+ if all are like "
        r"one of these\); the budget's 1e-06 hours are up before$",
        said,
        re.MULTILINE,
    )


def test_validate_tries_a_trial_only_where_it_is_asked_to(there: Path) -> None:
    before = files_in(there)
    assert "seconds" not in ended(ckconv_sweep("validate", "trial.yaml", cwd=there))
    said = ended(ckconv_sweep("validate", "trial.yaml", "--run", cwd=there))
    assert cells(said, "epochs") == ["3"]
    assert files_in(there) == before


def test_data_that_are_not_here_are_not_downloaded(there: Path) -> None:
    (there / "trial.yaml").write_text(TRIAL.replace("digits", "smnist"))
    said = ended(ckconv_sweep("validate", "trial.yaml", "--run", "--data-dir", "x", cwd=there))
    assert "nothing was tried: " in said
    assert not (there / "x").exists()


def space_of(there: Path) -> Space:
    return read_space(str(there / "widths.yaml"))


def test_a_trial_that_fails_is_named_with_its_settings(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    works = {
        "device": "cpu",
        "parameters": 100,
        "steps": 3,
        "epoch_seconds": 60.0,
        "memory": 2**30,
        "device_memory": 0,
    }
    answers: list[dict[str, Any]] = [works, works, {"device": "cpu", "error": "no room"}]
    monkeypatch.setattr(tryout, "_tried", lambda *_: answers)
    with pytest.raises(ConfigError) as failed:
        try_space(space_of(there), "widths.yaml", None, RunOptions().placement(space_of(there)))
    assert str(failed.value) == (
        "widths.yaml: the largest trial cannot be trained: no room\n"
        "  hidden_channels=10 batch_size=256"
    )
    assert cells(capsys.readouterr().out, "memory") == ["1.00 GiB", "1.00 GiB", "failed"]


def test_a_trial_that_the_system_kills_is_told_as_one_without_room(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Linux does it to the process that takes the most."""
    kills = "import os, signal; print('{}', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(tryout, "_PROGRAM", kills)
    trial = read_trial(str(there / "trial.yaml"))
    assert tryout._tried([trial, trial], None, "cpu") == [
        {},
        {"error": "the system killed it, as it does where memory is full"},
    ]


def test_a_process_that_breaks_is_no_trial_that_fails(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tryout, "_PROGRAM", "raise SystemExit('broken')")
    with pytest.raises(Exception, match="exit code 1\n  broken"):
        tryout._tried([read_trial(str(there / "trial.yaml"))], None, "cpu")


def test_what_is_too_much_memory_at_a_time_is_told(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placement = RunOptions(concurrency=2, cpus_per_trial=0.1).placement(space_of(there))
    assert tryout._memory([{"memory": 2**50}], placement).startswith("2 at a time may need 2097152")
    assert tryout._memory([{"memory": 2**20}], placement) == ""


def test_a_loss_that_is_no_number_is_found_in_the_first_steps(there: Path) -> None:
    trial = read_trial(str(there / "trial.yaml"), ["optimizer.learning_rate=1e30"])
    answer = tryout._tried([trial], None, "cpu")
    assert "became nan" in json.dumps(answer) or "became inf" in json.dumps(answer)


def test_an_epoch_takes_as_long_as_its_steps(there: Path) -> None:
    trial = read_trial(str(there / "trial.yaml"))
    task = load(trial.data)
    tried = try_out(trial, task, "cpu")
    assert tried.steps == -(-len(task.train) // trial.training.batch_size)
    assert tried.device_memory == 0
