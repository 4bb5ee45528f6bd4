"""A real driver whose study is taken away while it trains."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.chaos.driver import AT_A_TIME, warm_up
from benchmarks.chaos.sweep import Plan, Sweep, empty_database

pytestmark = [pytest.mark.timeout(120), pytest.mark.fault("study-taken-away")]

IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
PLAN = Plan(trials=6, epochs=40)


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ckconv-test-", dir=IN_MEMORY) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def empty(disk: Path) -> Path:
    warm_up()
    return empty_database(disk)


def remove(study: Path) -> None:
    for part in study.parent.glob("study.db*"):
        part.unlink()


def replace(study: Path) -> None:
    other = study.with_name("backup.db")
    other.write_bytes(study.read_bytes())
    other.rename(study)


@pytest.mark.parametrize(
    "take", [remove, pytest.param(replace, marks=pytest.mark.slow)], ids=["removed", "replaced"]
)
def test_a_sweep_whose_study_is_taken_away_in_its_first_session_stops_and_deletes_nothing(
    take: Callable[[Path], None], disk: Path, empty: Path
) -> None:
    sweep = Sweep.new(disk / take.__name__, PLAN, empty=empty)
    driver = sweep.launched()
    ledger = sweep.folder.trial(0) / "ledger.jsonl"
    while driver.runs and (not ledger.exists() or len(ledger.read_text().splitlines()) < 3):
        time.sleep(0.002)
    assert driver.runs, driver.said()
    take(sweep.folder.records.path)
    assert driver.wait() == 73, driver.said()
    said = driver.said()
    assert "while the sweep was running; nothing more is recorded" in said
    assert "Traceback" not in said
    (rescued,) = sweep.folder.root.glob("study-rescued-*.db")
    assert rescued.name in said
    before = {path: path.stat().st_size for path in sweep.folder.root.glob("trials/*/*")}
    assert before
    if take is remove:
        # The same command starts nothing over.
        assert sweep.launched().wait() == 65
        assert {path: path.stat().st_size for path in before} == before
    rescued.rename(sweep.folder.records.path)
    sweep.allowed += AT_A_TIME
    sweep.finish()
    assert sweep.broken == []
