"""The faults: each disturbs a sweep once, at a random moment."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.chaos.driver import AT_A_TIME, AT_RISK, Process
from benchmarks.chaos.nodes import Nodes, in_new_folder, session_of
from benchmarks.chaos.state import State, in_mlflow
from benchmarks.chaos.sweep import Plan, Sweep, pause
from ckconv_sweep.training.checkpoint import checkpoints

LONGEST_SESSION_SECONDS = 0.9
"""A moment of a session without Ray is drawn below this; a whole one takes about a second."""
LONGEST_STOP_SECONDS = 10.0

WITHOUT_RAY = Plan(trials=8, epochs=6)
WITH_RAY = Plan(trials=8, epochs=8, digits=True, ray=True)

Disturb = Callable[[Sweep, random.Random], int]
"""Disturbs a running session; returns how many faults hit work in flight."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A row of the table."""

    disturb: Disturb
    what: str
    plan: Plan = WITHOUT_RAY
    server: bool = False
    """Whether MLflow is a server behind a wire."""
    a_sweep: int = 8
    """How often one sweep is disturbed at most."""
    alternates: bool = False
    """Whether every second sweep uses TPE and asha. What these try and stop depends on the order
    in which trials end, so that nothing undisturbed is there to compare with, but every promise is
    checked."""


def _in_flight(state: State, driver: Process, code: int) -> int:
    """1 if a session that ended in this way was ended by us, and a trial of it was running."""
    return int(driver.code == code and not state.finished and bool(state.running))


def _wait_for_epochs(sweep: Sweep, driver: Process, more: int) -> None:
    """Wait until so many more epochs are executed, or the driver has ended."""
    wanted = _lines(sweep) + more
    while driver.runs and _lines(sweep) < wanted:
        time.sleep(0.02)


