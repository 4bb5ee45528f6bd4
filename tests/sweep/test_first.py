"""Trials that are tried before the sampler draws: once each, whatever happens, and beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckconv_sweep.config.grid import grid, most_trials
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.budget import is_finished
from ckconv_sweep.search.feasible import Infeasible
from ckconv_sweep.sweep import coordinator

from .in_process import Machine, machine, make_space

FIRST = "[{model.dropout: 0.2}, base]"
"""Of `make_space`; the base trial has no dropout and a constant learning rate of 0.001."""


def drawn(one: Machine) -> list[object]:
    return [record.params for record in one.records() if record.first is None]


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe"])
def test_the_first_trials_come_in_their_order_and_the_sampler_draws_what_it_would_have_drawn(
    sampler: str, disk: Path
) -> None:
    with_them, without = (
        machine(disk / str(trials), make_space(sampler=sampler, first=first, trials=trials))
        for first, trials in ((FIRST, 6), ("[]", 4))
    )
    assert with_them.run()
    assert without.run()
    records = with_them.records()
    assert [record.first for record in records] == [0, 1, None, None, None, None]
    assert [record.params for record in records[:2]] == list(with_them.space.first)
    assert [r.params["model.dropout"] for r in records[:2]] == [0.2, 0.0]
    assert [record.position for record in records] == [None, None, 0, 1, 2, 3]
    if sampler != "tpe":  # which learns from the first ones
        assert drawn(with_them) == drawn(without)


def test_a_kill_at_any_write_neither_forgets_nor_repeats_a_first_trial(disk: Path) -> None:
    space = make_space(first=FIRST, trials=3, epochs=2)
    one = machine(disk / "one", space)
    photographs = one.run_and_photograph(disk / "killed")
    expected = [(r.number, r.first, r.params, r.outcome) for r in one.records()]
    assert [first for _, first, _, _ in expected] == [0, 1, None]
    assert len(photographs) > 10
    for photograph in photographs:
        assert photograph.run()
        found = [(r.number, r.first, r.params, r.outcome) for r in photograph.records()]
        assert found == expected


def test_a_grid_still_visits_all_of_its_points(disk: Path) -> None:
    space = make_space(sampler="grid", first="[base]", trials=50, epochs=1)
    points = list(grid(space))
    one = machine(disk, space)
    assert one.run()
    records = one.records()
    assert most_trials(space) == len(points) + 1 == len(records)
    assert records[0].params == space.first[0]
    assert drawn(one) == points
    assert is_finished(records, space)


def test_a_first_trial_that_violates_a_constraint_on_parameters_gives_its_place_to_a_draw(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine(disk, make_space(first=FIRST, trials=3, epochs=1))
    resolved = coordinator.resolved

    def too_large(space: Space, params: object, number: int, *others: object) -> object:
        if number == 1:
            return Infeasible("too large", "model.parameters <= 1 does not hold: 2")
        return resolved(space, params, number, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(coordinator, "resolved", too_large)
    assert one.run()
    records = one.records()
    assert [record.reason == "constraint" for record in records] == [False, True, False, False]
    assert [record.first for record in records] == [0, 1, None, None]
    assert [record.position for record in records] == [None, None, 0, 1]
