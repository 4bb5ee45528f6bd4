"""A driver that dies at a named place of its program, and the same command again.

CKCONV_CRASH_PAIRS=300 adds so many crashes during the recovery from a crash.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from thinned import first

from benchmarks.chaos.driver import AT_A_TIME, warm_up
from benchmarks.chaos.state import result_of
from benchmarks.chaos.sweep import Plan, Sweep, empty_database
from ckconv_sweep.config.history import Stop
from ckconv_sweep.crash_points import POINTS, VARIABLE
from ckconv_sweep.record.requests import Request, Requests

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.fault("driver-sigkill"),
    pytest.mark.fault("half-written-checkpoint"),
    pytest.mark.fault("killed-while-writing"),
]

ROOT = Path(__file__).parents[2]
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
PLAN = Plan(trials=3, epochs=3)
STOPPED_EARLY = Plan(
    trials=4,
    epochs=3,
    sampler="tpe",
    scheduler="{name: asha, grace_epochs: 1, reduction_factor: 2}",
)
ONCE = {"study.made"}
"""A sweep passes there only once."""
LATER = 2
BLOBS = {"blob.written": (1, 3), "blob.synced": (3, 5), "blob.kept": (2, 3)}
"""The first is the space, the second a lease, the third and the fifth are checkpoints."""
WARM = "warm_start.noted"
"""Passed by sweeps that learn from others."""
OBJECTS = {"object.begun", "object.sent"}
"""Passed where files lie in an object store: `contracts/test_blobs.py`."""
CONFIRMED = {"test.scored", "test.recorded"}
"""Passed at the end of a confirmation: `sweep/test_opening.py`."""
PASSES = [
    (name, n)
    for name in POINTS
    if name not in {WARM, *CONFIRMED, *OBJECTS}
    for n in BLOBS.get(name, (1,) if name in ONCE else (1, LATER))
]
PAIRS = int(os.environ.get("CKCONV_CRASH_PAIRS", "8"))


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A folder in memory where the system has such: what a kill leaves is the same there."""
    with tempfile.TemporaryDirectory(prefix="ckconv-test-", dir=IN_MEMORY) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def empty(disk: Path) -> Path:
    warm_up()
    return empty_database(disk)


@pytest.fixture(scope="module")
def undisturbed(disk: Path, empty: Path) -> Any:
    """What the sweep comes to when nobody disturbs it."""
    sweep = Sweep.new(disk / "undisturbed", PLAN, empty=empty)
    sweep.finish(in_turn=True)
    assert sweep.broken == []
    return result_of(sweep.folder)


def crash(sweep: Sweep, point: str, number: int) -> bool:
    """Launch the sweep and let it die there; False if it came to its end before."""
    driver = sweep.launched(in_turn=True, crash_at=f"{point}:{number}")
    code = driver.wait()
    state = sweep.look()
    if code == 0:
        assert state.finished
        return False
    # Nobody sends a signal here but the crash point itself.
    assert code == -signal.SIGKILL, driver.said()
    # MLflow may be given the last records, and the last checkpoints be deleted, when the study is
    # finished already.
    after = point.startswith(("tracking.", "trial.forgotten"))
    assert not state.finished or after, "the crash hit no work in flight"
    sweep.allowed += AT_A_TIME
    return True


@pytest.mark.parametrize(
    ("point", "number"),
    [
        pytest.param(
            point,
            n,
            marks=[pytest.mark.slow] if n == LATER or n in BLOBS.get(point, ())[:1] else [],
        )
        for point, n in PASSES
    ],
)
def test_a_sweep_that_died_at_a_named_place_ends_as_if_it_had_not(
    point: str, number: int, disk: Path, empty: Path, undisturbed: Any
) -> None:
    sweep = Sweep.new(disk / f"{point.replace('.', '-')}-{number}", PLAN, empty=empty)
    for _ in range(LATER):  # what changes nothing here, but for the points of requests
        Requests(sweep.folder).put(Request(kind="concurrency", number=AT_A_TIME))
    assert crash(sweep, point, number), "it does not pass there so often"
    assert sweep.folder.records.exists() == (point != "study.made")
    sweep.finish(in_turn=True)
    sweep.compare(undisturbed)
    assert sweep.broken == []
    assert list(Requests(sweep.folder).waiting()) == []


