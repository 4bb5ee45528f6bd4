"""`benchmarks.published`: what a confirmation says goes into the pages, and no more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import published
from benchmarks.published import HEAD, ROWS, fill, result, table
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.record.confirmation import Opening, add_openings
from tests.report.confirmations import confirmed_study

SPACE = """
trial:
  data: {name: digits}
  model: {hidden_channels: 4, blocks: 1, kernel: {hidden_channels: 4}}
  training: {epochs: 1}
metric: {name: val/accuracy, mode: max}
search: {optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}}
budget: {trials: 1}
"""
ROW = "character_trajectories_sr2"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where one row has ended: a sweep of that name."""
    of = parse_space(SPACE, "space.yaml")
    folder = confirmed_study(
        tmp_path, [0.95], {0: [0.97, 0.98, 0.99]}, seeds=3, control=0, space=of
    )
    each = {"test/accuracy": [0.98, 0.99, 0.97], "test/loss": [0.1, 0.1, 0.1]}
    scores = {"test/accuracy": 0.98, "test/loss": 0.1}
    opening = Opening(scores=scores, each=each, trials=[1, 2, 3], confirms=0, by="confirm")
    with folder.records.open_for_writing() as study:
        add_openings(study, opening)
    folder.root.rename(tmp_path / ROW)
    return tmp_path


def test_a_row_has_the_means_over_its_seeds_with_their_intervals(out: Path) -> None:
    lines = table({ROW: result(ROW, out), "adding": result("adding", out)})
    assert lines[0] == HEAD
    assert (
        "| 3 of 3 | accuracy 0.9800 ± 0.0248 | accuracy 0.9800 ± 0.0248, loss 0.1000 ± "
        in (lines[2])
    )
    assert lines[3] == "| `adding` | none |  |  |  |  |"


def test_the_pages_get_the_numbers_of_rows_that_have_ended_as_often_as_they_are_filled_in(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = out / "docs"
    shutil.copytree(published.ROOT / "docs", pages, ignore=shutil.ignore_patterns("*.png"))
    monkeypatch.setattr(published, "ROOT", out)
    before = {path: path.read_text().splitlines() for path in pages.glob("*.md")}
    results = {row: result(row, out) for row in ROWS}
    fill(results)
    once = {path: path.read_text() for path in before}
    fill(results)
    assert {path: path.read_text() for path in before} == once
    guide = once[pages / "guide.md"].splitlines()
    changed = [line for line in guide if line not in before[pages / "guide.md"]]
    assert changed == [
        "| every 2nd step ¹ | - | `ckconv-sweep train character_trajectories_sr2` | "
        "98.00 ± 2.48 ⁴ |"
    ]
    assert len(guide) == len(before[pages / "guide.md"])
    filled = once[pages / "results.md"].splitlines()
    start = filled.index(HEAD)
    assert filled[start : start + 2 + len(ROWS)] == table(results)
    assert before[pages / "results.md"][:start] == filled[:start]