def _lines(sweep: Sweep) -> int:
    ledgers = sweep.folder.root.glob("trials/*/ledger.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in ledgers)


# Kills and signals


def kill_driver(sweep: Sweep, draws: random.Random) -> int:
    driver = sweep.launched()
    pause(LONGEST_SESSION_SECONDS, draws)
    code = driver.kill()
    sweep.allowed += AT_RISK * (code == -signal.SIGKILL)
    return _in_flight(sweep.look(), driver, -signal.SIGKILL)


def interrupt(*numbers: signal.Signals) -> Disturb:
    """Signals, one shortly after the other."""

    def disturb(sweep: Sweep, draws: random.Random) -> int:
        driver = sweep.launched()
        pause(LONGEST_SESSION_SECONDS, draws)
        for number in numbers:
            driver.send(number)
            pause(0.05, draws)
        sent = time.monotonic()
        code = driver.wait()
        if "Interrupted: " in driver.said():
            sweep.breaks(
                "wrong", f"{numbers} raised where nobody caught it: {driver.said()[:2000]}"
            )
        if code == 0 or "trials at a time" not in driver.said():
            sweep.look()  # it had ended, or had not begun
            return 0
        sweep.allowed += AT_RISK
        if code not in {128 + number for number in numbers}:
            sweep.breaks("wrong", f"{numbers} ended it with {code}: {driver.said()[-2000:]}")
        if time.monotonic() - sent > LONGEST_STOP_SECONDS:
            sweep.breaks("wrong", f"it ended {time.monotonic() - sent:.1f} s after {numbers}")
        state = sweep.look()
        if len(numbers) == 1 and not state.finished:
            if "stopped: " not in driver.said():
                sweep.breaks("wrong", f"it did not say what is kept: {driver.said()[-2000:]}")
            status = in_mlflow(sweep.database, sweep.name).status
            if status != "KILLED":
                sweep.breaks("wrong", f"after {numbers} the sweep's run in MLflow is {status}")
        return _in_flight(state, driver, code)

    return disturb


def two_drivers(sweep: Sweep, draws: random.Random) -> int:
    """Several drivers start at once; one may run, and is killed after a while."""
    drivers = [sweep.launched() for _ in range(draws.randint(2, 4))]
    pause(LONGEST_SESSION_SECONDS, draws)
    deadline = time.monotonic() + 5.0
    while sum(driver.runs for driver in drivers) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    left = [driver for driver in drivers if driver.runs]
    refused = [driver for driver in drivers if driver.code == 75]
    for driver in left:
        driver.kill()
    sweep.allowed += AT_RISK * len(left)
    state = sweep.look()
    shown = len(drivers) * state.finished  # a finished sweep is shown to each of them
    if len(left) + len(refused) + shown < len(drivers) - 1 or len(left) > 1:
        codes = [driver.code for driver in drivers]
        sweep.breaks("twice", f"of {len(drivers)} drivers at once these ended so: {codes}")
    for driver in refused:
        if "error: " not in driver.said() or "runs this sweep" not in driver.said():
            sweep.breaks("wrong", f"a second driver said {driver.said()[-1000:]}")
    return int(len(left) == 1 and bool(refused) and bool(state.running))


# The disk


def full_disk(sweep: Sweep, draws: random.Random) -> int:
    """No file may become larger than so many bytes: the study's log or MLflow's database, whichever
    is first. A new study needs about 200 kB, and an epoch 25 kB of its log."""
    driver = sweep.launched(largest_file=draws.randint(150_000, 900_000))
    code = driver.wait()
    sweep.allowed += AT_RISK * (code != 0)
    if code not in (0, 73):
        sweep.breaks("wrong", f"a full disk ended it with {code}: {driver.said()[-2000:]}")
    if code == 73 and "error: " not in driver.said():
        sweep.breaks("wrong", f"it did not say why: {driver.said()[-2000:]}")
    return _in_flight(sweep.look(), driver, 73)


def damaged_checkpoint(sweep: Sweep, draws: random.Random) -> int:
    """A bit of the newest checkpoint of each running trial is flipped, after a kill."""
    before = sweep.said().count("damaged: its SHA-256")
    expected = sum(_flip(path, draws) for path in _newest_checkpoints(sweep))
    sweep.allowed += expected
    driver = sweep.launched()
    _wait_for_epochs(sweep, driver, draws.randint(1, 4))  # so that there are checkpoints
    pause(0.1, draws)
    kept = driver.kill() != -signal.SIGKILL
    sweep.allowed += AT_RISK * (not kept)
    sweep.look()
    said = sweep.said().count("damaged: its SHA-256") - before
    if kept and said < expected:
        sweep.breaks("wrong", f"{expected} checkpoints were damaged, and {said} were told of")
    return expected


def _newest_checkpoints(sweep: Sweep) -> list[Path]:
    running = sweep.states[-1].running if sweep.states else []
    found = [checkpoints(sweep.folder.trial(number)) for number in running]
    return [newest[0][1] for newest in found if newest]


def _flip(path: Path, draws: random.Random) -> bool:
    content = bytearray(path.read_bytes())
    bit = draws.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return True


# MLflow


def tracking(mode: str) -> Disturb:
    """The wire to MLflow is cut for a while; half the time the driver is killed meanwhile."""

    def disturb(sweep: Sweep, draws: random.Random) -> int:
        server = sweep.server
        assert server is not None
        if draws.random() < 0.3:
            server.set_mode(mode)  # from the start
        driver = sweep.launched()
        pause(LONGEST_SESSION_SECONDS, draws)
        server.set_mode(mode)
        try:
            hit = driver.runs
            pause(LONGEST_SESSION_SECONDS, draws)
            if draws.random() < 0.5:
                sweep.allowed += AT_RISK * (driver.kill() == -signal.SIGKILL)
        finally:
            if draws.random() < 0.5:  # else it stays cut to the end of the session
                server.set_mode("open")
        code = driver.wait()
        server.set_mode("open")
        if code not in (0, -signal.SIGKILL):
            sweep.breaks("wrong", f"MLflow {mode} ended it with {code}: {driver.said()[-2000:]}")
        sweep.look()
        return int(hit and "trials at a time" in driver.said())

    return disturb


# With Ray


def kill_driver_with_ray(sweep: Sweep, draws: random.Random) -> int:
    driver = sweep.launched()
    _wait_for_epochs(sweep, driver, draws.randint(0, 4))
    pause(0.5, draws)
    code = driver.kill()
    sweep.allowed += AT_RISK * (code == -signal.SIGKILL)
    return _in_flight(sweep.look(), driver, -signal.SIGKILL)


def kill_workers(sweep: Sweep, draws: random.Random) -> int:
    """The worker of a running trial, again and again in one session, each trial at most twice
    (after the fourth time it would rightly fail)."""
    driver = sweep.launched()
    killed: dict[int, int] = {}
    hits = 0
    while driver.runs:
        _wait_for_epochs(sweep, driver, draws.randint(1, 3))
        pause(0.3, draws)
        candidates = [n for n in _being_trained(sweep) if killed.get(n, 0) < 2]
        if driver.runs and candidates:
            number = draws.choice(candidates)
            if _kill_worker(sweep, number):
                killed[number] = killed.get(number, 0) + 1
                sweep.allowed += 1
                hits += 1
    if driver.wait() != 0:
        sweep.breaks("wrong", f"it ended with {driver.code}: {driver.said()[-2000:]}")
    sweep.look()
    return hits


def kill_nodes(sweep: Sweep, draws: random.Random) -> int:
    """The node of a running trial, again and again in one session, while another one joins; each
    trial is struck at most twice. The head trains nothing."""
    hits, struck = 0, dict[int, int]()
    with in_new_folder() as folder:
        nodes = sweep.nodes = Nodes(folder, secrets.token_hex(32))
        try:
            nodes.add(cpus=0)
            training = [nodes.add() for _ in range(AT_A_TIME)]
            driver = sweep.launched()
            while driver.runs:
                _wait_for_epochs(sweep, driver, draws.randint(1, 3))
                pause(0.3, draws)
                where = {node: session_of(node.pid) for node in training}
                trials = _being_trained(sweep)
                candidates = [
                    (number, node)
                    for number in trials
                    for node in training
                    if _worker(sweep, number) in where[node] and struck.get(number, 0) < 2
                ]
                if not driver.runs or not candidates:
                    continue
                number, node = draws.choice(candidates)
                there = [n for n in trials if _worker(sweep, n) in where[node]]
                nodes.kill(node)
                struck |= {n: struck.get(n, 0) + 1 for n in there}
                sweep.allowed += len(there)
                hits += number in _being_trained(sweep)  # it had not ended yet
                training[training.index(node)] = nodes.add()
            if driver.wait() != 0:
                sweep.breaks("wrong", f"it ended with {driver.code}: {driver.said()[-2000:]}")
        finally:
            nodes.stop()
    sweep.look()
    return hits


def _being_trained(sweep: Sweep) -> list[int]:
    """Trials that have told an epoch and not their end."""
    if not sweep.folder.records.exists():
        return []
    with sweep.folder.records.open() as study:
        records = study.trials()
    return [record.number for record in records if record.outcome == "running" and record.history]


def _worker(sweep: Sweep, number: int) -> int:
    """The process that wrote the last line of a trial's ledger."""
    ledger = sweep.folder.trial(number) / "ledger.jsonl"
    return int(json.loads(ledger.read_text().splitlines()[-1])["pid"])


def _kill_worker(sweep: Sweep, number: int) -> bool:
    """Kill the process that trained a trial last, if it is still a worker that trains it."""
    pid = _worker(sweep, number)
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
            os.kill(pid, signal.SIGKILL)
            return number in _being_trained(sweep)  # it had not ended yet
    return False


FAULTS: dict[str, Fault] = {
    "driver-sigkill": Fault(disturb=kill_driver, alternates=True, what="SIGKILL of the driver"),
    "driver-sigint": Fault(disturb=interrupt(signal.SIGINT), what="Ctrl-C"),
    "driver-sigterm": Fault(disturb=interrupt(signal.SIGTERM), what="SIGTERM"),
    "driver-sighup": Fault(disturb=interrupt(signal.SIGHUP), what="SIGHUP"),
    "second-signal": Fault(
        disturb=interrupt(signal.SIGINT, signal.SIGINT), what="Ctrl-C twice within 50 ms"
    ),
    "two-drivers": Fault(
        disturb=two_drivers, what="2 to 4 drivers at once, the one that ran killed"
    ),
    "disk-full": Fault(disturb=full_disk, what="no file may grow any more (RLIMIT_FSIZE)"),
    "damaged-checkpoint": Fault(
        disturb=damaged_checkpoint, what="a bit of the newest checkpoints flipped after a kill"
    ),
    "tracking-down-midway": Fault(
        disturb=tracking("refused"), server=True, what="MLflow's server refuses connections"
    ),
    "tracking-hangs": Fault(
        disturb=tracking("hanging"), server=True, what="MLflow's server does not answer"
    ),
    "tracking-reply-lost": Fault(
        disturb=tracking("reply lost"), server=True, what="MLflow's answers are lost"
    ),
    "ray-driver-sigkill": Fault(
        disturb=kill_driver_with_ray,
        plan=WITH_RAY,
        a_sweep=3,
        alternates=True,
        what="SIGKILL of the driver, with Ray",
    ),
    "worker-killed": Fault(
        disturb=kill_workers, plan=WITH_RAY, a_sweep=1, what="SIGKILL of Ray workers"
    ),
    "node-killed": Fault(
        disturb=kill_nodes,
        plan=replace(WITH_RAY, epochs=60),
        a_sweep=1,
        what="SIGKILL of a node's raylet, in a cluster of three",
    ),
}
