from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.config.history import best, end_reason, objective
from ckconv_sweep.config.trial import Metric

from .test_schedules import epochs
from .tiny import examples, make_trial


@pytest.mark.parametrize(
    ("metric", "number"),
    [
        ({"name": "val/accuracy", "mode": "max"}, 2),
        ({"name": "val/loss", "mode": "min"}, 1),
        ({"name": "val/accuracy", "mode": "max", "at": "last"}, 5),
        ({"name": "val/loss", "mode": "min", "at": "last"}, 5),
    ],
)
def test_the_earlier_of_equal_epochs_counts_or_the_last(
    metric: dict[str, Any], number: int
) -> None:
    rule = Metric(**metric)
    history = epochs([0.1, 0.9, 0.1, 0.9, 0.5], rule.name)
    assert best(history, rule).number == number
    assert objective(history, rule) == history[number - 1].metrics[rule.name]


def early(patience: int, epochs: int = 10, at: str = "best") -> Any:
    return make_trial(
        training={"epochs": epochs, "early_stopping_epochs": patience}, metric={"at": at}
    )


@pytest.mark.parametrize("at", ["best", "last"])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], None),
        ([0.5], None),
        ([0.5, 0.4], None),
        ([0.5, 0.4, 0.3], "early_stopping"),
        ([0.5, 0.5, 0.5], "early_stopping"),  # equal is not better
        ([0.5, 0.4, 0.6], None),
        ([0.5, 0.4, 0.6, 0.6], None),
        ([0.5, 0.4, 0.6, 0.6, 0.6], "early_stopping"),
        ([0.5, 0.9, 0.6, 0.7], "early_stopping"),  # counted from the best, not from the last rise
        ([0.1] * 10, "epochs"),
        ([float(n) for n in range(10)], "epochs"),
    ],
)
def test_early_stopping_counts_from_the_best_epoch(
    values: list[float], reason: str | None, at: str
) -> None:
    assert end_reason(early(2, at=at), epochs(values)) == reason


@examples
@given(st.lists(st.floats(0, 1), max_size=9))
def test_without_early_stopping_only_the_number_of_epochs_ends_a_trial(
    values: list[float],
) -> None:
    assert end_reason(early(0), epochs(values)) is None
    assert end_reason(early(0, epochs=9), epochs((values + [0.0] * 9)[:9])) == "epochs"


@examples
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.sampled_from(["max", "min"]))
def test_what_follows_from_a_history_does_not_change_it(values: list[float], mode: str) -> None:
    rule = Metric(name="val/accuracy" if mode == "max" else "val/loss", mode=mode)
    history = epochs(values, rule.name)
    before = copy.deepcopy(history)
    extreme = max(values) if mode == "max" else min(values)
    assert objective(history, rule) == objective(history, rule) == extreme
    assert best(history, rule).number == values.index(extreme) + 1
    assert history == before
