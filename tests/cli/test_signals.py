"""A running sweep, and what happens to it: Ctrl-C, a job's end, a reader that leaves."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from .commands import PROGRAM, ckconv_sweep, ended, environment

pytestmark = pytest.mark.ray


def launched(here: Path, *options: str) -> subprocess.Popen[str]:
    """A sweep of one trial at a time, in a session of its own."""
    return subprocess.Popen(
        [PROGRAM, "launch", "small.yaml", "--concurrency", "1", "--trials", "2", *options],
        cwd=here,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(text: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail("it ended too early")


def processes() -> dict[tuple[int, str], tuple[int, int]]:
    """(pid, start) of every process that lives -> (parent, session)."""
    out = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if fields[0] != "Z":
            out[int(stat.parent.name), fields[19]] = (int(fields[1]), int(fields[3]))
    return out


def family(pid: int) -> set[tuple[int, str]]:
    """A process, what it started, and what is in its session."""
    alive = processes()
    known = {pid}
    while True:
        more = {p for (p, _), (parent, session) in alive.items() if parent in known}
        more |= {p for (p, _), (_, session) in alive.items() if session == pid}
        if more <= known:
            return {key for key in alive if key[0] in known}
        known |= more


def status_of_the_sweeps_run(here: Path) -> str:
    with sqlite3.connect(here / "sweeps" / "mlflow.db") as database:
        ((status,),) = database.execute(
            "select r.status from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'role' and t.value = 'sweep'"
        ).fetchall()
    return str(status)


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)],
    ids=lambda n: n.name,
)
def test_a_signal_ends_the_sweep_soon_with_one_line_and_leaves_no_process(
    number: signal.Signals, here: Path
) -> None:
    epochs = "--set=training.epochs=15"
    process = launched(here, epochs)
    try:
        wait_for("t000 epoch 2/15", process)
        started = family(process.pid)
        process.send_signal(number)
        sent = time.monotonic()
        rest, complaint = process.communicate(timeout=30)
        assert time.monotonic() - sent < 10
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert "Traceback" not in complaint
    last = rest.splitlines()[-1]
    assert last == (
        "stopped: 0 ended trials and every recorded epoch are kept, 1 will go on; "
        "resume with: ckconv-sweep resume small"
    )
    assert len(started) > 3  # Ray's were among them
    deadline = time.monotonic() + 5
    while (left := started & processes().keys()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == set()
    assert status_of_the_sweeps_run(here) == "KILLED"
    status = json.loads(ended(ckconv_sweep("status", "small", "--json", cwd=here)))
    assert (status["state"], status["unfinished"]) == ("interrupted", 1)
    if number is signal.SIGTERM:
        return

    command = ["launch", "small.yaml", "--concurrency", "1", "--trials", "2", epochs]
    again = ended(ckconv_sweep(*command, cwd=here))
    assert "t000 started again after epoch " in again
    assert "t000 epoch 1/15" not in again
    assert "small: 2 trials completed" in again
    assert status_of_the_sweeps_run(here) == "FINISHED"
    for trial in ("0000", "0001"):
        ledger = here / "sweeps" / "small" / "trials" / trial / "ledger.jsonl"
        epochs_run = [json.loads(line)["epoch"] for line in ledger.read_text().splitlines()]
        assert sorted(set(epochs_run)) == list(range(1, 16))
        assert len(epochs_run) <= 15 + 1  # at most one epoch was trained again


def test_a_sweep_goes_on_when_its_reader_has_gone(here: Path) -> None:
    process = launched(here)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        _, complaint = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, complaint) == (0, "")
    status = json.loads(ended(ckconv_sweep("status", "small", "--json", cwd=here)))
    assert (status["state"], status["completed"]) == ("finished", 2)
