"""Ranks among several metrics, against their definition written out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ckconv_sweep.config.trial import Metric
from ckconv_sweep.record.fronts import fronts

METRICS = (
    Metric(name="val/accuracy", mode="max"),
    Metric(name="val/loss", mode="min"),
    Metric(name="model.parameters", mode="min"),
)
POINT = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))


def beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    mine, theirs = ((-point[0], *point[1:]) for point in (one, other))
    return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))


@settings(max_examples=200, deadline=None)
@given(points=st.lists(POINT, max_size=20))
def test_a_front_is_what_none_of_those_that_are_left_beats(points: list[tuple[int, ...]]) -> None:
    expected, left, number = [0] * len(points), set(range(len(points))), 1
    while left:
        front = {i for i in left if not any(beats(points[j], points[i]) for j in left)}
        for i in front:
            expected[i] = number
        left, number = left - front, number + 1
    assert fronts(points, METRICS) == expected


def test_with_one_metric_all_are_on_the_first() -> None:
    assert fronts([(0.5,), (0.9,)], METRICS[:1]) == [1, 1]