def test_a_sweep_that_died_as_its_last_trial_was_told_is_finished_and_delivered_later(
    disk: Path, empty: Path, undisturbed: Any
) -> None:
    sweep = Sweep.new(disk / "last-told", PLAN, empty=empty)
    assert sweep.launched(in_turn=True, crash_at=f"trial.told:{PLAN.trials}").wait() < 0
    assert sweep.look().finished
    sweep.finish(in_turn=True)
    sweep.compare(undisturbed)
    assert sweep.broken == []


def learning(home: Path, empty: Path) -> Sweep:
    """A sweep that learns from another one of its folder, which has ended."""
    sweep = Sweep.new(home, Plan(trials=3, epochs=3, sampler="tpe"), empty=empty)
    space = home / "chaos.yaml"
    name = ["--name", "before", "--concurrency", AT_A_TIME]
    before = sweep._run(["launch", space, *name, *sweep._places()], {"in_turn": True})
    assert before.wait() == 0, before.said()
    space.write_text(space.read_text() + "warm_start: [before]\n")
    return sweep


def test_a_sweep_that_died_as_it_had_noted_what_it_learns_from_needs_the_earlier_one_no_more(
    disk: Path, empty: Path
) -> None:
    undisturbed, sweep = (learning(disk / name, empty) for name in ("warm", "warm-crashed"))
    undisturbed.finish(in_turn=True)
    assert "3 of 3 completed and pruned trials of before fit" in undisturbed.said()
    assert crash(sweep, WARM, 1)
    shutil.rmtree(sweep.folder.root.with_name("before"))
    sweep.finish(in_turn=True)
    sweep.compare(result_of(undisturbed.folder))
    assert sweep.broken == undisturbed.broken == []


def pairs() -> list[Any]:
    """A crash, then one during the recovery from it; every second sweep stops trials early."""
    draws = random.Random(4)
    out = []
    of_others = ("request.", "test.")
    passed = [
        name for name in POINTS if name not in (*ONCE, WARM) and not name.startswith(of_others)
    ]
    for i in range(PAIRS):
        first = draws.choice([p for p in PASSES if p[0] in passed])
        second = draws.choice(passed), draws.choice((1, 2))
        marks = [pytest.mark.slow] if i >= PAIRS // 4 else []
        out.append(pytest.param(STOPPED_EARLY if i % 2 else PLAN, [first, second], marks=marks))
    return out


@pytest.mark.parametrize(
    ("plan", "places"),
    pairs(),
    ids=lambda value: (
        value.sampler if isinstance(value, Plan) else "-".join(f"{p}:{n}" for p, n in value)
    ),
)
def test_a_sweep_that_died_again_while_it_recovered_ends_as_if_it_had_not(
    plan: Plan,
    places: list[tuple[str, int]],
    disk: Path,
    empty: Path,
    undisturbed: Any,
    request: pytest.FixtureRequest,
) -> None:
    name = re.sub(r"\W", "-", request.node.name)[-60:].strip("-")
    sweep = Sweep.new(disk / f"pair-{name}", plan, empty=empty)
    hits = [crash(sweep, point, number) for point, number in places]
    assert hits[0]
    sweep.finish(in_turn=True)
    if plan is PLAN:
        sweep.compare(undisturbed)
    assert sweep.broken == []


ASHA = "{name: asha, grace_epochs: 1, reduction_factor: 2}"
MANY_STOPS = Plan(trials=24, epochs=3, scheduler=ASHA)
A_STOP = Plan(trials=4, epochs=3, scheduler=ASHA)


