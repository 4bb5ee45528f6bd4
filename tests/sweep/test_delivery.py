"""What the study notes of what MLflow has, as short after many trials as after few."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from tracking.tracked import make

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Listener
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.sweep import delivery
from ckconv_sweep.sweep.delivery import AfterTrial
from ckconv_sweep.tracking.lag import Behind, Lag, lag_of, owed
from ckconv_sweep.tracking.marks import Found, Mark, noted_marks, ranges
from ckconv_sweep.tracking.outbox import Tracker
from tests.cli.commands import typed_here

from .in_process import machine, make_space

URI = "http://127.0.0.1:9"


class AtOnce(Listener):
    """Marks as delivered what it hears, but for some trials."""

    def __init__(self, tracker: Tracker, but: Collection[int]) -> None:
        self._tracker, self._but = tracker, but

    def hear(self, event: Event) -> None:
        if event.number not in self._but:
            mark = self._tracker.marks.setdefault(event.number, Mark())
            if isinstance(event, EpochEnded):
                mark.epochs = event.epoch.number
            mark.ended = isinstance(event, Ended)
            self._tracker.moved.append(event.number)


def note_of(root: Path, trials: int, but: Collection[int] = ()) -> tuple[Any, Found, int]:
    """The note of a sweep that MLflow got as it ran, but for some trials; what it says, and how
    much is owed by it."""
    swept = machine(root, make_space(trials=trials, epochs=2))
    with swept.session() as session:
        tracker, _ = make(URI, "sweep")
        after = AfterTrial(swept.folder, session.study, tracker)
        session.coordinator._listeners = (AtOnce(tracker, but), after)
        session.run()
        after.keep_marks("FINISHED")
        note, records = session.study.note("mlflow"), session.study.trials()
    has = noted_marks(note, URI, records)
    return note, has, owed(records, has, finished=True)


def test_a_sweep_of_which_mlflow_has_all_is_noted_by_its_first_and_last_trial(
    tmp_path: Path,
) -> None:
    few, many = (note_of(tmp_path / str(trials), trials) for trials in (3, 30))
    assert (few[0]["whole"], many[0]["whole"]) == ([[0, 2]], [[0, 29]])
    assert few[0]["marks"] == many[0]["marks"] == {}
    assert many[1].marks == {number: Mark(2, True) for number in range(30)}
    assert (few[2], many[2]) == (0, 0)
    assert len(json.dumps(many[0])) <= len(json.dumps(few[0])) + 1


def test_a_trial_of_which_mlflow_has_nothing_is_not_taken_for_one_that_it_has(
    tmp_path: Path,
) -> None:
    note, has, missing = note_of(tmp_path, 6, but={0, 3})
    assert note["whole"] == [[1, 2], [4, 5]]
    assert has.marks == {number: Mark(2, True) for number in (1, 2, 4, 5)}
    assert missing == 2 * 3


def test_the_note_of_an_older_version_says_the_same(tmp_path: Path) -> None:
    swept = machine(tmp_path, make_space(trials=2, epochs=2))
    assert swept.run()
    old = {"uri": URI, "marks": {"0": [2, True], "1": [1, False]}, "status": "RUNNING"}
    new = {"uri": URI, "whole": [[0, 0]], "marks": {"1": [1, False]}, "status": "RUNNING"}
    has = noted_marks(new, URI, swept.records())
    assert noted_marks(old, URI, swept.records()) == has
    assert has.marks == {0: Mark(2, True), 1: Mark(1, False)}
    assert noted_marks(new, "http://127.0.0.1:8", swept.records()) == Found("", {}, [])


@pytest.mark.parametrize(
    ("upto", "without", "rows"),
    [
        (0, [], []),
        (3, [], [[0, 2]]),
        (3, [0, 2], [[1, 1]]),
        (5, [4, 2, 3], [[0, 1]]),
        (2, [0, 1, 7], []),
    ],
)
def test_rows_of_numbers_are_what_is_left_between_the_others(
    upto: int, without: list[int], rows: list[list[int]]
) -> None:
    assert ranges(upto, without) == rows


def test_what_has_arrived_is_also_noted_between_two_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "NOTE_SECONDS", 0.0)
    swept = machine(tmp_path, make_space(trials=1, epochs=3), concurrency=1)
    with swept.session() as session:
        tracker, _ = make(URI, "sweep")
        after = AfterTrial(swept.folder, session.study, tracker)
        session.coordinator._listeners = (AtOnce(tracker, ()), after)
        session.step()
        session.coordinator.attend()
        assert session.study.note("mlflow")["marks"] == {"0": [1, False]}


def test_status_says_how_far_mlflow_is_behind_and_nothing_where_it_has_all(tmp_path: Path) -> None:
    note_of(tmp_path / "some", 6, but={0, 3})
    said = typed_here("status", "sweep", "--sweeps-dir", tmp_path / "some")
    assert "MLflow is 6 records behind (2 trials; the oldest is " in said
    assert "deliver them: ckconv-sweep sync sweep" in said
    note_of(tmp_path / "all", 2)
    assert "MLflow" not in typed_here("status", "sweep", "--sweeps-dir", tmp_path / "all")


def test_what_was_just_recorded_is_on_its_way_to_mlflow_while_a_driver_runs() -> None:
    now = int(time.time() * 1000)
    epochs = [
        Epoch(number=n, metrics={}, timestamp_ms=now - age) for n, age in ((1, 90_000), (2, 0))
    ]
    record = TrialRecord(number=0, outcome="running", params={}, history=tuple(epochs))
    notes = {"mlflow": {"uri": URI, "marks": {}}}
    assert lag_of(notes, [record], Path(), held=True) == Lag(1, 1, now - 90_000)
    assert lag_of(notes, [record], Path(), held=False) == Lag(2, 1, now - 90_000)
    assert not lag_of({}, [record], Path(), held=True)


def test_who_watches_hears_of_a_growing_lag_now_and_then_and_of_its_end() -> None:
    behind, now = Behind(), int(time.time() * 1000)
    said = [behind.news(Lag(n, 1, now - 300_000)) for n in (0, 4, 7, 8, 9, 3, 0, 0)]
    assert [bool(line) for line in said] == [False, True, False, False, True, False, True, False]
    assert said[1].startswith("MLflow is 4 records behind (1 trial; the oldest is 5 min old)")
    assert said[6] == "MLflow has caught up"
