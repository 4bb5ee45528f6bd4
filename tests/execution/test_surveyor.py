"""The process that has PyTorch for a driver that has not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ckconv_sweep.config.read import read_space
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import CkconvSweepError, ConfigError
from ckconv_sweep.execution import surveyor
from ckconv_sweep.execution.surveyor import Surveyor
from ckconv_sweep.models.parameters import parameters_of

REPOSITORY = Path(__file__).parents[2]

DRIVER = """
import json, sys
from ckconv_sweep.config.read import read_space
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.execution import packs
from ckconv_sweep.execution.desk import Desk
from ckconv_sweep.execution.executor import RayExecutor
from ckconv_sweep.execution.surveyor import Surveyor
from ckconv_sweep.sweep import driver
from ckconv_sweep.tracking.outbox import Tracker
from ckconv_sweep.training.shape import why_alone
surveyor = Surveyor()
trials = [read_space("quickstart", [f"model.blocks={n}"]).trial for n in (1, 3)]
sizes = [surveyor.parameters_of(trial) for trial in trials]
split_otherwise = trials[0].data.model_copy(update={"split_seed": 7})
identities = [dict(surveyor.identity_of(data)) for data in (trials[0].data, split_otherwise)]
why_alone(trials[0])
print(json.dumps([sizes, identities, "torch" in sys.modules]))
"""


def test_a_driver_knows_sizes_and_data_without_loading_pytorch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    sizes, (identity, other), has_pytorch = json.loads(done.stdout)
    trials = [read_space("quickstart", [f"model.blocks={n}"]).trial for n in (1, 3)]
    assert sizes == [parameters_of(trial) for trial in trials]
    assert identity == load(trials[0].data).identity
    assert other["digest"] != identity["digest"]
    assert not has_pytorch


TRIAL = read_space("quickstart", ()).trial
BESIDE = """
import json, os, sys
for question in sys.stdin:
    {}
"""
"""A process without PyTorch in the place of the real one."""


def beside(monkeypatch: pytest.MonkeyPatch, answer: str) -> Surveyor:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(surveyor, "_PROGRAM", BESIDE.format(answer))
    return Surveyor()


def test_an_error_of_that_process_is_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"kind": "ConfigError", "message": "no such folder", "where": "uea", "hint": "get it"}
    asked = beside(monkeypatch, f"print(json.dumps({{'error': {error!r}}}), flush=True)")
    with pytest.raises(ConfigError, match="uea: no such folder\n  get it"):
        asked.identity_of(TRIAL.data)
    asked.close()


@pytest.mark.fault("surveyor-killed")
def test_a_process_that_was_killed_is_started_again_once_a_question(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    died = tmp_path / "died"
    asked = beside(
        monkeypatch,
        f"there = os.path.exists({str(died)!r}); open({str(died)!r}, 'w').close(); "
        "print('{\"answer\": 12}', flush=True) if there else os.kill(os.getpid(), 9)",
    )
    assert asked.parameters_of(TRIAL) == 12
    asked.close()
    asked = beside(monkeypatch, "os.kill(os.getpid(), 9)")
    with pytest.raises(CkconvSweepError, match="died twice"):
        asked.parameters_of(TRIAL)


class _Interrupt(Exception):
    """As a signal raises one while its answer is waited for."""


def test_an_answer_that_nobody_waits_for_any_more_is_not_taken_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise _Interrupt

    asked = beside(
        monkeypatch,
        "import time; 'trial' in json.loads(question) or time.sleep(60); "
        "print('{\"answer\": 3}', flush=True)",
    )
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(_Interrupt):
            asked.identity_of(TRIAL.data)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert asked.parameters_of(TRIAL) == 3
    asked.close()


def test_what_it_writes_for_a_person_comes_to_where_the_driver_writes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = beside(
        monkeypatch,
        "print('half of it', file=sys.stderr, flush=True); print('{\"answer\": 3}', flush=True)",
    )
    assert asked.parameters_of(TRIAL) == 3
    asked.close()
    assert capsys.readouterr().err == "half of it\n"
