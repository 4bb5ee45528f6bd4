"""What a sweep has left behind, as plain values that can be compared.

Read from the files, never through MLflow's client: what a process holds open it may not fork with.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckconv_sweep import keys
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.execution.seat import CHECKPOINT_SECONDS
from ckconv_sweep.record.budget import is_finished
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.leaderboard import leaderboard

Place = tuple[int, int]
"""A trial and one of its epochs."""


@dataclass(frozen=True)
class State:
    """A study, and how often each epoch was executed."""

    records: dict[int, TrialRecord]
    finished: bool
    executed: Counter[Place]
    trained_again: int
    """Epochs executed again, without those that a kill may cost; see the function."""
    contradictions: tuple[str, ...] = ()
    """What no driver leaves behind, a sentence each."""

    @property
    def running(self) -> list[int]:
        return [n for n, record in self.records.items() if record.outcome == "running"]

    @property
    def epochs(self) -> dict[Place, Epoch]:
        """Every acknowledged epoch."""
        return {(n, e.number): e for n, record in self.records.items() for e in record.history}

    @property
    def ended(self) -> dict[int, TrialRecord]:
        return {n: r for n, r in self.records.items() if r.outcome != "running"}


def state_of(folder: SweepFolder, checkpoint_seconds: float) -> State:
    """What is on disk now; no driver runs. `checkpoint_seconds`: see `trained_again`."""
    ledgers = {
        int(path.parent.name): [json.loads(line) for line in path.read_text().splitlines()]
        for path in folder.root.glob("trials/*/ledger.jsonl")
    }
    executed = Counter((n, line["epoch"]) for n, lines in ledgers.items() for line in lines)
    again = sum(trained_again(lines, checkpoint_seconds) for lines in ledgers.values())
    if not folder.records.exists():
        return State({}, False, executed, again)
    with folder.records.open() as study:
        records = study.trials()
        return State(
            {r.number: r for r in records},
            is_finished(records, study.space),
            executed,
            again,
            tuple(study.contradictions()),
        )


def trained_again(
    ledger: Sequence[Mapping[str, Any]], checkpoint_seconds: float = CHECKPOINT_SECONDS
) -> int:
    """How many epochs of a trial were executed again, without those that each kill may cost: so
    many seconds of them before the last."""
    again = 0
    for i, line in enumerate(ledger):
        before = ledger[i - 1]["epoch"] if i else 0
        if (lost := before - line["epoch"] + 1) <= 0:
            continue
        seconds = 0.0
        for one in reversed(ledger[i - lost : i - 1]):  # the last may have been killed in its save
            seconds += one["metrics"]["time/epoch_seconds"]
            lost -= seconds < checkpoint_seconds
        again += lost
    return again


def result_of(folder: SweepFolder) -> tuple[dict[int, Any], str]:
    """A sweep's trials and its table, to the last bit and without times."""
    with folder.records.open() as study:
        records, space = study.trials(), study.space
    trials = {
        r.number: (r.outcome, r.reason, dict(r.params), [_in_hex(e) for e in r.history])
        for r in records
    }
    table = leaderboard(records, space).drop(columns="seconds").to_csv()
    return trials, table


def _in_hex(epoch: Epoch) -> dict[str, str]:
    return {k: v.hex() for k, v in epoch.metrics.items() if not k.startswith("time/")}


@dataclass(frozen=True)
class InMLflow:
    """What MLflow's database holds of a sweep.

    `runs`: for the sweep (None) and each trial how many runs there are; `points`: for each trial,
    metric and step how many points there are; `values`: the points themselves, as (value, time in
    ms); `status`: that of the sweep's run.
    """

    runs: Counter[int | None]
    points: Counter[tuple[int, str, int]]
    values: dict[tuple[int, str, int], tuple[float, int]]
    status: str


def in_mlflow(database: Path, sweep: str) -> InMLflow:
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection:
        of_sweep = (
            "select r.run_uuid, r.status, number.value from runs r"
            " join tags sweep on sweep.run_uuid = r.run_uuid and sweep.key = ? and sweep.value = ?"
            " left join tags number on number.run_uuid = r.run_uuid and number.key = ?"
        )
        runs = connection.execute(of_sweep, (keys.TAG_SWEEP, sweep, keys.TAG_TRIAL)).fetchall()
        numbers = {run: int(number) for run, _, number in runs if number is not None}
        points = [
            ((numbers[run], key, step), (value, when))
            for run, key, step, value, when in connection.execute(
                "select run_uuid, key, step, value, timestamp from metrics"
            )
            if run in numbers
        ]
    return InMLflow(
        runs=Counter(numbers.get(run) for run, _, _ in runs),
        points=Counter(place for place, _ in points),
        values=dict(points),
        status=next((status for _, status, number in runs if number is None), ""),
    )
