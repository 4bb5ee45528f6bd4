from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.report.pareto import pareto_optimal

from .records import examples

numbers = st.sampled_from([0.0, 1.0, 2.0, math.nan]) | st.floats(-1e6, 1e6)
directions = st.sampled_from(["min", "max"])


@examples
@given(st.data(), st.integers(1, 3), st.integers(0, 8))
def test_it_is_the_plain_definition(data: st.DataObject, many: int, trials: int) -> None:
    better = data.draw(st.lists(directions, min_size=many, max_size=many))
    row = st.lists(numbers, min_size=many, max_size=many)
    rows = data.draw(st.lists(row, min_size=trials, max_size=trials))

    def beats(one: list[float], other: list[float]) -> bool:
        each = zip(one, other, better, strict=True)
        pairs = [(a, b) if way == "min" else (-a, -b) for a, b, way in each]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    whole = [row for row in rows if not any(map(math.isnan, row))]
    expected = [row in whole and not any(beats(other, row) for other in whole) for row in rows]
    assert pareto_optimal(rows, better).tolist() == expected


def test_of_equal_trials_each_is_optimal() -> None:
    assert pareto_optimal([[1, 2], [1, 2], [2, 2]], ["min", "min"]).tolist() == [True, True, False]


def test_more_may_be_better() -> None:
    values = [[0.9, 100], [0.8, 50], [0.7, 60], [math.nan, 1]]
    assert pareto_optimal(values, ["max", "min"]).tolist() == [True, True, False, False]


def test_of_no_trial_none_is_optimal() -> None:
    assert pareto_optimal([], ["min", "max"]).tolist() == []
