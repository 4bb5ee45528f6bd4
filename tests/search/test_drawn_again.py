"""What a sampler drew is drawn again from the record alone, or the difference is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sweep.in_process import machine, make_space

from ckconv_sweep.config.sampling import SAMPLERS
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.trials import BASE, TrialRecord
from ckconv_sweep.search.drawn_again import Redrawn, as_they_were, redrawn

from .test_samplers import DRAWING, space_for

LEARNING = [name for name in DRAWING if name not in ("random", "qmc", "grid")]


def swept(
    folder: Path, space: Space, *, kills: tuple[int, ...] = (), concurrency: int = 3
) -> list[TrialRecord]:
    """The trials of a sweep by a real coordinator, killed before these writes."""
    one = machine(folder, space, concurrency=concurrency)
    for kill in kills:
        one.run(kill_before=kill)
    assert one.run()
    return one.records()


@pytest.mark.parametrize("name", DRAWING)
def test_every_draw_of_a_killed_sweep_of_three_places_is_made_again(name: str, disk: Path) -> None:
    space = space_for(name, scheduler="{name: median, startup_trials: 2}", epochs=4)
    records = swept(disk, space, kills=(9, 14, 30))
    assert {record.outcome for record in records} >= {"completed"}
    for record in records:
        assert redrawn(record, records, space) == Redrawn("same")


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_a_sampler_that_learns_is_shown_the_trials_as_they_were_then(name: str, disk: Path) -> None:
    space = space_for(name)
    records = swept(disk, space)
    last = records[-1]
    then = as_they_were(records, last, at_once_ended=True)
    assert "running" in {record.outcome for record in then}  # three places: two ran beside it
    all_known = [replace(record, ended_ms=last.started_ms - 1) for record in records[:-1]]
    assert redrawn(last, [*all_known, last], space).told == "differs"
    assert redrawn(last, records, space).told == "same"


@pytest.mark.parametrize("name", DRAWING)
def test_another_recorded_value_is_told_with_both(name: str, disk: Path) -> None:
    space = space_for(name)
    records = swept(disk, space)
    rate = "optimizer.learning_rate"
    wrong = replace(records[4], params={**records[4].params, rate: 0.0123})
    found = redrawn(wrong, records, space)
    assert found.told == "differs"
    assert found.why == f"{rate} 0.0123 is recorded, {records[4].params[rate]!r} is drawn"


def test_where_the_clock_was_set_back_nothing_is_claimed(disk: Path) -> None:
    space = space_for("tpe")
    records = swept(disk, space)
    records[6] = replace(records[6], started_ms=records[2].started_ms - 5)
    found = redrawn(records[6], records, space)
    assert found.told == "cannot be told"
    assert "the clock was set back" in found.why


def test_repeats_have_the_settings_of_their_trial_and_the_draws_see_settings(disk: Path) -> None:
    space = make_space(sampler="tpe, startup_trials: 3", trials=6, repeats="{seeds: 2}")
    records = swept(disk, space, kills=(12, 25))
    repeats = [record for record in records if record.repeat_of is not None]
    assert len(repeats) == 6
    assert {redrawn(record, records, space).told for record in records} == {"same"}
    odd = replace(repeats[0], params={**repeats[0].params, "model.dropout": 0.2})
    other = replace(repeats[0], params={**repeats[0].params, "model.dropout": 0.1})
    assert "differs" in {redrawn(one, records, space).told for one in (odd, other)}


def test_continuations_follow_from_the_recorded_verdict(disk: Path) -> None:
    space = make_space(
        search="\n  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}",
        scheduler="{name: pbt, interval_epochs: 2}",
        trials=6,
        epochs=8,
    )
    records = swept(disk, space)
    continued = [record for record in records if record.replaces is not None]
    assert continued
    assert {redrawn(record, records, space).told for record in records} == {"same"}
    wrong = replace(continued[0], params={"optimizer.learning_rate": 0.05})
    found = redrawn(wrong, records, space)
    assert found.told == "differs"
    assert found.why.startswith(f"from the verdict on t{continued[0].replaces:03d}: ")


def test_first_trials_are_those_of_the_space_and_what_nobody_drew_is_called_so(disk: Path) -> None:
    space = make_space(first="[base, {model.dropout: 0.2}]", trials=3)
    records = swept(disk, space)
    assert [record.first for record in records] == [0, 1, None]
    assert {redrawn(record, records, space).told for record in records} == {"same"}
    assert redrawn(replace(records[0], first=1), records, space).told == "differs"
    added = replace(records[2], position=None, request="r1")
    assert redrawn(added, records, space) == Redrawn("not drawn", "a person added it")
    control = replace(records[2], position=None, confirms=BASE, seed_index=0)
    assert redrawn(control, records, space).told == "not drawn"
    again = replace(records[2], position=None, confirms=2, seed_index=0)
    assert redrawn(again, records, space) == Redrawn("same")


def test_the_samplers_that_learn_are_named_here() -> None:
    assert set(LEARNING) == {"tpe", "gp", "nsgaii", "cmaes"} <= SAMPLERS.keys()
