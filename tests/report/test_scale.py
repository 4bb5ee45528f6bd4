from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.config.domains import Choices, Interval
from ckconv_sweep.report.scale import Scale

from .records import examples

_ends = st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=2, unique=True).map(sorted)


@examples
@given(_ends, st.booleans(), st.floats(0.0, 1.0))
def test_at_is_the_inverse_of_fraction(ends: list[float], log: bool, fraction: float) -> None:
    scale = Scale(Interval(low=ends[0], high=ends[1], whole=False, log=log))
    assert scale.fraction(scale.at(fraction)) == pytest.approx(fraction, abs=1e-6)


def test_the_middle_of_a_logarithmic_scale_is_the_geometric_mean() -> None:
    scale = Scale(Interval(low=1e-4, high=1e-2, whole=False, log=True))
    assert scale.at(0.5) == pytest.approx(1e-3)
    assert scale.fraction(1e-3) == pytest.approx(0.5)


def test_choices_stand_in_the_order_of_the_file_and_true_is_not_1() -> None:
    scale = Scale(Choices(options=("b", 1, True, None)))
    assert [scale.position(value) for value in ("b", 1, True, None)] == [0, 1, 2, 3]
    assert [scale.fraction(value) for value in ("b", None)] == [0, 1]


@pytest.mark.parametrize("log", [False, True])
def test_a_0_beside_a_range_stands_at_the_low_end_of_its_scale(log: bool) -> None:
    scale = Scale(Interval(low=1e-4, high=1e-2, whole=False, log=log, or_zero=True))
    assert scale.fraction(0.0) == 0.0
    assert 0.0 < scale.fraction(1e-4) < scale.fraction(1e-3) < scale.fraction(1e-2) == 1.0
    assert scale.told(scale.ends[0]) == "0"


def test_a_range_of_one_value_has_it_in_the_middle() -> None:
    assert Scale(Interval(low=3, high=3, whole=True)).fraction(3) == 0.5


@pytest.mark.parametrize(
    ("domain", "steps"),
    [
        (Interval(low=4, high=12, whole=True, step=4), (4, 8, 12)),
        (Interval(low=0.0, high=0.3, whole=False, step=0.1), (0.0, 0.1, 0.2, 0.3)),
        (Interval(low=0, high=100, whole=True), ()),
        (Interval(low=1, high=3, whole=True, or_zero=True), (0, 1, 2, 3)),
        (Interval(low=2, high=4, whole=True, or_zero=True), ()),
        (Interval(low=1, high=4, whole=True, log=True), ()),
        (Interval(low=0.0, high=1.0, whole=False), ()),
    ],
)
def test_few_evenly_spaced_values_are_steps(domain: Interval, steps: tuple[float, ...]) -> None:
    assert all(map(math.isclose, Scale(domain).steps, steps))
    assert len(Scale(domain).steps) == len(steps)
