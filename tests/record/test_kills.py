"""The study under SIGKILL: what was acknowledged stays.

CKCONV_KILLS=1000 kills oftener than `make test` has time for.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.errors import DamagedData
from ckconv_sweep.record import database as module
from ckconv_sweep.record.folder import SweepFolder, all_sweeps
from ckconv_sweep.record.study import Study

from .small import SPACE, Child, ask, epoch, forked

KILLS = int(os.environ.get("CKCONV_KILLS", "5"))

Say = Callable[[object], None]


def writing(folder: SweepFolder) -> Callable[[Say], None]:
    """Write the epochs of a new trial for ever, and say each that is acknowledged."""

    def write(say: Say) -> None:
        with folder.records.create(SPACE) as study:
            number = ask(study).number
            say(f"asked {number}")
            for i in itertools.count(1):
                study.add_epoch(number, epoch(i, i / 1000), i / 1000)
                say(i)

    return write


def up_to(last: int) -> list[Epoch]:
    return [epoch(i, i / 1000) for i in range(1, last + 1)]


def killed_after(child: Child, epochs: int, seconds: float) -> int:
    """Kill a writer a moment after its epochs; the last that it acknowledged."""
    for _ in range(epochs):
        child.line()
    time.sleep(seconds)
    child.kill()
    last = epochs
    while line := child.line():  # what it had said before it died
        last = int(line)
    return last


@pytest.mark.fault("driver-sigkill")
def test_no_acknowledged_epoch_is_lost_however_often_the_writer_is_killed(
    folder: SweepFolder,
) -> None:
    draws, acknowledged = random.Random(0), []
    for kill in range(KILLS):
        with forked(writing(folder)) as writer:
            assert writer.line() == f"asked {kill}"
            acknowledged.append(killed_after(writer, draws.randint(1, 12), draws.random() / 50))
        with folder.records.create(SPACE) as study:
            records = study.trials()
            assert [record.number for record in records] == list(range(kill + 1))
            for record, last in zip(records, acknowledged, strict=True):
                assert last <= len(record.history) <= last + 1
                assert list(record.history) == up_to(len(record.history))
        connection = sqlite3.connect(folder.records.path)
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        connection.close()
    assert sorted(path.name for path in folder.root.iterdir()) == ["study.db", "trials"]


def test_a_reader_after_a_kill_sees_what_was_acknowledged(folder: SweepFolder) -> None:
    with forked(writing(folder)) as writer:
        writer.line()
        last = killed_after(writer, 5, 0.01)
    with folder.records.open() as study:
        history = study.trial(0).history
    assert last <= len(history) <= last + 1
    assert list(history) == up_to(len(history))


def test_a_reader_sees_whole_epochs_only_while_a_writer_writes(folder: SweepFolder) -> None:
    with forked(writing(folder)) as writer:
        assert writer.line() == "asked 0"
        assert writer.line() == "1"
        seen = [0]
        with folder.records.open() as reader:
            while seen[-1] < 60 or len(seen) < 5:
                history = reader.trial(0).history
                assert list(history) == up_to(len(history))
                seen.append(len(history))
        assert seen == sorted(seen)
        for _ in range(3):  # and one that comes and goes disturbs nobody
            with folder.records.open() as reader:
                assert len(reader.trials()[0].history) >= seen[-1]
        assert writer.runs


def test_a_value_whose_attribute_is_not_seen_yet_is_no_epoch_yet(study: Study) -> None:
    ask(study)
    study.add_epoch(0, epoch(1), 0.5)
    study._database.set_trial_intermediate_value(study._ids[0], 2, 0.5)
    assert [e.number for e in study.trial(0).history] == [1]


def making(folder: SweepFolder, steps: int) -> Callable[[Say], None]:
    """Make a study, and die before the step of that number."""

    def make(say: Say) -> None:
        left = iter(range(steps))

        def killing(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **options)

            return call

        storage = optuna.storages.RDBStorage
        for owner, name in [
            (module, "set_journal_mode"),
            (storage, "__init__"),
            (optuna, "create_study"),
            (module, "transaction"),
            (Path, "rename"),
        ]:
            setattr(owner, name, killing(getattr(owner, name)))
        with folder.records.create(SPACE):
            say("made")

    return make


@pytest.mark.fault("driver-sigkill")
def test_a_driver_killed_while_it_makes_the_study_leaves_none_or_a_whole_one(
    folder: SweepFolder,
) -> None:
    found = []
    for steps in range(20):
        with forked(making(folder, steps)) as driver:
            if driver.line():
                break
        found.append(folder.records.exists())
        assert bool(all_sweeps(folder.root.parent)) == found[-1]
        if found[-1]:
            with folder.records.open() as study:
                assert study.space == SPACE
            folder.records.path.unlink()
    # The journal's mode, the tables, the study, its notes, the name; then it is opened.
    assert found == [False] * 5 + [True] * 2
    with folder.records.create(SPACE) as study:
        assert study.space == SPACE
    assert sorted(path.name for path in folder.root.iterdir()) == ["study.db", "trials"]


@pytest.mark.fault("damaged-study")
def test_a_write_ahead_log_without_its_study_is_not_taken_for_one(folder: SweepFolder) -> None:
    with forked(writing(folder)) as writer:
        for _ in range(5):
            writer.line()
    assert (folder.root / "study.db-wal").exists()
    os.truncate(folder.records.path, 0)
    with pytest.raises(DamagedData), folder.records.create(SPACE):
        pass
