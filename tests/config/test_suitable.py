"""Which sampler `auto` takes, and that a sweep keeps it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweep.in_process import make_space, with_trials

from ckconv_sweep.config import suitable
from ckconv_sweep.config.notes import notes
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.suitable import AUTO, Line, with_taken
from ckconv_sweep.errors import ConfigError, SpaceChanged
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.sweep.driver import check_same_space

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
RANGES = "  model.dropout: {low: 0.0, high: 0.5}\n  model.hidden_channels: {low: 2, high: 9}"
SPACES: dict[str, dict[str, Any]] = {
    "gp": {"trials": 200, "search": RANGES},
    "cmaes": {"trials": 201, "search": RANGES},
    "nsgaii": {"trials": 201},
    "tpe": {"trials": 200},
}
"""One for each line of the table, if three settings were many."""


def automatic(**options: Any) -> Space:
    return make_space(sampler="auto", **options)


@pytest.mark.parametrize("line", AUTO, ids=[line.when for line in AUTO])
def test_each_line_of_the_table_takes_its_sampler_and_says_why(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suitable, "FEW_SETTINGS", 2)
    name = line.sampler.model_fields["name"].default
    space = automatic(**SPACES[name])
    assert space.sampler == line.sampler(seed=3, taken_by_auto=line.when)
    assert f"sampler {name}, taken by auto: {line.when}" in notes(space)
    assert parse_space(space.to_yaml(), "written") == space


def test_the_table_has_no_other_lines_and_the_guide_has_them_in_their_order() -> None:
    assert len(AUTO) == len(SPACES) <= 6
    rows = re.findall(r"^\| (.*) \| `(\w+)` \|$", GUIDE.read_text(), re.MULTILINE)
    names = [(line.when, line.sampler.model_fields["name"].default) for line in AUTO]
    assert [row for row in rows if row in names] == names


def test_several_metrics_and_many_trials_take_one_that_learns_from_all_of_them() -> None:
    metrics = "[{name: val/accuracy}, {name: val/loss}]"
    assert automatic(trials=201, search=RANGES, metrics=metrics).sampler.name == "nsgaii"


def test_a_sampler_that_a_file_names_is_written_without_a_word_about_auto() -> None:
    assert "auto" not in make_space(sampler="tpe").to_yaml()


def test_a_sweep_keeps_the_sampler_that_auto_took_when_its_budget_is_extended() -> None:
    stored = automatic(trials=200, search=RANGES)
    longer = automatic(trials=300, search=RANGES)
    assert [stored.sampler.name, longer.sampler.name] == ["gp", "cmaes"]
    assert with_taken(longer, stored) == with_trials(stored, 300)
    folder = SweepFolder.of(Path(), "sweep")
    check_same_space(stored, longer, folder)
    named = replace(longer, sampler=longer.sampler.model_copy(update={"taken_by_auto": ""}))
    reseeded = replace(longer, sampler=longer.sampler.model_copy(update={"seed": 4}))
    for other in (named, reseeded):
        with pytest.raises(SpaceChanged):
            check_same_space(stored, other, folder)


def test_why_auto_took_a_sampler_is_no_setting_that_a_hint_names() -> None:
    with pytest.raises(ConfigError) as refused:
        make_space(sampler="gp, taken: 1")
    assert refused.value.message == "no setting is called 'taken' in sampler"
    assert refused.value.hint == "there are: name, seed, startup_trials"
