"""A sweep's study is an Optuna study like any other: the Optuna dashboard shows it as it is."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.ports import free_port
from ckconv_sweep.record.folder import SweepFolder

from .commands import copied, environment

PROGRAM = Path(sys.executable).with_name("optuna-dashboard")


def asked(url: str) -> Any:
    """What a page of the dashboard answers, as soon as it answers."""
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)
        time.sleep(0.1)
    raise AssertionError("the dashboard does not answer")


@contextlib.contextmanager
def dashboard(study: Path, home: Path) -> Iterator[str]:
    """Its address, while it runs."""
    if not PROGRAM.exists():
        pytest.skip("needs the Optuna dashboard: pip install -e '.[dashboard]'")
    port = free_port()
    process = subprocess.Popen(
        [PROGRAM, f"sqlite:///{study}", "--host", "127.0.0.1", "--port", str(port)],
        env=environment(HOME=str(home)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.slow
def test_the_optuna_dashboard_shows_every_trial_of_a_sweep(finished: Path, tmp_path: Path) -> None:
    folder = SweepFolder.of(tmp_path, "small")
    copied(finished / "sweeps" / "small", folder.root)
    with folder.records.open() as study:
        records, uid = study.trials(), study.uid
    with dashboard(folder.records.path, tmp_path) as address:
        (known,) = asked(f"{address}/api/studies")["study_summaries"]
        assert known["study_name"] == uid  # its folder may be renamed
        shown = asked(f"{address}/api/studies/{known['study_id']}?after=0")["trials"]
    assert len(shown) == len(records) == 3
    for trial, record in zip(shown, records, strict=True):
        assert (trial["number"], trial["state"]) == (record.number, "Complete")
        drawn = {p["name"]: float(p["param_external_value"]) for p in trial["params"]}
        assert drawn == pytest.approx(dict(record.params))
        steps = {point["step"]: point["value"] for point in trial["intermediate_values"]}
        assert steps == {e.number: e.metrics["val/accuracy"] for e in record.history}
        assert trial["values"] == [max(steps.values())]
    with folder.records.open() as study:  # looking changed nothing
        assert study.trials() == records
        assert study.contradictions() == []
