"""A running sweep, and what happens to it: Ctrl-C, a job's end, a reader that leaves."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from thinned import first

from benchmarks.chaos.driver import Conditions, command
from benchmarks.chaos.state import trained_again

from .commands import NOBODY, PROGRAM, REPOSITORY, ckconv_sweep, ended, environment


@pytest.fixture
def here(here: Path, empty_database: Path) -> Path:
    """With MLflow's tables: on a busy machine a sweep is stopped before they are made."""
    (here / "sweeps").mkdir(mode=0o700)
    shutil.copy(empty_database, here / "sweeps" / "mlflow.db")
    return here


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


def names_in(pid: int) -> set[str]:
    """The names of the programs of a process's family."""
    names = set()
    for member, _ in family(pid):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{member}/cmdline").read_bytes()
            names.add(Path(os.fsdecode(line.split(b"\0")[0])).name)
    return names


def status_of_the_sweeps_run(here: Path) -> str:
    with sqlite3.connect(here / "sweeps" / "mlflow.db") as database:
        ((status,),) = database.execute(
            "select r.status from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'role' and t.value = 'sweep'"
        ).fetchall()
    return str(status)


EPOCHS = 60
BEGINS = "reading the data and starting Ray\n"
"""What a launch without a terminal says before anything else."""
LONGER = f"--set=training.epochs={EPOCHS}"


def ended_by(signals: list[signal.Signals], here: Path, after: str) -> tuple[int, str]:
    """Launch, send the signals once a line with `after` is printed, and check what must hold
    whichever they are: it ends soon, without a traceback, and leaves no process. Returns the exit
    code and the last line."""
    process = launched(here, LONGER)
    try:
        wait_for(after, process)
        started = family(process.pid)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.05)
        rest, complaint = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "Traceback" not in complaint
    assert len(started) > 3  # Ray's were among them
    deadline = time.monotonic() + 5
    while (left := started & processes().keys()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == set()
    return process.returncode, (rest.splitlines() or [""])[-1]


def check_stopped(here: Path, last_line: str) -> None:
    assert last_line == (
        "stopped: 0 ended trials and every recorded epoch are kept; 1 unfinished; "
        "resume with: ckconv-sweep resume small"
    )
    assert status_of_the_sweeps_run(here) == "KILLED"
    status = json.loads(ended(ckconv_sweep("status", "small", "--json", cwd=here)))
    assert (status["state"], status["unfinished"]) == ("interrupted", 1)


@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.fault("driver-sigterm")
@pytest.mark.fault("driver-sigint")
@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGINT],
        pytest.param([signal.SIGTERM, signal.SIGINT, signal.SIGHUP], marks=pytest.mark.slow),
    ],
    ids=["by hand", "preempted, by hand, by its terminal"],
)
def test_a_sweep_that_is_stopped_again_and_again_ends_as_if_undisturbed(
    signals: list[signal.Signals], here: Path
) -> None:
    """Each session costs a start of Ray."""
    for session, number in enumerate(signals):
        code, last = ended_by([number], here, f"t000 epoch {2 + 4 * session}/{EPOCHS}")
        assert code == 128 + number
        check_stopped(here, last)

    command = ["launch", "small.yaml", "--concurrency", "1", "--trials", "2", LONGER]
    again = ended(ckconv_sweep(*command, cwd=here))
    assert "t000 started again after epoch " in again
    assert f"t000 epoch 1/{EPOCHS}" not in again
    assert "small: 2 trials completed" in again
    assert status_of_the_sweeps_run(here) == "FINISHED"
    for trial, stops in (("0000", len(signals)), ("0001", 0)):
        ledger = here / "sweeps" / "small" / "trials" / trial / "ledger.jsonl"
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]
        assert {line["epoch"] for line in lines} == set(range(1, EPOCHS + 1))
        assert trained_again(lines) <= stops


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.fault("second-signal")
def test_ctrl_c_twice_ends_the_sweep_at_once_and_it_goes_on_all_the_same(here: Path) -> None:
    code, _ = ended_by([signal.SIGINT] * 2, here, f"t000 epoch 9/{EPOCHS}")
    assert code == 128 + signal.SIGINT
    again = ended(ckconv_sweep("resume", "small", "--concurrency", "1", cwd=here))
    assert "t000 started again after epoch " in again
    assert "small: 2 trials completed" in again


@pytest.mark.fault("no-terminal")
def test_a_sweep_goes_on_when_its_reader_has_gone(here: Path) -> None:
    os.mkfifo(here / "said")
    options = ["--sweeps-dir", here / "sweeps", "--concurrency", 1, "--trials", 2]
    process = command(
        ["launch", here / "small.yaml", *options], here / "said", Conditions(digits=True)
    )
    with (here / "said").open() as said:
        assert said.readline()
    assert process.wait() == 0
    status = json.loads(ended(ckconv_sweep("status", "small", "--json", cwd=here)))
    assert (status["state"], status["completed"]) == ("finished", 2)


