from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from sweep.in_process import machine, make_space

from ckconv_sweep.config.history import Epoch, Go, Stop, Verdict
from ckconv_sweep.errors import CannotWrite, ConfigError, DamagedData, SweepBusy
from ckconv_sweep.keys import REASON_CONSTRAINT
from ckconv_sweep.record import database as module
from ckconv_sweep.record import rows
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import next_position

from .small import DISTRIBUTIONS, LOWER_IS_BETTER, SPACE, TWO_METRICS, ask, epoch


def add(study: Study, number: int, *accuracies: float) -> None:
    for i, accuracy in enumerate(accuracies, len(study.trial(number).history) + 1):
        study.add_epoch(number, epoch(i, accuracy), accuracy)


def written_commits(study: Study) -> list[int]:
    """Will hold, for each transaction that changes something, the number of its statements."""
    changes: list[int] = []
    open_changes: list[str] = []

    def executed(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        if statement.split()[0].upper() in ("INSERT", "UPDATE", "DELETE"):
            open_changes.append(statement)

    def committed(connection: Any) -> None:
        if open_changes:  # Optuna commits what only reads, too
            changes.append(len(open_changes))
            open_changes.clear()

    sqlalchemy.event.listen(study._database.engine, "after_cursor_execute", executed)
    sqlalchemy.event.listen(study._database.engine, "commit", committed)
    return changes


def files(folder: SweepFolder) -> list[str]:
    return sorted(path.name for path in folder.root.iterdir() if path.is_file())


# Making and opening


def test_a_new_study_knows_its_space_and_has_no_trials(study: Study) -> None:
    assert study.space == SPACE
    assert study.trials() == []
    assert study.next_number() == 0
    assert study.note("nothing") is None
    assert len(study.note("uid")) == 32


def test_opening_again_keeps_everything(folder: SweepFolder) -> None:
    with folder.records.create(SPACE) as study:
        ask(study)
        add(study, 0, 0.5, 0.6)
        study.set_note("sessions", [1, 2])
        before = study.trials(), study.notes()
    with folder.records.create(SPACE) as study:
        assert (study.trials(), study.notes()) == before
        assert study.next_number() == 1
    with folder.records.open() as study:
        assert (study.trials(), study.notes()) == before


def test_the_space_stays_that_of_the_start_until_it_is_set(folder: SweepFolder) -> None:
    with folder.records.create(SPACE):
        pass
    with folder.records.create(LOWER_IS_BETTER) as study:
        assert study.space == SPACE
        study.set_space(LOWER_IS_BETTER)
        assert study.space == LOWER_IS_BETTER
    with folder.records.open() as study:
        assert study.space == LOWER_IS_BETTER


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_only_the_owner_may_read_the_study_also_while_it_is_open(
    mask: int, folder: SweepFolder
) -> None:
    before = os.umask(mask)
    try:
        with folder.records.create(SPACE) as study:
            ask(study)
            modes = {path.stat().st_mode & 0o777 for path in folder.root.glob("*study.db*")}
    finally:
        os.umask(before)
    assert modes == {0o600}
    assert folder.root.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("local", [True, False])
def test_after_closing_there_is_one_file(
    local: bool, folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_local", lambda path: local)
    with folder.records.create(SPACE) as study, folder.records.open() as reader:
        ask(study)
        add(study, 0, 0.5)
        assert len(reader.trials()[0].history) == 1
        assert ("study.db-wal" in files(folder)) == local
    assert files(folder) == ["study.db"]
    copy = folder.root.parent / "copy"
    copy.mkdir()
    (copy / "study.db").write_bytes(folder.records.path.read_bytes())
    with sqlite3.connect(copy / "study.db") as connection:
        (count,) = connection.execute("select count(*) from trial_intermediate_values").fetchone()
    connection.close()
    assert count == 1


@pytest.mark.fault("network-file-system")
@pytest.mark.parametrize(
    ("kind", "mode"), [("ext4", "wal"), ("nfs4", "delete"), ("lustre", "delete")]
)
def test_the_write_ahead_log_is_used_on_a_local_file_system_only(
    kind: str, mode: str, folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = folder.root / "mounts"
    mounts.write_text(f"a / ext4 rw 0 0\nb {folder.root.parent} {kind} rw 0 0\n")
    real = module.is_local
    monkeypatch.setattr(module, "is_local", lambda path: real(path, mounts))
    for _ in range(2):  # made, and opened again
        with folder.records.create(SPACE):
            connection = sqlite3.connect(folder.records.path)
            assert connection.execute("pragma journal_mode").fetchone() == (mode,)
            connection.close()


@pytest.mark.fault("network-file-system")
def test_a_study_that_was_moved_to_a_network_gives_up_its_write_ahead_log(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_local", lambda path: True)
    with folder.records.create(SPACE) as study:
        ask(study)
    monkeypatch.setattr(module, "is_local", lambda path: False)
    with folder.records.create(SPACE) as study:
        assert study.next_number() == 1
        assert files(folder) == ["study.db"]


@pytest.mark.parametrize("part", ["a b", "100% %20", "a?mode=ro", "a#b&c=d", "{x}{}", "é'\";--"])
def test_the_path_of_a_study_may_hold_any_letters(part: str, tmp_path: Path) -> None:
    folder = SweepFolder.of(tmp_path / part, "digits")
    folder.make()
    with folder.records.create(SPACE) as study:
        study.set_note("here", part)
    with folder.records.open() as study:
        assert study.note("here") == part
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder.records.path]


# Epochs


def test_an_epoch_comes_back_to_the_last_bit(study: Study) -> None:
    ask(study)
    values = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0, 1 / 3, 12345678901234567.0]
    given = [epoch(i, value) for i, value in enumerate(values, 1)]
    for one in given:
        study.add_epoch(0, one, one.metrics["val/accuracy"])
    history = study.trial(0).history
    assert list(history) == given
    assert [e.metrics["val/accuracy"].hex() for e in history] == [v.hex() for v in values]
    assert study.trials()[0].history == history


def test_an_epoch_is_there_as_a_whole_or_not_at_all(folder: SweepFolder) -> None:
    class Killed(BaseException):
        pass

    def killed(*args: object) -> None:
        raise Killed

    with folder.records.create(SPACE) as study:
        ask(study)
        add(study, 0, 0.5)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module.Writes, "set_value", killed)
            with pytest.raises(Killed):
                study.add_epoch(0, epoch(2, 0.9), 0.9, verdict=Stop("it was bad"))
        assert "epoch:2" not in study._database.get_trial(1).user_attrs
    with folder.records.create(SPACE) as study:
        assert [e.number for e in study.trial(0).history] == [1]
        assert study.trial(0).verdict is None
        add(study, 0, 0.7)  # trained again, with another value
        assert [e.metrics["val/accuracy"] for e in study.trial(0).history] == [0.5, 0.7]


def test_an_epoch_and_an_end_are_one_transaction_each(study: Study) -> None:
    ask(study)
    changes = written_commits(study)
    study.add_epoch(0, epoch(1), 0.5, verdict=Go())
    assert len(changes) == 1
    study.end(0, "failed", reason="error", error="it broke")
    assert len(changes) == 2


@pytest.mark.parametrize("verdict", [Go(), Stop("asha, epoch 1: 0.1"), None])
def test_the_stopping_rules_answer_comes_back_with_the_epoch(
    verdict: Verdict | None, study: Study
) -> None:
    ask(study)
    study.add_epoch(0, epoch(1), 0.5, verdict=Go())
    study.add_epoch(0, epoch(2), 0.5, verdict=verdict)
    assert study.trial(0).verdict == verdict
    assert len(study.trial(0).history) == 2


def test_epochs_are_in_order_of_their_number_beyond_nine(study: Study) -> None:
    ask(study)
    add(study, 0, *(i / 100 for i in range(12)))
    assert [e.number for e in study.trial(0).history] == list(range(1, 13))


# What became of a trial


def test_a_completed_trial_gets_the_value_by_which_it_is_judged(folder: SweepFolder) -> None:
    with folder.records.create(SPACE) as study:
        ask(study)
        add(study, 0, 0.5, 0.9, 0.7)
        study.end(0, "completed", reason="epochs")
        record = study.trial(0)
        assert (record.outcome, record.reason, record.error) == ("completed", "epochs", "")
        assert record.counts
        assert record.ended_ms is not None
        assert record.ended_ms >= record.started_ms > 1_600_000_000_000
        assert study._study.best_value == 0.9
        assert study._study.direction == optuna.study.StudyDirection.MAXIMIZE


def test_a_sweep_for_the_lowest_loss_minimises(folder: SweepFolder) -> None:
    with folder.records.create(LOWER_IS_BETTER) as study:
        ask(study)
        for number in (2, 1, 3):
            study.add_epoch(0, epoch(number), epoch(number).metrics["val/loss"])
        study.end(0, "completed")
        assert study._study.direction == optuna.study.StudyDirection.MINIMIZE
        assert study._study.best_value == epoch(1).metrics["val/loss"]


def test_a_pruned_trial_has_its_best_epochs_value_in_optuna_too_and_is_never_the_best(
    study: Study,
) -> None:
    ask(study)
    add(study, 0, 0.9, 0.8)
    study.end(0, "pruned")
    assert study.trial(0).outcome == "pruned"
    assert len(study.trial(0).history) == 2
    assert study._study.trials[0].value == 0.9
    with pytest.raises(ValueError, match="does not exist"):
        _ = study._study.best_value


def test_a_study_has_a_direction_for_each_metric_and_a_trial_all_values_at_one_epoch(
    folder: SweepFolder,
) -> None:
    """The lowest loss is that of another epoch than the best accuracy; its network is not kept."""
    told = [(0.5, 0.1), (0.9, 0.4), (0.7, 0.3)]
    with folder.records.create(TWO_METRICS) as study:
        for outcome in ("completed", "pruned", "failed"):
            number = ask(study).number
            for i, (accuracy, loss) in enumerate(told, start=1):
                metrics = {"val/accuracy": accuracy, "val/loss": loss}
                ended = Epoch(number=i, metrics=metrics, timestamp_ms=i)
                study.add_epoch(number, ended, accuracy)
            study.end(number, outcome, reason="error" if outcome == "failed" else "")
        assert study.contradictions() == []
        assert study.changed_trials() == []
    with folder.records.open() as study:
        assert study.space == TWO_METRICS
        assert [direction.name for direction in study._study.directions] == ["MAXIMIZE", "MINIMIZE"]
        trials = study._study.get_trials()
        assert [trial.values for trial in trials] == [[0.9, 0.4], [0.9, 0.4], None]
        assert [trial.number for trial in study._study.best_trials] == [0]
        assert trials[0].intermediate_values == {1: 0.5, 2: 0.9, 3: 0.7}


def test_a_changed_value_of_a_further_metric_is_a_contradiction(folder: SweepFolder) -> None:
    with folder.records.create(TWO_METRICS) as study:
        ask(study)
        study.add_epoch(0, epoch(1, 0.5), 0.5)
        study.end(0, "completed", reason="epochs")
    with contextlib.closing(sqlite3.connect(folder.records.path)) as connection, connection:
        connection.execute("update trial_values set value = 0.001 where objective = 1")
    with folder.records.open() as study:
        assert study.contradictions() == [
            "trial 0: it completed with 0.5, 0.001, which is not what its epochs say",
            "trial 0: its record was changed after it had ended",
        ]


def test_a_trial_ends_once(study: Study) -> None:
    ask(study)
    add(study, 0, 0.9)
    study.end(0, "completed", reason="epochs")
    with pytest.raises(AssertionError, match="cannot end again"):
        study.end(0, "failed", reason="error")
    assert study.trial(0).outcome == "completed"


def test_a_failed_trial_keeps_its_reason_and_the_end_of_its_error(study: Study) -> None:
    ask(study)
    add(study, 0, 0.9)
    study.end(0, "failed", reason="nonfinite", error="x" * 20_000 + "the last line")
    record = study.trial(0)
    assert (record.outcome, record.reason) == ("failed", "nonfinite")
    assert record.error.endswith("the last line")
    assert len(record.error) == 10_000
    assert record.counts
    assert len(record.history) == 1


def test_a_trial_that_violated_a_constraint_is_no_part_of_the_budget(study: Study) -> None:
    ask(study)
    study.end(0, "failed", reason=REASON_CONSTRAINT)
    assert not study.trial(0).counts


def test_a_trial_that_has_not_ended_is_running(study: Study) -> None:
    ask(study)
    assert (study.trial(0).outcome, study.trial(0).ended_ms) == ("running", None)


def test_numbers_rise_and_are_never_given_twice(folder: SweepFolder) -> None:
    for expected in range(4):
        with folder.records.create(SPACE) as study:
            assert study.next_number() == expected
            assert ask(study).number == expected
            study.end(expected, "failed", reason="error")


# A new trial


def test_a_new_trial_is_one_transaction_with_all_its_parameters(study: Study) -> None:
    commits = written_commits(study)
    made = ask(study, 3)
    assert len(commits) == 1
    assert study.trial(0) == made
    assert made.params.keys() == set(DISTRIBUTIONS)
    assert study._study.trials[0].distributions == DISTRIBUTIONS


@pytest.mark.parametrize("position", [0, 7, None])
def test_a_trial_says_at_which_position_the_sampler_drew_it(
    position: int | None, study: Study
) -> None:
    params = {"optimizer.learning_rate": 1e-3, "model.dropout": 0.1}
    assert study.create(params, DISTRIBUTIONS, position=position).position == position
    assert next_position(study.trials()) == (0 if position is None else position + 1)


# What can go wrong with the file


@pytest.fixture(scope="module")
def some_pages(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = SweepFolder.of(tmp_path_factory.mktemp("sweeps"), "digits")
    folder.make()
    with folder.records.create(SPACE) as study:
        for number in range(3):
            ask(study, number)
            add(study, number, *(i / 50 for i in range(20)))
    return folder.records.path.read_bytes()


@pytest.fixture
def closed(folder: SweepFolder, some_pages: bytes) -> SweepFolder:
    """A study of some pages, closed."""
    folder.records.path.write_bytes(some_pages)
    return folder


def opened_by_the_driver(folder: SweepFolder) -> None:
    with folder.records.create(SPACE) as study:
        study.trials()


def opened_by_a_reader(folder: SweepFolder) -> None:
    with folder.records.open() as study:
        study.trials()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "text": lambda content: b"this is no database\n" * 100,
    "zeroed": lambda content: bytes(len(content)),
    "no header": lambda content: bytes(100) + content[100:],
    "half": lambda content: content[: len(content) // 2],
    "cut in the first page": lambda content: content[:1000],
    "all pages but the first zeroed": lambda content: content[:4096] + bytes(len(content) - 4096),
}


@pytest.mark.fault("damaged-study")
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("opened", [opened_by_the_driver, opened_by_a_reader])
def test_a_damaged_study_is_said_and_not_changed(
    damage: str, opened: Callable[[SweepFolder], None], closed: SweepFolder
) -> None:
    damaged = DAMAGE[damage](closed.records.path.read_bytes())
    closed.records.path.write_bytes(damaged)
    with pytest.raises(DamagedData, match="the study cannot be read: ") as caught:
        opened(closed)
    assert caught.value.exit_code == 65
    assert caught.value.where == str(closed.records.path)
    assert "\n" not in caught.value.message
    assert closed.records.path.read_bytes() == damaged


@pytest.mark.fault("damaged-study")
def test_the_driver_notices_any_page_that_was_zeroed(closed: SweepFolder) -> None:
    content = closed.records.path.read_bytes()
    unnoticed = []
    for start in range(0, len(content), 4096):
        damaged = content[:start] + bytes(4096) + content[start + 4096 :]
        closed.records.path.write_bytes(damaged)
        try:
            opened_by_the_driver(closed)
        except DamagedData:
            assert closed.records.path.read_bytes() == damaged
        else:
            unnoticed.append(start)
    assert unnoticed == []


@pytest.mark.fault("damaged-study")
def test_a_file_with_two_studies_or_none_is_refused(closed: SweepFolder) -> None:
    path = closed.records.path
    optuna.create_study(storage=f"sqlite:///{path}", study_name="another")
    with pytest.raises(DamagedData, match="holds 2 studies, and a sweep has one") as caught:
        opened_by_a_reader(closed)
    assert "another" in (caught.value.hint or "")
    with pytest.raises(DamagedData, match="holds 2 studies"):
        opened_by_the_driver(closed)
    for study_name in optuna.get_all_study_names(f"sqlite:///{path}"):
        optuna.delete_study(study_name=study_name, storage=f"sqlite:///{path}")
    with pytest.raises(DamagedData, match="holds 0 studies"):
        opened_by_a_reader(closed)


@pytest.mark.fault("damaged-study")
def test_a_study_of_a_later_optuna_is_said(closed: SweepFolder) -> None:
    with sqlite3.connect(closed.records.path) as connection:
        connection.execute("update version_info set schema_version = 9999")
        connection.execute("update alembic_version set version_num = 'v99.0.0.a'")
    connection.close()
    with pytest.raises(DamagedData, match=r"the study cannot be read: .*optuna"):
        opened_by_the_driver(closed)


def test_a_reader_makes_no_study(folder: SweepFolder) -> None:
    with pytest.raises(CannotWrite, match="cannot be opened: No such file"):
        opened_by_a_reader(folder)
    assert files(folder) == []


@pytest.mark.fault("disk-full")
@pytest.mark.parametrize("local", [True, False])
def test_a_full_disk_is_said_and_loses_nothing(
    local: bool, folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_local", lambda path: local)
    acknowledged: list[Epoch] = []

    def fill() -> None:
        with folder.records.create(SPACE) as study:
            ask(study)
            full = f"pragma max_page_count={folder.records.path.stat().st_size // 4096 + 1}"
            with study._database.engine.connect() as connection:
                connection.exec_driver_sql(full)
            for number in range(1, 1000):
                large = replace(epoch(number), checkpoint="x" * 1000)
                study.add_epoch(0, large, 0.5)
                acknowledged.append(large)

    with pytest.raises(CannotWrite, match=r"the study cannot be written: .*full") as caught:
        fill()
    assert caught.value.exit_code == 73
    with folder.records.create(SPACE) as study:
        assert list(study.trial(0).history) == acknowledged
        assert acknowledged


@pytest.mark.fault("study-locked")
def test_a_study_that_another_program_keeps_locked_is_said(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.2)
    with folder.records.create(SPACE) as study:
        ask(study)
    other = sqlite3.connect(folder.records.path, isolation_level=None)
    other.execute("begin immediate")
    try:
        with (
            pytest.raises(SweepBusy, match="another program has kept the study locked"),
            folder.records.create(SPACE) as study,
        ):
            study.add_epoch(0, epoch(1), 0.5)
    finally:
        other.execute("rollback")
        other.close()
    with folder.records.open() as study:
        assert study.trial(0).history == ()


@pytest.mark.fault("study-locked")
def test_a_foreign_transaction_that_ends_in_time_is_waited_for(folder: SweepFolder) -> None:
    with folder.records.create(SPACE) as study:
        ask(study)
        other = sqlite3.connect(folder.records.path, isolation_level=None, check_same_thread=False)
        other.execute("begin immediate")
        release = threading.Timer(0.5, lambda: other.execute("rollback"))
        release.start()
        begin = time.monotonic()
        study.add_epoch(0, epoch(1), 0.5)
        assert time.monotonic() - begin > 0.3
        release.join()
        other.close()
        assert len(study.trial(0).history) == 1


FLIPS = int(os.environ.get("CKCONV_FLIPS", "60"))


@pytest.mark.fault("damaged-study")
def test_a_flipped_bit_anywhere_is_read_over_or_said_and_never_a_traceback(
    closed: SweepFolder,
) -> None:
    content, draws, said = closed.records.path.read_bytes(), random.Random(0), []
    for _ in range(FLIPS):
        damaged = bytearray(content)
        damaged[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
        closed.records.path.write_bytes(damaged)
        try:
            with closed.records.open() as study:
                study.trials()
        except (DamagedData, ConfigError) as error:
            said.append(error.message)
    assert said
    assert [message for message in said if "\n" in message] == []


@pytest.mark.fault("damaged-study")
@pytest.mark.parametrize(
    "statement",
    [
        "update trial_user_attributes set value_json = 'not json' where key = 'epoch:3'",
        "update trial_user_attributes set value_json = '[1, 2]' where key = 'epoch:3'",
        "update trial_user_attributes set value_json = '{\"a\": 1}' where key = 'epoch:3'",
        "update trials set state = 'LOST'",
        "delete from study_user_attributes where key = 'space'",
        "update study_user_attributes set key = 'uie' where key = 'uid'",
        "update study_user_attributes set value_json = '{\"a\": 1}' where key = 'created_ms'",
        "insert into study_user_attributes values (99, 1, 'sessions', '{\"a\": 1}')",
        "insert into study_user_attributes values (99, 1, 'mlflow', '{\"urj\": \"x\"}')",
        "insert into alembic_version values ('v9')",
        *(
            "update trial_user_attributes set value_json = replace(value_json, "
            f"'{old}', '{new}') where key = 'epoch:3'"
            for old, new in (
                ('"val/accuracy"', '"val/accurbcy"'),
                ('"timestamp_ms"', '"timestamp_mr"'),
                ('"timestamp_ms": ', '"timestamp_ms": 0.'),
                ('"checkpoint": "', '"checkpoint": 1, "x": "'),
                ('"val/accuracy": ', '"more": "x", "val/accuracy": '),
            )
        ),
        "delete from trial_intermediate_values where trial_id = 1; "
        "update trials set state = 'COMPLETE' where trial_id = 1",
    ],
)
def test_a_record_that_is_none_of_ours_is_damage(statement: str, closed: SweepFolder) -> None:
    connection = sqlite3.connect(closed.records.path)
    connection.executescript(statement)
    connection.close()
    before = closed.records.path.read_bytes()
    for opened in (opened_by_a_reader, opened_by_the_driver):
        with pytest.raises(DamagedData, match="the study cannot be read: "):
            opened(closed)
    assert closed.records.path.read_bytes()[100:] == before[100:]  # the header counts the openings


CONTRADICTIONS = {
    "delete from trial_intermediate_values where step = 7 and trial_id = 1": "without a gap: ",
    "delete from trial_user_attributes where key = 'epoch:20' and trial_id = 1": (
        "epoch 20 was acknowledged and has no metrics"
    ),
    "update trial_intermediate_values set intermediate_value = 9 where step = 2": (
        "epoch 2 was acknowledged with another val/accuracy than its metrics say"
    ),
    "insert into trial_values values (99, 1, 0, 0.7, 'FINITE'); "
    "update trials set state = 'COMPLETE' where trial_id = 1": "it completed with 0.7, which is",
    "update trials set state = 'FAIL' where trial_id = 1": "it failed without a reason",
    "delete from trial_intermediate_values where trial_id = 1; "
    "update trials set state = 'PRUNED' where trial_id = 1": "pruned before its first epoch",
}


@pytest.mark.fault("damaged-study")
@pytest.mark.parametrize("script", CONTRADICTIONS)
def test_a_study_says_what_no_driver_leaves_behind(script: str, closed: SweepFolder) -> None:
    with closed.records.open() as study:
        assert study.contradictions() == []
    connection = sqlite3.connect(closed.records.path)
    connection.executescript(script)
    connection.close()
    with closed.records.open() as study:
        said = study.contradictions()
    assert said[0].startswith("trial 0: ")
    assert CONTRADICTIONS[script] in said[0]


def test_a_study_of_every_outcome_contradicts_nothing(study: Study) -> None:
    for number, outcome in enumerate(("completed", "pruned", "failed", "running")):
        ask(study)
        add(study, number, 0.1, 0.2)
        if outcome != "running":
            study.end(number, outcome, reason="error" if outcome == "failed" else "")
    assert study.contradictions() == []


def test_each_epoch_says_its_session_and_the_last_one_what_was_spent(study: Study) -> None:
    ask(study)
    for number, session in ((1, 1), (2, 1), (3, 4)):
        study.add_epoch(0, epoch(number), 0.5, session=session, spent_seconds=10.5 * number)
    record = study.trial(0)
    assert (record.sessions, record.spent_seconds) == ((1, 1, 4), 31.5)


def test_errors_of_others_pass_through_a_study_unchanged(folder: SweepFolder) -> None:
    for error in (FileNotFoundError(2, "gone", "elsewhere"), RuntimeError("x"), KeyError("y")):
        with pytest.raises(type(error)) as caught, folder.records.create(SPACE):
            raise error
        assert caught.value is error


def test_what_was_read_under_the_same_lock_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = machine(tmp_path, make_space(trials=3, epochs=2))
    assert not swept.run(kill_before=9)
    before = swept.records()
    assert {record.outcome for record in before} == {"completed", "running"}
    with swept.folder.records.open() as first:
        assert first.trials() == before
    read: list[int] = []
    real = rows.record_of
    monkeypatch.setattr(
        "ckconv_sweep.record.study.record_of", lambda t: read.append(t.number) or real(t)
    )
    with swept.folder.records.create(swept.space, first) as second:
        assert second.trials() == before
    assert read == [record.number for record in before if record.outcome == "running"]


def test_a_file_that_was_put_in_the_place_of_the_study_is_read_anew(tmp_path: Path) -> None:
    swept = machine(tmp_path, make_space(trials=2, epochs=1))
    path = swept.folder.records.path
    empty = path.read_bytes()
    assert swept.run()
    with swept.folder.records.open() as first:
        assert len(first.trials()) == 2
    other = path.with_name("other.db")
    other.write_bytes(empty)
    other.rename(path)
    with swept.folder.records.create(swept.space, first) as second:
        assert second.trials() == []


def test_an_end_is_synced_and_epochs_are_once_a_second(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, now, synced = module.transaction, 100.0, list[int]()

    @contextlib.contextmanager
    def watched(storage: Any, **options: Any) -> Any:
        with real(storage, **options) as writes:
            mode = writes._connection.exec_driver_sql("PRAGMA synchronous").scalar()
            synced.append({1: False, 2: True}[mode])
            yield writes

    monkeypatch.setattr(module, "transaction", watched)
    monkeypatch.setattr("ckconv_sweep.record.study.time.monotonic", lambda: now)
    ask(study)
    for number in (1, 2, 3):
        study.add_epoch(0, epoch(number), 0.5)
    now += 1.5
    study.add_epoch(0, epoch(4), 0.5)
    study.add_epoch(0, epoch(5), 0.5)
    study.end(0, "completed", reason="epochs")
    assert synced == [True, False, False, True, False, True]


def test_without_a_log_every_epoch_is_synced(folder: SweepFolder) -> None:
    with folder.records.create(SPACE):
        pass
    with contextlib.closing(sqlite3.connect(folder.records.path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    with (
        module.storage_at(folder.records.path) as storage,
        module.transaction(storage, synced=False) as writes,
    ):
        assert writes._connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    module.sync_log(folder.records.path)
