"""`verify`: a real sweep whose trials are trained again, killed, and compared."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.cli.verified import compared, print_table
from ckconv_sweep.cli.verify import verify
from ckconv_sweep.errors import CkconvSweepError, ConfigError
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.rows import DIGEST, digest_of
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.search.drawn_again import Redrawn
from ckconv_sweep.sweep.killed import Killed
from ckconv_sweep.sweep.verified import Verification, Verified

from .commands import (
    PROGRAM,
    REPOSITORY,
    ckconv_sweep,
    copied,
    ended,
    environment,
    files_in,
    refused,
    rows,
)

RATE = "optimizer.learning_rate"


def test_a_trial_that_was_killed_twice_is_as_recorded_and_the_sweep_stays_as_it_is(
    finished: Path, here: Path
) -> None:
    copied(finished / "sweeps", here / "sweeps")
    root = here / "sweeps" / "small"
    before = files_in(here / "sweeps")
    for path in [*root.rglob("*"), root, here / "sweeps"]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    done = ckconv_sweep("verify", "small", "--trials", 1, "--keep", here / "kept", cwd=here)
    said = ended(done)
    assert files_in(here / "sweeps") == before
    killed = [line for line in done.stderr.splitlines() if ": killed in epoch" in line]
    assert len(killed) == 2
    assert said.endswith(
        "1 trial verified: all that was compared is as recorded, to the last bit\n"
        "metrics of 1, weights of 1, draws of 1 compared; killed 2 of 2 times\n"
    )
    (name,) = {line.partition(":")[0] for line in killed}
    kept = here / "kept" / name
    assert [path.name[:16] for path in sorted(kept.glob("checkpoint-*"))][-1] == "checkpoint-00003"
    ledger = [json.loads(x)["pid"] for x in (kept / "ledger.jsonl").read_text().splitlines()]
    assert 1 < len(set(ledger)) <= 3  # it took several processes, of which two were killed


def test_a_recorded_metric_that_was_damaged_is_told_with_both_values(
    finished: Path, here: Path
) -> None:
    copied(finished / "sweeps", here / "sweeps")
    was = changed(here / "sweeps", "small", 1, loss=0.125)
    done = ckconv_sweep("verify", "small", *("--trial", "t001"), *ONE, cwd=here)
    assert done.returncode == 4
    (one,) = rows(done.stdout)
    assert (one["metrics"], one["weights"], one["draw"]["told"]) == ("differ", "same", "same")
    assert one["differences"] == [
        f"val/loss: epoch 2 is recorded with 0.125, and has {was!r}; 1 of 3 epochs differ, by "
        f"{abs(was - 0.125):.3g} at most"
    ]
    assert one["reasons"] == []  # the digest is that of a driver, and nothing else has changed
    assert "error: small: 1 trial of 1 is not as recorded: t001" in done.stderr


def test_other_settings_than_the_recorded_ones_change_all_three_and_the_reason_is_told(
    finished: Path, here: Path
) -> None:
    copied(finished / "sweeps", here / "sweeps")
    changed(here / "sweeps", "small", 2, rate=0.0056, digested=False)
    done = ckconv_sweep("verify", "small", *("--trial", 2), *ONE, cwd=here)
    assert done.returncode == 4
    (one,) = rows(done.stdout)
    assert (one["metrics"], one["weights"], one["draw"]["told"]) == ("differ", "differ", "differs")
    assert any(f"draw: {RATE} 0.0056 is recorded, " in line for line in one["differences"])
    assert one["reasons"] == [
        "its record is not what the driver wrote when it ended: it was changed"
    ]


def verified(number: int, **said: Any) -> Verified:
    parts = {"kind": "completed", "epochs": 3, "metrics": "same", "weights": "same"}
    return Verified(number=number, **{"draw": Redrawn("same"), **parts, **said})


def test_what_could_not_be_compared_and_kills_that_did_not_come_are_not_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kill = Killed(epoch=1, kept=0)
    found = [
        verified(0, kills=(kill, kill), kills_wanted=2),
        verified(1, kills=(kill,), kills_wanted=2, weights="none kept"),
        verified(2, kills_wanted=2, draw=Redrawn("cannot be told", "the clock was set back")),
        verified(3, kills=(kill,), kills_wanted=2, draw=Redrawn("not drawn", "a person added it")),
    ]
    assert compared(found) == (
        "4 trials verified: all that was compared is as recorded, to the last bit\n"
        "metrics of 4, weights of 3, draws of 2 compared; killed 4 of 8 times"
    )
    assert "killed" not in compared([verified(0)])
    print_table(found)
    assert capsys.readouterr().out.splitlines()[-5:] == [
        "t001: killed 1 of 2 times: it ended before it could be killed again",
        "t002: it ended before it could be killed",
        "t002: draw: cannot be told: the clock was set back",
        "t003: killed 1 of 2 times: it ended before it could be killed again",
        "t003: draw: not drawn: a person added it",
    ]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CkconvSweepError("it ended with exit code 3", where="t001"), "t001: it ended with exit"),
        (ConfigError("is not there", where="/data/x"), "there (t001 was to be trained again)"),
    ],
)
def test_what_was_compared_is_shown_also_where_a_later_trial_cannot_be_trained(
    error: CkconvSweepError,
    told: str,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails_at_the_second(of: Verification, record: TrialRecord, study: object) -> Verified:
        if record.number == 1:
            raise error
        return verified(record.number)

    monkeypatch.setattr(Verification, "verified", fails_at_the_second)
    with pytest.raises(CkconvSweepError, match=re.escape(told)):
        verify("small", trial=[0, 1], keep=None, sweeps_dir=finished / "sweeps")
    said = capsys.readouterr().out
    assert "t000" in said
    assert "t001" not in said


@pytest.mark.slow
def test_an_interrupt_ends_the_child_too_and_leaves_no_scratch(finished: Path, here: Path) -> None:
    (here / "scratch").mkdir()
    args = ["verify", "small", "--kills", "99", "--sweeps-dir", str(finished / "sweeps")]
    verify = subprocess.Popen(
        [PROGRAM, *args],
        cwd=here,
        env=environment(TMPDIR=str(here / "scratch"), PYTHONPATH=str(REPOSITORY)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = Path(f"/proc/{verify.pid}/task/{verify.pid}/children")
    while verify.poll() is None and not (found := children.read_text().split()):
        time.sleep(0.01)
    verify.send_signal(signal.SIGINT)
    said, errors = verify.communicate(timeout=60)
    assert (verify.returncode, said) == (130, "")
    assert errors.endswith("stopped: 0 trials verified before\n")
    while any(map(runs, found)):  # Linux kills it when its parent has ended, at the latest
        time.sleep(0.01)
    assert list((here / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["other"], "there is no sweep 'other'"),
        (["small", "--trial", "t099"], "there is no trial 99"),
        (["small", "--trial", "x"], "'x' is no trial; write it as in t017 or 17"),
        (["small", "--keep", "."], "--keep .: must be a new folder, or an empty one"),
        (["small", "--device", "tpu"], "--device: must be auto, cpu or cuda, got 'tpu'"),
    ],
)
def test_what_cannot_be_verified_is_refused(
    args: list[str], message: str, finished: Path, here: Path
) -> None:
    where = ["--sweeps-dir", finished / "sweeps"]
    (here / "mine").touch()
    assert message in refused(ckconv_sweep("verify", *args, *where, cwd=here))


def runs(pid: str) -> bool:
    """Whether a process has not ended; a zombie has."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


