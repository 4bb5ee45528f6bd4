"""A sweep that is done once a trial is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.budget import is_finished
from ckconv_sweep.report.summary import goal_in_words

from .in_process import machine, make_space

TWO = "[{name: val/accuracy, mode: max}, {name: val/loss, mode: min}]"


def with_goal(goal: str, **others: Any) -> Space:
    space = make_space(**others)
    return replace(space, budget=space.budget.model_copy(update={"goal": goal}))


def by_seed(values: Sequence[float]) -> Any:
    """Work in which trial n has the n-th of these accuracies; the space's seed is 5."""

    def work(trial: Trial, number: int) -> Epoch:
        accuracy = values[trial.training.seed - 5]
        metrics = {"val/accuracy": accuracy, "val/loss": 1 - accuracy}
        return Epoch(number=number, metrics=metrics, timestamp_ms=number)

    return work


VALUES = [0.3, 0.5, 0.9, 0.4, 0.95, 0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("goal", "metrics", "begun", "first"),
    [
        ("val/accuracy >= 0.9", "", 4, 2),  # the fourth ran beside the third
        ("val/accuracy > 0.9", "", 6, 4),
        ("val/loss <= 0.11", TWO, 4, 2),
        ("val/accuracy >= 0.99", "", 8, None),
    ],
)
def test_once_a_completed_trial_reaches_the_goal_nothing_new_begins_and_what_runs_ends(
    goal: str, metrics: str, begun: int, first: int | None, disk: Path
) -> None:
    space = with_goal(goal, metrics=metrics, trials=8, epochs=2)
    one = machine(disk, space, work=by_seed(VALUES))
    assert one.run()
    records = one.records()
    assert [record.outcome for record in records] == ["completed"] * begun
    assert is_finished(records, space)
    told = [line.partition(" has ")[0] for line in goal_in_words(records, space)]
    assert told == ([] if first is None else [f"the goal {goal} is reached: t{first:03d}"])


def test_a_sweep_that_reached_its_goal_goes_on_to_a_higher_one(disk: Path) -> None:
    one = machine(disk, with_goal("val/accuracy >= 0.9", trials=8), work=by_seed(VALUES))
    assert one.run()
    assert one.run()  # it is finished: nothing begins
    assert len(one.records()) == 4
    one.space = with_goal("val/accuracy >= 0.95", trials=8)
    assert not is_finished(one.records(), one.space)
    assert one.run()
    assert len(one.records()) == 6


def test_a_kill_at_any_write_ends_with_the_same_trials(disk: Path) -> None:
    space = with_goal("val/accuracy >= 0.9", trials=8, epochs=1)
    one = machine(disk / "one", space, work=by_seed(VALUES))
    one.concurrency = 1
    photographs = one.run_and_photograph(disk / "killed")
    assert len(photographs) > 5
    for photograph in photographs:
        assert photograph.run()
        assert [r.number for r in photograph.records()] == [0, 1, 2]


def test_a_trial_that_was_stopped_reaches_no_goal(disk: Path) -> None:
    space = with_goal("val/accuracy >= 0.2", trials=4, epochs=4,
                      scheduler="{name: asha, grace_epochs: 1, reduction_factor: 2}")  # fmt: skip
    one = machine(disk, space, work=by_seed([0.1, 0.15, 0.1, 0.12]))
    assert one.run()
    assert len(one.records()) == 4


TEXT = """\
trial: {data: {name: digits}, training: {epochs: 2}}
search:
  model.dropout: {low: 0.0, high: 0.5}
budget: {trials: 3, goal: %s}
"""


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ("very good", "cannot read 'very good' as a bound"),
        ("val/accuracy >= good", "cannot read"),
        ("val/loss <= 0.1", "this sweep has no metric 'val/loss' for a goal"),
        ("val/accuracy <= 0.9", "of val/accuracy higher is better, so"),
    ],
)
def test_a_goal_that_is_none_is_refused_with_its_place(goal: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_space(TEXT % repr(goal), "mine.yaml")
    assert refused.value.message.startswith(message)
    assert refused.value.where == "mine.yaml:4"


def test_a_goal_is_written_and_read_back() -> None:
    space = parse_space(TEXT % "'val/accuracy >= 0.9'", "mine.yaml")
    assert space.goal is not None
    assert (space.goal.quantity, space.goal.sign, space.goal.bound) == ("val/accuracy", ">=", 0.9)
    assert parse_space(space.to_yaml(), "again") == space
