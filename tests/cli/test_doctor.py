"""`doctor`: what it finds in sweeps that were damaged, and that it changes nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawing import new_trial

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import read_space
from ckconv_sweep.doctor import Finding, examine, surroundings
from ckconv_sweep.doctor.finding import Examined
from ckconv_sweep.record import snapshot, versions
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.tracking.marks import Found, noted_marks
from ckconv_sweep.training import checkpoint

from .commands import (
    NOBODY,
    PROGRAM,
    REPOSITORY,
    ckconv_sweep,
    copied,
    environment,
    files_in,
    refused,
)

EPOCHS = 3


def made(here: Path, *outcomes: str, seconds: float = 2.0) -> SweepFolder:
    """A sweep of `small.yaml` with a trial of each outcome and all that belongs to it on disk. A
    running one has told 2 of 3 epochs. MLflow's records go where nobody is, and are delivered."""
    folder = SweepFolder.of(here / "sweeps", "small")
    folder.make()
    space = read_space(str(here / "small.yaml"))
    with folder.records.create(space) as study:
        study.set_note("sessions", [1])
        versions.note(study, session=1)
        for number, outcome in enumerate(outcomes):
            trial = space.resolve(new_trial(study).params, number).model_dump(mode="json")
            place = folder.trial(number)
            place.mkdir(mode=0o700)
            for epoch in range(1, EPOCHS if outcome == "running" else EPOCHS + 1):
                name = checkpoint.save(place, epoch, {"trial": trial, "epoch": epoch})
                metrics = {
                    "val/accuracy": epoch / 10 + number / 100,
                    "time/epoch_seconds": seconds,
                }
                told = Epoch(
                    number=epoch, metrics=metrics, timestamp_ms=1000 * epoch, checkpoint=name
                )
                study.add_epoch(number, told, metrics["val/accuracy"])
            if outcome != "running":
                study.end(number, outcome, reason="epochs")  # type: ignore[arg-type]
                checkpoint.save_best(place, trial, {})
                checkpoint.forget(place)
        marks = {str(n): [3, o != "running"] for n, o in enumerate(outcomes)}
        study.set_note("mlflow", {"uri": NOBODY, "marks": marks, "status": "FINISHED"})
    return folder


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked over the network: MLflow has what is noted, and nothing elsewhere."""

    def as_noted(sweep: Examined, uri: str, _: str) -> tuple[str, bool, Found | None]:
        kept = sweep.notes.get("mlflow") or {}
        if sweep.runs or not sweep.records:
            return "", False, None
        if kept.get("uri") != uri:
            return "", False, Found("", {}, [])
        return "", False, noted_marks(kept, uri, sweep.records)

    monkeypatch.setattr(surroundings, "check_answers", lambda uri: None)
    monkeypatch.setattr(surroundings, "_found", as_noted)


@pytest.fixture
def whole(here: Path) -> SweepFolder:
    return made(here, "completed", "completed", "completed")


@pytest.fixture
def interrupted(here: Path) -> SweepFolder:
    return made(here, "completed", "running", "running")


def found(folder: SweepFolder, tracking_uri: str | None = None) -> list[Finding]:
    """What is not well; on the way, that nothing was changed by looking."""
    before = files_in(folder.root.parent)
    with contextlib.chdir(folder.root.parents[1]):  # so that the commands need not say where
        findings = examine(folder, tracking_uri)
    assert files_in(folder.root.parent) == before
    return [finding for finding in findings if finding.level != "ok"]


def only(findings: list[Finding], check: str) -> Finding:
    """The only finding, which is of this check and says what to do."""
    assert [f.check for f in findings] == [check], findings
    assert findings[0].todo
    return findings[0]


def newest(folder: SweepFolder, number: int) -> Path:
    return checkpoint.checkpoints(folder.trial(number))[0][1]


def flip(path: Path, at: int = 100) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


# What is well


def test_a_whole_sweep_has_a_good_word_from_every_check(whole: SweepFolder) -> None:
    assert found(whole) == []
    findings = examine(whole)
    assert [f.check for f in findings] == [
        "study",
        "checkpoints",
        "lock",
        "mlflow",
        "disk",
        "versions",
        "modes",
    ]
    said = {f.check: f.message for f in findings}
    assert said["study"] == "whole: 3 trials, 9 epochs"
    assert said["checkpoints"].startswith("3 whole files, ")
    assert said["lock"] == "free"
    assert said["mlflow"] == f"{NOBODY} answers and has every record"
    assert said["modes"] == "nobody else can read it"


def test_an_interrupted_sweep_is_a_warning_with_the_command_that_goes_on(
    interrupted: SweepFolder,
) -> None:
    one = only(found(interrupted), "study")
    assert (one.level, one.damaged) == ("warning", False)
    assert one.message == "2 unfinished trials: 1, 2"
    assert one.todo == "ckconv-sweep resume small"
    findings = examine(interrupted)
    (said,) = [f.message for f in findings if f.check == "checkpoints"]
    assert said.endswith("; trial 1 resumes after epoch 2; trial 2 resumes after epoch 2")


# The study


@pytest.mark.fault("damaged-study")
@pytest.mark.parametrize("content", [b"", b"no database", b"half"])
def test_a_damaged_study_is_one_finding_and_the_other_checks_go_on(
    content: bytes, whole: SweepFolder
) -> None:
    before = whole.records.path.read_bytes()
    whole.records.path.write_bytes(before[: len(before) // 2] if content == b"half" else content)
    flip(next(whole.trial(2).glob("best-*")))
    study, files = found(whole)
    assert (study.check, study.level, study.damaged) == ("study", "problem", True)
    assert study.message.startswith("study.db is damaged: ")
    assert "cp -a" in study.todo
    assert (files.check, files.damaged) == ("checkpoints", True)


@pytest.mark.fault("damaged-study")
def test_a_study_that_says_what_cannot_be_is_damaged(whole: SweepFolder) -> None:
    connection = sqlite3.connect(whole.records.path)
    connection.execute("update trial_intermediate_values set intermediate_value = 7 where step = 1")
    connection.commit()
    connection.close()
    findings = found(whole)
    assert {f.check for f in findings} == {"study"}
    assert all(f.damaged for f in findings)
    assert "epoch 1 was acknowledged with another val/accuracy" in findings[0].message


@pytest.mark.fault("damaged-study")
def test_a_study_that_is_gone_is_a_problem_where_there_are_trials(whole: SweepFolder) -> None:
    whole.records.path.unlink()
    checkpoint.note_in_ledger(
        whole.trial(0), Epoch(number=1, metrics={"val/accuracy": 0.5}, timestamp_ms=7)
    )
    finding = only(found(whole), "study")
    assert finding.message == (
        "study.db is missing, and there are the folders of 3 trials, 0 checkpoints, the best "
        "weights of 3 trials with their settings, ledgers with the metrics of 1 epoch"
    )
    assert "a study.db of a backup in its place" in finding.todo
    said = refused(ckconv_sweep("launch", "small.yaml", cwd=whole.root.parents[1]), 65)
    assert "the study is missing, and there are trials: nothing is started over" in said
    said = refused(ckconv_sweep("resume", "small", cwd=whole.root.parents[1]), 65)
    assert "the study is missing" in said


@pytest.mark.fault("study-taken-away")
def test_the_copy_of_a_study_that_was_taken_away_is_named(whole: SweepFolder) -> None:
    whole.records.path.rename(whole.root / "study-rescued-1700000000000.db")
    finding = only(found(whole), "study")
    assert "study-rescued-1700000000000.db, all that was recorded" in finding.message
    root = whole.root
    assert finding.todo.endswith(f"then mv {root}/study-rescued-1700000000000.db {root}/study.db")


@pytest.mark.fault("changed-record")
def test_a_record_that_was_changed_is_told_and_the_others_are_believed(whole: SweepFolder) -> None:
    connection = sqlite3.connect(whole.records.path)
    connection.execute(
        "update trial_user_attributes set value_json = replace(value_json, '2000', '2001') "
        "where trial_id = 2"
    )
    connection.commit()
    connection.close()
    finding = only(found(whole), "study")
    assert finding.message == "trial 1: its record was changed after it had ended"
    assert finding.damaged
    done = ckconv_sweep("table", "small", cwd=whole.root.parents[1])
    assert done.returncode == 0
    assert "trial 1: its record was changed after the end, see doctor" in done.stderr


def test_a_sweep_that_never_began_is_a_warning(here: Path) -> None:
    folder = SweepFolder.of(here / "sweeps", "small")
    folder.make()
    assert only(found(folder), "study").level == "warning"


# Checkpoints


@pytest.mark.fault("damaged-checkpoint")
def test_a_damaged_checkpoint_is_named_with_the_epoch_after_which_its_trial_goes_on(
    interrupted: SweepFolder,
) -> None:
    path = newest(interrupted, 1)
    flip(path)
    _, one = found(interrupted)
    assert (one.check, one.level, one.damaged) == ("checkpoints", "problem", True)
    assert one.message.startswith(f"trials/0001/{path.name}: damaged: its SHA-256 begins with ")
    assert one.todo == ("it is not used, trial 1 resumes after epoch 1: ckconv-sweep resume small")
    for _, other in checkpoint.checkpoints(interrupted.trial(1)):
        other.unlink()
    _, one = found(interrupted)
    assert one.level == "warning"
    assert one.message.startswith("trial 1 has 2 epochs and no usable checkpoint")


def test_a_trial_of_short_epochs_need_not_have_a_checkpoint(here: Path) -> None:
    folder = made(here, "completed", "running", seconds=0.4)
    for _, path in checkpoint.checkpoints(folder.trial(1)):
        path.unlink()
    (that_it_was_interrupted,) = found(folder)
    assert that_it_was_interrupted.check == "study"


def test_findings_are_in_the_order_of_the_trials_numbers(whole: SweepFolder) -> None:
    for number in (10_000, 1_001):
        whole.trial(number).mkdir()
    assert [finding.message for finding in found(whole)] == [
        "trials/1001 belongs to no trial of the study",
        "trials/10000 belongs to no trial of the study",
    ]


@pytest.mark.fault("foreign-checkpoint")
def test_a_checkpoint_of_another_trial_is_named(interrupted: SweepFolder) -> None:
    foreign = newest(interrupted, 2)
    mine = newest(interrupted, 1)
    mine.unlink()
    shutil.copy(foreign, mine.parent)
    _, one = found(interrupted)
    assert one.message == f"trials/0001/{foreign.name}: is of another trial"
    assert one.todo == f"rm {mine.parent / foreign.name}, or trial 1 fails"


def test_a_checkpoint_from_before_there_was_a_precision_is_well(interrupted: SweepFolder) -> None:
    before = found(interrupted)
    path = newest(interrupted, 1)
    state = checkpoint.load(path)
    del state["trial"]["training"]["precision"]
    path.unlink()
    checkpoint.save(interrupted.trial(1), state["epoch"], state)
    assert found(interrupted) == before


def test_weights_that_are_gone_are_a_warning(whole: SweepFolder) -> None:
    next(whole.trial(0).glob("best-*")).unlink()
    one = only(found(whole), "checkpoints")
    assert (one.level, one.message) == ("warning", "trial 0 completed, and its weights are gone")


def test_a_folder_of_no_trial_is_a_warning(whole: SweepFolder) -> None:
    whole.trial(7).mkdir()
    assert (
        only(found(whole), "checkpoints").message == "trials/0007 belongs to no trial of the study"
    )


def test_what_a_killed_process_left_is_named_with_its_size(whole: SweepFolder) -> None:
    (whole.trial(1) / ".tmp-12-checkpoint.pt").write_bytes(bytes(2048))
    (whole.root / ".tmp-probe-4").touch()
    one = only(found(whole), "leftovers")
    assert one.message == (
        "2 leftovers of a killed process, 2.0 KiB: .tmp-probe-4, trials/0001/.tmp-12-checkpoint.pt"
    )
    assert one.todo.startswith("nothing reads them: rm -r ")


# MLflow, disk, versions, modes, lock


def test_records_that_mlflow_is_not_known_to_have_are_counted(
    whole: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with whole.records.create(read_space(str(whole.root.parents[1] / "small.yaml"))) as study:
        marks = {"0": [3, True], "1": [1, False]}
        study.set_note("mlflow", {"uri": NOBODY, "marks": marks, "status": "FINISHED"})
    one = only(found(whole), "mlflow")
    assert one.message == f"{NOBODY} answers and lacks 7 records of trials 1, 2"
    assert one.todo == f"ckconv-sweep sync small --tracking-uri {NOBODY}"
    monkeypatch.undo()
    by_notes, silent = found(whole)
    assert by_notes.message == f"7 records not known to be delivered to {NOBODY}"
    assert silent.level == "warning"
    assert f"{NOBODY} does not answer" in silent.message


def test_another_server_is_known_to_have_nothing(whole: SweepFolder) -> None:
    one = only(found(whole, "http://other:1"), "mlflow")
    assert one.message == (
        "http://other:1 answers and lacks 13 records of the sweep's own run and trials 0, 1, 2"
    )


def test_a_damaged_mlflow_database_is_said(whole: SweepFolder) -> None:
    path = whole.root.parent / "mlflow.db"
    path.write_bytes(b"no database")
    one = found(whole, f"sqlite:///{path}")[-1]
    assert (one.check, one.level, one.damaged) == ("mlflow", "problem", True)
    assert "is damaged: file is not a database" in one.message


@pytest.mark.fault("disk-full")
def test_a_study_that_there_is_no_room_to_copy_is_not_called_damaged(
    whole: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_places", lambda: [Path("/nowhere")])
    one = found(whole)[0]
    assert (one.check, one.level, one.damaged) == ("study", "problem", False)
    assert one.message == "study.db cannot be copied to be looked at: no room for a copy of it"
    assert "free disk space: /nowhere" in one.todo


@pytest.mark.fault("disk-full")
def test_too_little_room_for_the_checkpoints_of_the_running_trials_is_a_problem(
    interrupted: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = newest(interrupted, 1).stat().st_size
    real, root = shutil.disk_usage, interrupted.root
    for free, level in ((6 * size - 1, "problem"), (6 * size, "warning")):
        little = real(root)._replace(free=free)
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path, little=little: little if path == root else real(path)
        )
        (one,) = [f for f in found(interrupted) if f.check == "disk"]
        assert one.level == level
        assert "the checkpoints of 2 trials need" in one.message


@pytest.mark.fault("code-changed")
def test_other_versions_are_a_warning_and_another_major_one_is_a_problem(
    whole: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = versions.versions()
    for version, level in ((now["torch"] + "1", "warning"), ("99.0.0", "problem")):
        monkeypatch.setattr(versions, "versions", lambda version=version: now | {"torch": version})
        one = only(found(whole), "versions")
        assert one.level == level
        assert f"torch was {now['torch']}, is {version}" in one.message
    assert one.todo.endswith("ckconv-sweep resume small --allow-code-change")


@pytest.mark.fault("code-changed")
def test_trials_with_epochs_of_other_versions_are_named(
    interrupted: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = read_space(str(interrupted.root.parents[1] / "small.yaml"))
    now = versions.versions()
    monkeypatch.setattr(versions, "versions", lambda: now | {"optuna": "5.99.0"})
    with interrupted.records.create(space) as study:
        versions.note(study, session=2)
        study.set_note("sessions", [1, 2])
        last = Epoch(number=3, metrics={"val/accuracy": 0.5}, timestamp_ms=1)
        study.add_epoch(1, last, 0.5, session=2)
    (one,) = [f for f in found(interrupted) if f.check == "versions"]
    assert one.message == (
        f"from session 2 on optuna was {now['optuna']}, is 5.99.0; epochs of 1 trial since then: 1"
    )


def test_what_others_can_read_is_named_with_the_command_that_ends_it(whole: SweepFolder) -> None:
    whole.space.write_text("")
    whole.space.chmod(0o644)
    assert found(whole) == []  # its folder is closed
    whole.root.parent.chmod(0o755)
    whole.root.chmod(0o711)
    one = only(found(whole), "modes")
    assert one.message == "others can read 1 file or folder: small/space.yaml"
    assert one.todo == f"chmod -R go= {whole.root}"


@pytest.mark.fault("two-drivers")
def test_who_holds_the_lock_is_said_and_that_a_holder_was_killed(whole: SweepFolder) -> None:
    def lock() -> str:
        (said,) = [f.message for f in examine(whole) if f.check == "lock"]
        return said

    (whole.root / "lock").write_text(
        '{"pid": 4711, "host": "elsewhere", "since": "2026-01-01 00:00:00"}'
    )
    assert lock() == "free; the last driver was killed"
    with (whole.root / "lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock() == "held by process 4711 on elsewhere (since 2026-01-01 00:00:00)"


def test_a_folder_that_cannot_be_read_is_a_finding_and_no_traceback(
    whole: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage

    def broken(path: Path) -> Any:
        if path == whole.root:
            raise OSError(5, "Input/output error", "a disk")
        return real(path)

    monkeypatch.setattr(shutil, "disk_usage", broken)
    (one,) = found(whole)
    assert (one.check, one.level, one.message) == ("disk", "problem", "a disk: Input/output error")


# While a driver runs, and as a user sees it


DRIVER = """
import sys, time
from pathlib import Path
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.record import lock
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
folder = SweepFolder.existing(Path(sys.argv[1]), "small")
with folder.records.lock(), folder.records.open() as study:
    for number in range(3, 10**6):
        epoch = Epoch(number=number, metrics={"val/accuracy": 0.5}, timestamp_ms=number)
        study.add_epoch(1, epoch, 0.5)
        print(number, flush=True)
        time.sleep(0.2)
