"""`evaluate` records each opening of the test split where the checkpoint belongs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ckconv_sweep.record.confirmation import Opening, openings
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.openings import FILE
from ckconv_sweep.sweep.opening import open_test
from tests.sweep.test_opening import with_weights

from .commands import ckconv_sweep, ended, files_in, refused, typed_here


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    """Confirmed, and its test split shut: `t002` is a seed of the winner, t000."""
    return with_weights(tmp_path)


def recorded(folder: SweepFolder) -> list[Opening]:
    with folder.records.open() as study:
        return openings(study.notes())


def of_seed(folder: SweepFolder, confirms: int) -> Path:
    with folder.records.open() as study:
        number = next(r.number for r in study.confirmations() if r.confirms == confirms)
    return folder.trial(number)


@pytest.mark.fault("test-once")
def test_an_opening_of_a_trial_is_recorded_in_its_sweep_with_what_came_before(
    sweep: SweepFolder, tmp_path: Path
) -> None:
    loser = of_seed(sweep, 1)
    first = ckconv_sweep("evaluate", loser, cwd=tmp_path)
    said = ended(first)
    assert "opening 1 of the test split of this sweep; none before\n" in first.stderr
    assert "exploratory: the fixed winner is t000; choose no setting by this number" in first.stderr
    (one,) = recorded(sweep)
    assert (one.by, one.exploratory, one.confirms, one.elsewhere) == ("evaluate", True, 1, False)
    assert list(one.trials) == [int(loser.name)]
    assert f"test/accuracy {one.scores['test/accuracy']:.6f}" in said
    second = ckconv_sweep("evaluate", next(loser.glob("best-*")), "--json", cwd=tmp_path)
    as_json = json.loads(ended(second))["opening"]
    assert (as_json["number"], as_json["before"], as_json["recorded"]) == (2, 1, "sweep")
    assert as_json["exploratory"] is True
    assert len(recorded(sweep)) == 2


def test_only_a_seed_of_the_fixed_winner_is_not_exploratory(
    sweep: SweepFolder, tmp_path: Path
) -> None:
    done = ckconv_sweep("evaluate", of_seed(sweep, 0), cwd=tmp_path)
    ended(done)
    assert "exploratory" not in done.stderr
    assert [opening.exploratory for opening in recorded(sweep)] == [False]


def test_evaluate_before_confirm_leaves_the_one_opening_of_confirm_to_it(
    sweep: SweepFolder, tmp_path: Path
) -> None:
    ended(ckconv_sweep("evaluate", of_seed(sweep, 0), cwd=tmp_path))
    found = open_test(sweep)
    assert found is not None
    assert [(o.by, o.confirms) for o in found.openings] == [
        ("evaluate", 0),
        ("confirm", 0),
        ("confirm", -1),
    ]


def test_a_search_without_a_confirmation_has_no_fixed_winner(tmp_path: Path) -> None:
    folder = with_weights(tmp_path, seeds=5)
    done = ckconv_sweep("evaluate", of_seed(folder, 0), cwd=tmp_path)
    ended(done)
    assert "exploratory: no winner is fixed yet, which ckconv-sweep confirm mine" in done.stderr


def test_the_validation_split_is_never_recorded(sweep: SweepFolder, tmp_path: Path) -> None:
    done = ckconv_sweep(
        "evaluate", of_seed(sweep, 1), "--split", "validation", "--json", cwd=tmp_path
    )
    assert "opening" not in json.loads(ended(done))
    assert done.stderr == ""
    assert recorded(sweep) == []


@pytest.mark.fault("test-once")
def test_while_a_driver_holds_the_sweep_the_test_split_stays_shut(
    sweep: SweepFolder, tmp_path: Path
) -> None:
    with sweep.records.lock():
        said = refused(ckconv_sweep("evaluate", of_seed(sweep, 1), cwd=tmp_path), 75)
        ended(ckconv_sweep("evaluate", of_seed(sweep, 1), "--split", "validation", cwd=tmp_path))
    assert "each opening of the test split is recorded in its sweep" in said
    assert recorded(sweep) == []


@pytest.mark.fault("test-once")
def test_where_nothing_can_be_recorded_the_score_says_so(
    sweep: SweepFolder, tmp_path: Path
) -> None:
    (sweep.root / "lock").unlink(missing_ok=True)
    (sweep.root / "lock").mkdir()  # nobody can hold it, not even root
    done = ckconv_sweep("evaluate", of_seed(sweep, 1), cwd=tmp_path)
    ended(done)
    assert "note: this opening of the test split is not recorded: " in done.stderr
    assert "lock: cannot be made: Is a directory" in done.stderr
    assert recorded(sweep) == []


def test_a_checkpoint_that_was_copied_away_is_told_as_not_recorded(
    sweep: SweepFolder, tmp_path: Path
) -> None:
    (path,) = of_seed(sweep, 1).glob("best-*.pt")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(path, elsewhere)
    done = ckconv_sweep("evaluate", elsewhere, "--json", cwd=tmp_path)
    opening = json.loads(ended(done))["opening"]
    assert (opening["recorded"], opening["number"]) == (None, None)
    assert "is not recorded: it lies in no sweep's and no run's folder" in done.stderr
    assert list(files_in(elsewhere)) == [path.name]
    assert recorded(sweep) == []


def test_a_single_run_keeps_its_openings_beside_its_checkpoint(
    trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "runs" / "trial", tmp_path / "run")
    (tmp_path / "run" / FILE).unlink(missing_ok=True)
    first = ckconv_sweep("evaluate", "run", cwd=tmp_path)
    assert ended(first)
    assert first.stderr == ""
    with (tmp_path / "run" / FILE).open("a") as file:
        file.write('{"scores": {"test/acc')  # its writer was killed: nobody saw that number
    second = ckconv_sweep("evaluate", "run", "--sampling-rate", 2, cwd=tmp_path)
    ended(second)
    assert "opening 2 of the test split of this run; 1 before: " in second.stderr
    first, *_, last = (
        Opening(**json.loads(line))
        for line in (tmp_path / "run" / FILE).read_text().splitlines()
        if line.endswith("}")
    )
    assert (first.dataset, first.sequences, first.sampling_rate) == ("digits", 360, None)
    assert (last.sampling_rate, last.exploratory) == (2, True)


def test_table_and_report_show_test_numbers_apart_from_the_ranking(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    where = ("--sweeps-dir", tmp_path)
    before = typed_here("table", "mine", *where, "--format", "json")
    assert "test split" not in typed_here("table", "mine", *where)
    open_test(sweep)
    by_hand = ckconv_sweep("evaluate", of_seed(sweep, 1), "--json", cwd=tmp_path)
    as_json = json.loads(ended(by_hand))["opening"]
    assert (as_json["number"], as_json["before"]) == (2, 1)
    assert "opening 2 of the test split of this sweep; 1 before: " in by_hand.stderr
    said = typed_here("table", "mine", *where)
    assert "test split, opened 2 times (no setting is chosen by these numbers):" in said
    assert "confirm, t000, 3 seeds: test/accuracy 0." in said
    assert typed_here("table", "mine", *where, "--format", "json") == before
    typed_here("report", "mine", *where, "--out", "report.html")
    page = (tmp_path / "report.html").read_text()
    assert '<h2 id="confirmed">Confirmed</h2>' in page
    assert '<h2 id="test">Test numbers</h2>' in page
    assert "The test split was opened 2 times." in page
    assert "confirm, t000, 3 seeds: test/accuracy 0." in page