ONE = ("--trials", 1, "--kills", 0, "--json")


def changed(
    sweeps: Path,
    name: str,
    number: int,
    *,
    loss: float | None = None,
    rate: float | None = None,
    digested: bool = True,
) -> float:
    """Change what the study holds of an ended trial, with the digest that a driver would have
    written, if wanted; returns the loss of its second epoch as it was."""
    folder = SweepFolder.existing(sweeps, name)
    with sqlite3.connect(folder.records.path) as database:
        (trial_id,) = database.execute(
            "select trial_id from trials where number = ?", [number]
        ).fetchone()
        of = "trial_user_attributes where key = 'epoch:2' and trial_id = ?"
        (text,) = database.execute(f"select value_json from {of}", [trial_id]).fetchone()
        epoch = json.loads(text)
        was = float(epoch["metrics"]["val/loss"])
        if loss is not None:
            epoch["metrics"]["val/loss"] = loss
            database.execute(
                "update trial_user_attributes set value_json = ? where key = 'epoch:2' and "
                "trial_id = ?",
                [json.dumps(epoch), trial_id],
            )
        if rate is not None:
            database.execute(
                "update trial_params set param_value = ? where param_name = ? and trial_id = ?",
                [rate, RATE, trial_id],
            )
    database.close()
    if digested:
        with folder.records.open() as study:
            digest = digest_of(study._frozen.all()[number])
        with sqlite3.connect(folder.records.path) as database:
            database.execute(
                "update trial_user_attributes set value_json = ? where key = ? and trial_id = ?",
                [json.dumps(digest), DIGEST, trial_id],
            )
        database.close()
    return was
