"""`confirm` as a user types it."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from sweep.in_process import Machine, formula, machine, make_space

from ckconv_sweep.cli.progress import LiveView, PlainLines
from ckconv_sweep.cli.watch import _budget_changed
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.doctor.finding import Examined
from ckconv_sweep.doctor.records import examine_study
from ckconv_sweep.record.confirmation import note_session
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.requests import Request
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.confirmable import planned
from ckconv_sweep.report.progress import Progress
from ckconv_sweep.sweep.asking import ask
from ckconv_sweep.sweep.interruption import Interruption

from .commands import PROGRAM, ckconv_sweep, copied, ended, environment, refused, typed_here

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def timed(trial: Trial, number: int) -> Epoch:
    """With all that a view shows."""
    epoch = formula(trial, number)
    return replace(epoch, metrics={**epoch.metrics, "train/loss": 1.0, "time/epoch_seconds": 2.0})


def swept(root: Path, trials: int = 4, *, begun: int = 0) -> Machine:
    """A sweep that has ended, with so many epochs of its confirmation."""
    one = machine(root, make_space(trials=trials), name="mine", work=timed)
    assert one.run()
    with one.folder.records.open() as study:
        confirms = replace(one, plan=planned(study, 2, 3))
    if begun:
        with confirms.session() as session:
            for _ in range(begun):
                assert session.step()
    return confirms


def confirmations(folder: SweepFolder) -> list[TrialRecord]:
    with folder.records.open() as study:
        return study.confirmations()


def test_status_list_and_doctor_say_how_far_a_confirmation_is_and_how_to_go_on(
    tmp_path: Path,
) -> None:
    one = swept(tmp_path, begun=8)
    there = ("--sweeps-dir", tmp_path)
    told = "confirmation: 2 of at most 9 trials trained; to continue: ckconv-sweep confirm mine"
    assert told in typed_here("status", "mine", *there)
    assert "2 of 9" in typed_here("list", *there)
    examined = Examined(folder=one.folder, tracking_uri=None, runs=False)
    findings, known = examine_study(examined)
    (finding,) = (f for f in findings if f.message.startswith("confirmation"))
    assert finding.level == "warning"
    assert finding.todo == one.folder.command("confirm")
    assert known.finished
    assert [record.number for record in known.records] == list(range(7))
    assert one.run()
    told = "confirmation: finished, 9 trials trained; to read it: ckconv-sweep confirm mine"
    assert told in typed_here("status", "mine", *there)
    assert told in typed_here("best", "mine", *there, "--out", tmp_path / "best.yaml")
    assert "confirmed" in typed_here("list", *there)
    findings, _ = examine_study(examined)
    assert [f.level for f in findings] == ["ok"]


def test_the_live_view_and_plain_lines_count_what_is_confirmed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = swept(tmp_path)
    progress = Progress(one.space.metrics, one.space, 0, one.plan)
    progress.begin(())
    view = LiveView("mine", one.space.metrics, progress, Console(), since=0.0)
    counts = []

    class Looks(PlainLines):
        def hear(self, event: object) -> None:
            super().hear(event)  # type: ignore[arg-type]
            progress.hear(event)  # type: ignore[arg-type]
            counts.append(view._counts())

    one.listeners = (Looks(one.space.metrics),)
    assert one.run()
    whole = "9 of at most 9 trials ended (9 completed, 0 pruned, 0 failed), 0 running"
    assert counts[-1] == f"mine: confirming, {whole}"
    said = capsys.readouterr().out
    assert re.search(r"t004 started: .*learning_rate=\S+ .*\(confirms t00\d, seed 0\)\n", said)
    assert "t006 started: base trial (confirms base, seed 0)\n" in said
    assert "seed=" not in said


def test_only_the_driver_that_confirms_is_followed_as_one_and_added_trials_wait_for_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, there = swept(tmp_path, begun=8), ("--sweeps-dir", tmp_path)
    said: list[str] = []
    with ThreadPoolExecutor() as threads, one.folder.records.lock():
        assert "to continue: ckconv-sweep confirm" in typed_here("status", "mine", *there)
        with one.folder.records.open_for_writing() as study:
            note_session(study, confirms=True)
        assert "; it runs now" in typed_here("status", "mine", *there)
        ask(one.folder, [Request(kind="add", params=dict(one.records()[0].params))], said.append)
        assert "waits until the search is resumed: ckconv-sweep resume mine" in said[0]
        watching = threads.submit(_budget_changed, one.folder, Interruption())
        told = ""
        while "a line for each follows" not in told and not watching.done():
            told += capsys.readouterr().out
            time.sleep(0.01)
    assert watching.result() is False
    assert "confirming: 2 of at most 9 trials ended; a line for each follows" in told
    assert "to continue: ckconv-sweep confirm" in typed_here("status", "mine", *there)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--top", 3), "--top 3: the confirmation of mine was begun with --top 2"),
        (("--top", 0), "greater than or equal to 1"),
        (("--seeds", 2), "greater than or equal to 3"),
        (("--trials", 9), "No such option"),
        (("--on-best", "true"), "No such option"),
    ],
)
def test_what_cannot_be_confirmed_so_is_refused(
    words: tuple[object, ...], told: str, tmp_path: Path
) -> None:
    swept(tmp_path, begun=1)
    done = ckconv_sweep("confirm", "mine", *words, "--sweeps-dir", tmp_path, cwd=tmp_path)
    assert told in re.sub(r"\s+", " ", refused(done))


def test_a_sweep_that_runs_and_one_that_is_not_there_are_not_confirmed(tmp_path: Path) -> None:
    one = swept(tmp_path)
    with one.folder.records.lock():
        done = ckconv_sweep("confirm", "mine", "--sweeps-dir", tmp_path, cwd=tmp_path)
        assert "runs this sweep" in refused(done, code=75)
    done = ckconv_sweep("confirm", "other", "--sweeps-dir", tmp_path, cwd=tmp_path)
    assert "there is no sweep 'other'" in refused(done)
    assert confirmations(one.folder) == []


# With Ray


def confirming(here: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PROGRAM, "confirm", "small", "--top", "2", "--seeds", "3", *words],
        cwd=here,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def ended_after(line: str, process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal once such a line is printed; what is printed from then on."""
    assert process.stdout is not None
    for said in process.stdout:
        if line in said:
            process.send_signal(number)
            return process.communicate(timeout=60)[0]
    pytest.fail("it ended too early")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_confirmation_killed_and_stopped_ends_whole_and_the_search_is_as_it_was(
    finished: Path, here: Path
) -> None:
    copied(finished / "sweeps", here / "sweeps")
    reads = [
        ("table", "small", "--format", "csv"),
        ("status", "small", "--json"),
        ("best", "small"),
    ]
    before = [ended(ckconv_sweep(*words, cwd=here)) for words in reads]

    killed = confirming(here)
    ended_after("confirming: 1 of", killed, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    stopped = confirming(here)
    said = ended_after("confirming: 3 of", stopped, signal.SIGINT)
    assert stopped.returncode == 130
    assert "stopped; every recorded epoch is kept. confirmation: " in said
    assert "resume with: ckconv-sweep confirm small" in said
    while SweepFolder.of(here / "sweeps", "small").records.holder() is not None:
        time.sleep(0.1)
    done = ended(ckconv_sweep("confirm", "small", cwd=here))
    assert "test split" in done

    records = confirmations(SweepFolder.of(here / "sweeps", "small"))
    pairs = Counter((r.confirms, r.seed_index) for r in records)
    assert set(pairs.values()) == {1}
    assert {r.outcome for r in records} == {"completed"}
    assert len(records) in (6, 9)  # the base trial's settings may be among the best
    for record in records:
        assert [e.number for e in record.history] == [1, 2, 3]
    assert [ended(ckconv_sweep(*words, cwd=here)) for words in reads] == before
    with sqlite3.connect(here / "sweeps" / "mlflow.db") as database:
        roles = Counter(v for (v,) in database.execute("select value from tags where key = 'role'"))
    assert roles == {"sweep": 1, "trial": 3, "confirm": len(records)}
    again = ended(ckconv_sweep("confirm", "small", cwd=here))
    assert again.splitlines()[-4:] == done.splitlines()[-4:]
    assert len(json.loads(before[1])["best_params"]) == 2