"""


@pytest.fixture
def driver(interrupted: SweepFolder) -> Iterator[Callable[[], int]]:
    """A driver that writes epochs of trial 1; returns what waits for its next one."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(interrupted.root.parent)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(PYTHONPATH=str(REPOSITORY)),
    )
    assert process.stdout is not None

    def epoch() -> int:
        return int(process.stdout.readline())

    epoch.pid = process.pid  # type: ignore[attr-defined]
    yield epoch
    process.kill()
    process.stdout.close()
    process.wait()


def test_a_look_at_a_running_sweep_changes_no_byte_and_does_not_stop_it(
    driver: Callable[[], int], interrupted: SweepFolder
) -> None:
    driver()
    os.kill(driver.pid, signal.SIGSTOP)  # type: ignore[attr-defined]
    time.sleep(0.1)
    before = files_in(interrupted.root)
    assert "study.db-wal" in before
    said = ckconv_sweep("doctor", "small", "--json", cwd=interrupted.root.parents[1])
    assert files_in(interrupted.root) == before
    os.kill(driver.pid, signal.SIGCONT)  # type: ignore[attr-defined]
    findings = {f["check"]: f for f in json.loads(said.stdout)["findings"]}
    assert findings["study"]["message"].endswith(", 2 running")
    assert findings["lock"]["message"].startswith("held by process ")
    first = driver()
    for _ in range(2):  # and while it writes
        said = ckconv_sweep("doctor", "small", cwd=interrupted.root.parents[1])
        assert "  ok      study        whole: 3 trials" in said.stdout
        assert said.returncode == 0, said.stdout
    assert driver() > first