@dataclass(frozen=True)
class Ended:
    """A trial that was stopped in an undisturbed sweep, and how many epochs were recorded and how
    many trials had ended by then."""

    trial: int
    epoch: int
    passes: dict[str, int]


@pytest.fixture(scope="module")
def stops(disk: Path, empty: Path) -> Callable[[Plan], list[Ended]]:
    return cache(lambda plan: stops_of(plan, disk, empty))


def stops_of(plan: Plan, disk: Path, empty: Path) -> list[Ended]:
    sweep = Sweep.new(disk / f"stops-{plan.trials}", plan, empty=empty)
    sweep.finish(in_turn=True)
    assert sweep.broken == []
    records = sweep.look().records
    with contextlib.closing(sqlite3.connect(sweep.folder.records.path)) as connection:
        epochs = connection.execute(
            "select number, step from trial_intermediate_values join trials using (trial_id) "
            "order by trial_intermediate_value_id"
        ).fetchall()
        ends = connection.execute("select number from trials order by datetime_complete").fetchall()
    return [
        Ended(
            number,
            epoch,
            {"epoch.acknowledged": count, "trial.explained": ends.index((number,)) + 1},
        )
        for count, (number, epoch) in enumerate(epochs, 1)
        if records[number].outcome == "pruned" and epoch == len(records[number].history)
    ]


@pytest.mark.fault("stop-recorded")
@pytest.mark.parametrize("point", ["epoch.acknowledged", "trial.explained"])
@pytest.mark.parametrize(
    ("plan", "k"),
    first(1, [(A_STOP, 0), *((MANY_STOPS, k) for k in range(10))]),
)
def test_a_driver_killed_between_a_stop_and_the_trials_end_remembers_the_stop(
    plan: Plan,
    k: int,
    point: str,
    disk: Path,
    empty: Path,
    stops: Callable[[Plan], list[Ended]],
) -> None:
    stop = stops(plan)[k]
    name = f"stop-{plan.trials}-{k}-{point.replace('.', '-')}"
    sweep = Sweep.new(disk / name, plan, empty=empty)
    assert crash(sweep, point, stop.passes[point])
    held = sweep.look().records[stop.trial]
    assert (held.outcome, len(held.history)) == ("running", stop.epoch)
    assert isinstance(held.verdict, Stop)
    sweep.finish(in_turn=True)
    end = sweep.look().records[stop.trial]
    assert (end.outcome, len(end.history)) == ("pruned", stop.epoch)
    assert sweep.broken == []


def test_every_name_of_the_list_is_a_place_in_the_package_and_no_other_is() -> None:
    places = [
        name
        for path in (ROOT / "ckconv_sweep").rglob("*.py")
        for name in re.findall(r'crash_point\("([^"]+)"\)', path.read_text())
    ]
    assert set(places) == set(POINTS)
    of_test = {"test.scored", "test.recorded"}  # died at in tests/sweep/test_opening.py
    elsewhere = {WARM} | of_test | OBJECTS
    assert {point for point, _ in PASSES} | elsewhere == set(POINTS)  # the others above


CODE = """
from ckconv_sweep.config.history import Stop
from ckconv_sweep.crash_points import crash_point
for i in range(4):
    print(i, flush=True)
    crash_point("epoch.saved")
"""


@pytest.mark.parametrize(
    ("wanted", "code", "said"),
    [
        (None, 0, ["0", "1", "2", "3"]),
        ("epoch.saved:3", -signal.SIGKILL, ["0", "1", "2"]),
        ("epoch.saved", -signal.SIGKILL, ["0"]),
        ("trial.told", 0, ["0", "1", "2", "3"]),
        ("epoch.svaed", 1, []),
    ],
)
def test_the_variable_says_where_a_process_dies(
    wanted: str | None, code: int, said: list[str]
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment | ({VARIABLE: wanted} if wanted else {}),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.split()) == (code, said)
    assert ("no crash point is called 'epoch.svaed'" in done.stderr) == (code == 1)