@pytest.mark.ray
@pytest.mark.fault("ray-dies")
@pytest.mark.parametrize("program", [pytest.param("raylet", marks=pytest.mark.slow), "gcs_server"])
def test_a_process_of_ray_that_dies_ends_the_sweep_soon_with_the_command_that_resumes_it(
    program: str, here: Path
) -> None:
    process = launched(here, "--set=training.epochs=1000")
    try:
        wait_for("t000 epoch 2/", process)
        for pid, _ in family(process.pid):
            name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
            if name.endswith(f"/{program}".encode()):
                os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        _, complaint = process.communicate(timeout=120)
    finally:
        process.kill()
    assert time.monotonic() - killed < 30  # Ray itself takes a minute, or waits for ever
    assert process.returncode == 75
    assert complaint.startswith(BEGINS)
    lines = complaint.removeprefix(BEGINS).splitlines()
    assert lines[0].startswith(f"error: Ray's {program} on this machine died")
    assert lines[1] == "  to continue: ckconv-sweep resume small"
    assert len(lines) <= 3  # and where Ray's own lines are
    assert "\x1b" not in complaint
    status = json.loads(ended(ckconv_sweep("status", "small", "--json", cwd=here)))
    assert (status["state"], status["unfinished"]) == ("interrupted", 1)


@pytest.mark.ray
@pytest.mark.fault("driver-sigint")
@pytest.mark.fault("ray-does-not-start")
def test_ctrl_c_while_ray_starts_ends_the_launch_and_leaves_no_trace(here: Path) -> None:
    process = launched(here)
    try:
        deadline = time.monotonic() + 60
        while not names_in(process.pid) & {"gcs_server"} and time.monotonic() < deadline:
            time.sleep(0.02)
        started = family(process.pid)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, complaint) == (130, BEGINS)
    deadline = time.monotonic() + 5
    while (left := started & processes().keys()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == set()
    assert not (here / "sweeps" / "small").exists()


AT_AN_IMPORT = """
import os, sys
from ckconv_sweep.__main__ import main
wanted, number = sys.argv.pop(1), int(sys.argv.pop(1))
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Finder())
main()
"""
TRAIN = ("train", "trial.yaml", "--set=training.epochs=100000", "--tracking-uri", NOBODY)


@pytest.mark.fault("driver-sigint")
@pytest.mark.fault("driver-sigterm")
@pytest.mark.parametrize(
    ("module", "number", "arguments"),
    [
        ("typer", signal.SIGINT, TRAIN),
        ("pydantic", signal.SIGHUP, ("validate", "small.yaml")),
        ("numpy._core.printoptions", signal.SIGINT, TRAIN),  # what NumPy then does ends in an error
        ("torch._C", signal.SIGTERM, TRAIN),
        ("optuna", signal.SIGINT, ("launch", "small.yaml")),
        ("ckconv_sweep.data.digits", signal.SIGINT, TRAIN),  # in a session that hears signals
    ],
)
def test_a_signal_while_a_module_is_imported_is_one_line_and_its_exit_code(
    module: str, number: signal.Signals, arguments: tuple[str, ...], here: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_AN_IMPORT, module, str(int(number)), *arguments],
        cwd=here,
        env=environment(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 128 + number
    if done.stdout:
        assert done.stdout.splitlines()[-1].startswith("stopped: every finished epoch is kept in ")
        assert done.stderr == ""
    else:
        assert done.stderr == f"stopped by {number.name}\n"


def hears_signals(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM, which Python itself has not."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught, 16) & 1 << signal.SIGTERM - 1)


@pytest.mark.fault("driver-sigint")
@pytest.mark.fault("driver-sigterm")
@pytest.mark.parametrize("number", first(1, [signal.SIGINT, signal.SIGTERM]))
def test_a_signal_at_any_moment_of_train_is_one_line_and_its_exit_code(
    number: signal.Signals, here: Path
) -> None:
    for seconds in (0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.8, 1.3, 2.0, 3.0):
        with subprocess.Popen(
            [sys.executable, "-m", "ckconv_sweep", *TRAIN],
            cwd=here,
            env=environment(PYTHONPATH=str(REPOSITORY)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while not hears_signals(process.pid):
                time.sleep(0.001)
            time.sleep(seconds)
            process.send_signal(number)
            said, complaint = process.communicate(timeout=30)
        assert process.returncode == 128 + number, (seconds, complaint)
        assert "Traceback" not in said + complaint, seconds
        last = (said.splitlines() or [complaint])[-1]
        assert last.startswith(("stopped: ", f"stopped by {number.name}\n")), (seconds, last)


def test_signals_are_heard_before_anything_else_is_imported() -> None:
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"ckconv-sweep": "ckconv_sweep.__main__:main"}
    look = "import ckconv_sweep.__main__, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", look],
        env=environment(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "ckconv_sweep.signals" in loaded
    assert not {"typing", "typer", "importlib", "ckconv_sweep.cli"} & set(loaded)