def test_the_exit_code_is_that_of_the_worst_sweep(interrupted: SweepFolder) -> None:
    here = interrupted.root.parents[1]
    done = ckconv_sweep("doctor", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")  # warnings
    lines = done.stdout.splitlines()
    assert lines[0] == "small: 2 warnings"  # MLflow does not answer, too
    assert "  warning study        2 unfinished trials: 1, 2" in lines
    assert "           -> ckconv-sweep resume small" in lines
    flip(newest(interrupted, 2))
    shutil.copytree(interrupted.root, interrupted.root.with_name("copy"))
    done = ckconv_sweep("doctor", "--json", cwd=here)
    assert (done.returncode, done.stderr) == (65, "")
    assert [said["name"] for said in json.loads(done.stdout)] == ["copy", "small"]


def test_another_problem_than_damage_ends_with_1(whole: SweepFolder) -> None:
    space = read_space(str(whole.root.parents[1] / "small.yaml"))
    with whole.records.create(replace(space)) as study:
        (entry,) = study.note("versions")
        study.set_note("versions", [entry | {"torch": "99.0.0"}])
    done = ckconv_sweep("doctor", "small", cwd=whole.root.parents[1])
    assert (done.returncode, done.stderr) == (1, "")
    assert "  problem versions     not those of the last session: torch was 99.0.0" in done.stdout


def test_no_sweep_is_no_problem_and_an_unknown_one_is_a_mistake(whole: SweepFolder) -> None:
    here = whole.root.parents[1]
    assert "did you mean 'small'?" in refused(ckconv_sweep("doctor", "smal", cwd=here))
    shutil.rmtree(here / "sweeps")
    done = ckconv_sweep("doctor", cwd=here)
    assert (done.returncode, done.stdout) == (0, "no sweeps in sweeps\n")


@pytest.mark.ray
def test_a_sweep_that_was_really_launched_is_well(finished: Path, here: Path) -> None:
    copied(finished / "sweeps", here / "sweeps")
    before = files_in(here / "sweeps")
    done = subprocess.run(
        [PROGRAM, "doctor", "small", "--json"],
        cwd=here,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert files_in(here / "sweeps") == before
    said = json.loads(done.stdout)
    assert done.returncode == 0, said
    assert [f for f in said["findings"] if f["check"] not in ("disk", "modes", "versions")] == [
        f | {"level": "ok"} for f in said["findings"] if f["check"] in CLEAN
    ]


CLEAN = ("study", "checkpoints", "lock", "mlflow", "data")
