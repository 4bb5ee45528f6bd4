"""A session that has to be over at a given time, although its sweep is not."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from ckconv_sweep.cli.session_hours import ends_at, job_end
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.sweep.interruption import Interruption
from ckconv_sweep.sweep.session_end import MARGIN, SessionEnd

from .in_process import Machine, formula, make_space
from .test_coordinator import machine


def of_minutes(one: Machine, minutes: float) -> None:
    def work(trial: Trial, number: int) -> Epoch:
        one.clock.now += minutes * 60
        epoch = formula(trial, number, at=one.clock.now)
        return Epoch(
            number=number,
            metrics={**epoch.metrics, "time/epoch_seconds": minutes * 60},
            timestamp_ms=epoch.timestamp_ms,
        )

    one.work = work


def test_nothing_is_handed_out_that_cannot_make_an_epoch_and_running_epochs_end(
    disk: Path,
) -> None:
    """Epochs of 10 minutes, two trials in turns, in a session of an hour."""
    one = machine(disk, make_space(trials=4, epochs=4), concurrency=2)
    of_minutes(one, 10)
    with one.session() as session:
        begun = one.clock.now
        session.coordinator._session_end = SessionEnd(begun + 3600, clock=one.clock)
        session.run()
        assert session.coordinator.session_ends
        assert not session.coordinator.time_is_up
    # After 50 minutes no other epoch begins: it might not end in time. The one that runs does.
    assert one.clock.now - begun == 3600
    assert [(r.outcome, len(r.history)) for r in one.records()] == [("running", 3)] * 2
    assert one.run()
    assert {record.outcome for record in one.records()} == {"completed"}
    assert set(one.executed.values()) == {1}


def test_a_session_knows_how_long_the_epochs_of_earlier_ones_took(disk: Path) -> None:
    one = machine(disk, make_space(trials=1, epochs=2), concurrency=1)
    of_minutes(one, 20)
    assert one.run()
    end = SessionEnd(one.clock.now + MARGIN * 1200, clock=one.clock)
    assert not end.is_near
    end.heard_all(one.records())
    assert end.is_near


def test_without_a_time_a_session_never_ends_by_itself() -> None:
    assert not SessionEnd().is_near
    assert SessionEnd(asked=lambda: True).is_near


def test_sigusr1_ends_the_session_and_interrupts_nothing() -> None:
    with Interruption(later=True).caught() as interruption:
        signal.raise_signal(signal.SIGUSR1)
        interruption.check()
        assert interruption.ends_session
        assert not interruption.came


def test_auto_is_the_end_of_the_slurm_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert job_end({"SLURM_JOB_END_TIME": "1764550800", "SLURM_JOB_ID": "7"}) == 1764550800
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        "#!/bin/sh\n[ $3 = 7 ] || { echo 'Invalid job id specified' >&2; exit 1; }\n"
        "echo 'JobId=7 JobName=x StartTime=2026-12-01T00:00:00 EndTime=2026-12-01T01:00:00'\n"
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    local = ["date", "-d", "2026-12-01T01:00:00", "+%s"]
    assert job_end({"SLURM_JOB_ID": "7"}) == float(subprocess.check_output(local))
    with pytest.raises(ConfigError, match="Invalid job id specified"):
        job_end({"SLURM_JOB_ID": "8"})
    scontrol.write_text("#!/bin/sh\necho EndTime=Unknown\n")
    with pytest.raises(ConfigError, match="EndTime=Unknown"):
        job_end({"SLURM_JOB_ID": "7"})


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf"])
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be hours, or auto"):
        ends_at(text)


def test_auto_without_slurm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    with pytest.raises(ConfigError, match="this is none"):
        ends_at("auto")
