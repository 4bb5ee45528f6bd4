"""A confirmation whose driver dies again and again at named places of its program: each setting is
trained with each seed once, and the search has not changed."""

from __future__ import annotations

import signal
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from thinned import first

from benchmarks.chaos.driver import AT_A_TIME, signs, warm_up
from benchmarks.chaos.state import in_mlflow, result_of
from benchmarks.chaos.sweep import Plan, Sweep, empty_database
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.record.trials import BASE, TrialRecord, trial_of
from ckconv_sweep.search.confirming import is_over
from ckconv_sweep.training.loop import train
from tests.sweep.in_process import IN_MEMORY

pytestmark = [pytest.mark.timeout(120), pytest.mark.fault("driver-sigkill")]

PLAN = Plan(trials=3, epochs=3)
CRASHES = (
    "trial.recorded:2",
    "epoch.acknowledged:3",
    "trial.told:1",
    "trial.forgotten:2",
    "blob.synced:4",
    "tracking.delivered:3",
)


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A folder in memory where the system has such: what a kill leaves is the same there."""
    with tempfile.TemporaryDirectory(prefix="ckconv-test-", dir=IN_MEMORY) as name:
        yield Path(name)


def confirm(sweep: Sweep, **conditions: Any) -> int:
    words = ["confirm", sweep.name, "--top", 2, "--seeds", 3, "--no-test"]
    session = sweep._run(
        [*words, "--concurrency", AT_A_TIME, *sweep._places()], {"in_turn": True, **conditions}
    )
    return session.wait()


def confirmations(sweep: Sweep) -> list[TrialRecord]:
    with sweep.folder.records.open() as study:
        return study.confirmations()


def roles(database: Path) -> dict[int, str]:
    with sqlite3.connect(database) as connection:
        return {
            int(number): role
            for number, role in connection.execute(
                "select number.value, role.value from tags number join tags role"
                " on role.run_uuid = number.run_uuid and role.key = 'role'"
                " where number.key = 'trial'"
            )
        }


@pytest.mark.parametrize(
    "crashes", first(1, [list(CRASHES[1::3]), list(CRASHES)]), ids=["some", "all"]
)
def test_a_confirmation_whose_driver_dies_trains_each_setting_with_each_seed_once(
    crashes: Sequence[str], disk: Path
) -> None:
    warm_up()
    sweep = Sweep.new(disk / f"confirmed-{len(crashes)}", PLAN, empty=empty_database(disk))
    sweep.finish(in_turn=True)
    before = result_of(sweep.folder)
    for crash in crashes:
        assert confirm(sweep, crash_at=crash) == -signal.SIGKILL, (crash, sweep.said()[-2000:])
        assert result_of(sweep.folder) == before
    assert confirm(sweep) == 0, sweep.said()[-3000:]

    records = confirmations(sweep)
    assert [r.number for r in records] == list(range(3, 12))
    pairs = [(r.confirms, r.seed_index) for r in records]
    assert len(set(pairs)) == len(pairs) == 9
    assert {setting for setting, _ in pairs} >= {BASE}
    for record in records:
        assert (record.outcome, [e.number for e in record.history]) == ("completed", [1, 2, 3])
    with sweep.folder.records.open() as study:
        assert study.contradictions() == []
        plan = study.note("confirmation")
        assert set(plan["settings"]) | {BASE} == {setting for setting, _ in pairs}
    assert result_of(sweep.folder) == before
    there = in_mlflow(sweep.database, sweep.name)
    assert there.runs == {None: 1} | dict.fromkeys(range(12), 1)
    assert set(there.points.values()) == {1}
    assert there.status == "FINISHED"
    expected = {n: "trial" if n < 3 else "confirm" for n in range(12)}
    assert roles(sweep.database) == expected
    for record in records:
        for epoch in record.history:
            value, when = there.values[record.number, "val/accuracy", epoch.number]
            assert (value, when) == (epoch.metrics["val/accuracy"], epoch.timestamp_ms)
    assert not [p for p in sweep.folder.root.glob("trials/*/*") if p.name[0] in ".c"]

    assert confirm(sweep) == 0  # nothing is left
    assert confirmations(sweep) == records
    with sweep.folder.records.open() as study:
        assert is_over_now(study)
    interrupted = max(records, key=lambda record: len(set(record.sessions)))
    assert len(set(interrupted.sessions)) > 1
    again = trained_alone(interrupted, sweep, disk / f"alone-{len(crashes)}")
    assert [without_times(e) for e in again] == [without_times(e) for e in interrupted.history]


def is_over_now(study: Any) -> bool:
    from ckconv_sweep.record.confirmation import noted

    plan = noted(study.notes())
    assert plan is not None
    return is_over(plan, study.confirmations(), study.space.metric)


def trained_alone(record: TrialRecord, sweep: Sweep, folder: Path) -> list[Epoch]:
    """The curve of a trial's settings, trained by itself."""
    with sweep.folder.records.open() as study:
        trial = trial_of(record, study.space)
    folder.mkdir()
    heard: list[Epoch] = []
    train(trial, task=signs(), folder=folder, report=heard.append)
    return heard


def without_times(epoch: Epoch) -> dict[str, str]:
    return {k: v.hex() for k, v in epoch.metrics.items() if not k.startswith("time/")}
