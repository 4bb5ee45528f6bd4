"""What `confirm` shows of a confirmation that has ended."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ckconv_sweep.cli.confirmed import print_json, show_confirmed
from ckconv_sweep.record.confirmation import note, noted, openings
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trials import BASE
from ckconv_sweep.sweep.delivery import deliver
from ckconv_sweep.tracking.store import database_uri
from tests.report.confirmations import confirmed_study, found_in
from tests.sweep.test_opening import SPACE, with_weights

from .commands import ckconv_sweep, ended, refused

REACHED: dict[int, list[float | None]] = {
    0: [0.9701, 0.9653, 0.9722, 0.9688],
    1: [0.9688, 0.9722, None, 0.9710],
    2: [0.9500, 0.9450, 0.9522],
    BASE: [0.9400, 0.9412, 0.9377, 0.9390],
}


def shown(tmp_path: Path, width: int = 80) -> str:
    folder = confirmed_study(tmp_path, [0.9722, 0.9653, 0.9792], REACHED, seeds=4)
    out = StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False)
    show_confirmed(console, found_in(folder), "digits")
    return out.getvalue()


def test_the_table_fits_in_80_columns_and_says_what_is_tied(tmp_path: Path) -> None:
    said = shown(tmp_path)
    table = [line for line in said.splitlines() if line.startswith(("│", "┃", "┏", "└"))]
    assert max(map(len, table)) <= 80
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table if "│" in line]
    assert [row[:2] for row in rows] == [
        ["1=", "t001"],
        ["1=", "t000"],
        ["3", "t002"],
        ["", "base"],
    ]
    assert rows[1][3:5] == ["0.9691 ± 0.0046", "-0.0026 ± 0.0102"]
    assert rows[0][4] == "leader"
    assert rows[3][5] == "4"


def test_what_follows_is_told_in_sentences_with_numbers(tmp_path: Path) -> None:
    lines = shown(tmp_path).splitlines()
    assert (
        "these two cannot be told apart: t001, t000; t000 is the smallest (5,000 parameters)"
        in lines
    )
    assert "t000 is better than the base trial by 0.0296 (0.0228 to 0.0364)" in lines
    assert (
        "shrinkage +0.0301 (95 % interval +0.0210 to +0.0393): the search said 0.9792 of its best "
        "trial, t002, and fresh seeds say 0.9491"
    ) in lines
    assert "t001: seed 2 did not complete (nonfinite); it is judged by 3 others" in lines


def test_programs_get_every_digit_and_null_where_there_is_no_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = confirmed_study(tmp_path, [0.9722, 0.9653, 0.9792], REACHED, seeds=4)
    print_json(found_in(folder))  # its settings have sizes of their own
    said = json.loads(capsys.readouterr().out)
    assert (said["offered"], said["leader"], said["tie"]) == (0, 1, [1, 0])
    assert said["settings"][1]["values"] == {"0": 0.9701, "1": 0.9653, "2": 0.9722, "3": 0.9688}
    assert said["settings"][0]["difference"] is None
    assert said["base"]["search"] is None
    assert said["openings"] == []


@pytest.mark.parametrize("tracked", [False, True])
def test_the_test_split_is_opened_by_the_command_that_showed_it_shut_before(
    tmp_path: Path, tracked: bool
) -> None:
    """Whether or not MLflow had something to be given first."""
    folder = with_weights(tmp_path)
    if tracked:
        assert deliver(folder, database_uri(tmp_path / "mlflow.db"), patience_seconds=280.0) == 0
    command = ("confirm", "mine", "--sweeps-dir", tmp_path)
    shut = ended(ckconv_sweep(*command, "--no-test", cwd=tmp_path))
    assert "the test split is shut; to open it: ckconv-sweep confirm mine" in shut
    with folder.records.open_for_writing() as study:  # as of a session with --no-test
        plan = noted(study.notes())
        assert plan is not None
        note(study, replace(plan, test=False))
    told = ended(ckconv_sweep("status", *command[1:], cwd=tmp_path))
    assert f"to read it: {folder.command('confirm')} --no-test" in told
    opened = ended(ckconv_sweep(*command, cwd=tmp_path))
    assert "test split, opened once (no setting is chosen by these numbers):" in opened
    assert ended(ckconv_sweep(*command, cwd=tmp_path)) == opened
    with folder.records.open() as study:
        assert len(openings(study.notes())) == 2


def test_a_test_split_that_cannot_be_opened_does_not_hide_what_the_confirmation_says(
    tmp_path: Path,
) -> None:
    folder = with_weights(tmp_path)
    with folder.records.open() as study:
        lost = study.confirmations()[0].number
    for file in folder.trial(lost).iterdir():
        file.unlink()
    done = ckconv_sweep("confirm", "mine", "--sweeps-dir", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot be told apart" in done.stdout or " is best" in done.stdout
    assert "test split, opened" not in done.stdout
    assert f"without the test split: {folder.command('confirm')} --no-test" in done.stderr
    with folder.records.open() as study:
        assert openings(study.notes()) == []


def test_json_reads_a_confirmation_and_trains_nothing(tmp_path: Path) -> None:
    folder = with_weights(tmp_path, seeds=5)
    command = ("confirm", "mine", "--sweeps-dir", tmp_path, "--json")
    with folder.records.lock():  # as while a driver trains it
        said = json.loads(ended(ckconv_sweep(*command, cwd=tmp_path)))
    assert (said["finished"], said["offered"], said["seeds"]) == (False, 0, 5)
    assert said["settings"][0]["parameters"] > 0
    with folder.records.open() as study:
        assert len(study.confirmations()) == 9


def test_json_of_a_sweep_that_nobody_confirmed_names_the_command(tmp_path: Path) -> None:
    folder = SweepFolder.of(tmp_path, "mine")
    folder.make()
    with folder.records.create(SPACE):
        pass
    done = ckconv_sweep("confirm", "mine", "--sweeps-dir", tmp_path, "--json", cwd=tmp_path)
    assert refused(done).startswith("error: --json: mine: no confirmation was begun\n  begin it: ")
