"""Numbers that may be 0, normal numbers and ordered choices: how they are written, and drawn."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm

from ckconv_sweep.config.domains import (
    ZERO_SHARE,
    Choices,
    Interval,
    count,
    from_unit,
    in_words,
    is_value,
    points,
    to_unit,
)
from ckconv_sweep.errors import ConfigError
from config.conftest import examples, space_of

UNITS = (np.arange(20_000) + 0.5) / 20_000


def domain_of(path: str, written: str) -> Interval | Choices:
    domain = space_of(f"{path}: {written}").parameters()[path]
    assert not isinstance(domain, tuple)
    return domain


@pytest.mark.parametrize(
    ("path", "written", "words", "counted"),
    [
        (
            "training.kernel_penalty",
            "{low: 1e-6, high: 1e-2, log: true, or_zero: true}",
            "0 or 1e-06 to 0.01, log",
            None,
        ),
        (
            "training.early_stopping_epochs",
            "{low: 5, high: 15, step: 5, or_zero: true}",
            "0 or 5 to 15, steps of 5",
            4,
        ),
        (
            "model.dropout",
            "{mean: 0.2, std: 0.1, low: 0, high: 0.5}",
            "0 to 0.5, normal around 0.2 ± 0.1",
            None,
        ),
        (
            "model.hidden_channels",
            "{mean: 32, std: 0.5, low: 8, high: 128, log: true}",
            "8 to 128, log, normal around 32 ± 0.5",
            None,
        ),
        ("training.batch_size", "{choices: [32, 64, 128], ordered: true}", "32 < 64 < 128", 3),
        ("model.norm", "{choices: [none, layer], ordered: true}", "none < layer", 2),
    ],
)
def test_each_form_is_read_and_told(
    path: str, written: str, words: str, counted: int | None
) -> None:
    domain = domain_of(path, written)
    assert in_words(domain) == words
    assert count(domain) == counted
    assert counted is None or len(list(points(domain) or ())) == counted
    drawn = {from_unit(domain, unit) for unit in (0.0, 0.1, 0.5, 0.999, 1.0)}
    assert all(is_value(domain, value) for value in drawn)
    assert is_value(domain, 0.0) == (getattr(domain, "or_zero", False) or path == "model.dropout")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{low: 0, high: 1, or_zero: true}", "low > 0 must hold where or_zero is true, got low=0"),
        ("{low: 1, high: 2, or_zero: 1}", "or_zero must be true or false, got 1"),
        ("{low: 0, high: 1, mean: 0.5}", "std is missing\n  write {mean: 0.2, std: 0.1, low"),
        ("{low: 0, high: 1, std: 0.5}", "mean is missing"),
        (
            "{mean: 0.5, std: 0.1}",
            "cannot read {'mean': 0.5, 'std': 0.1} as a range\n  write {mean: 0.2, std: 0.1, low",
        ),
        (
            "{low: 0, ordered: true}",
            "cannot read {'low': 0, 'ordered': True} as a range\n  write {choices: [8, 16, 32], o",
        ),
        ("{low: 0, high: 1, mean: 0.5, std: 0}", "std > 0 must hold, got std=0.0"),
        ("{low: 0, high: 1, mean: 0.5, std: 1e9}", "std=1000000000.0 is so large that"),
        ("{low: 0, high: 1, mean: 2, std: 1}", "low <= mean <= high and low < high must hold"),
        ("{low: 1, high: 1, mean: 1, std: 1}", "low <= mean <= high and low < high must hold"),
        ("{low: 0, high: 1, mean: 0.5, std: 1, step: 0.5}", "give mean or step, not both"),
        ("{low: 0.1, high: 1, mean: 0.5, std: 1, or_zero: true}", "give mean or or_zero, not both"),
        ("{low: 0, high: 1, mean: 0.5, std: 1, log: true}", "low > 0 must hold where log is true"),
        ("{mean: 0.5, std: 1}", "cannot read {'mean': 0.5, 'std': 1} as a range"),
        ("{choices: [1.0, 2.0], ordered: 1}", "ordered must be true or false, got 1"),
        ("{low: 0, high: 1, ordered: true}", "cannot read"),
    ],
)
def test_a_wrong_form_is_refused_on_its_line(written: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        domain_of("training.kernel_penalty", written)
    assert str(refused.value).startswith(
        f"space.yaml:7: search: training.kernel_penalty: {message}"
    )


def test_a_number_that_may_be_0_is_checked_at_0_too() -> None:
    with pytest.raises(ConfigError, match="hidden_channels >= 1 must hold, got 0"):
        domain_of("model.hidden_channels", "{low: 1, high: 8, or_zero: true}")


def test_a_grid_takes_0_and_refuses_what_is_normal() -> None:
    rest = "budget: {trials: 9}\nsampler: {name: grid}"
    search = "training.early_stopping_epochs: {low: 5, high: 15, step: 5, or_zero: true}"
    domain = space_of(search, rest=rest).parameters()["training.early_stopping_epochs"]
    assert list(points(domain) or ()) == [0, 5, 10, 15]
    with pytest.raises(ConfigError, match="a grid needs steps here"):
        space_of("model.blocks: {mean: 4, std: 1, low: 1, high: 8}", rest=rest)


def test_a_fifth_is_0_and_the_rest_as_without_it() -> None:
    plain = Interval(low=1e-6, high=1e-2, whole=False, log=True)
    domain = Interval(low=1e-6, high=1e-2, whole=False, log=True, or_zero=True)
    drawn = [from_unit(domain, unit) for unit in UNITS]
    assert drawn.count(0.0) == ZERO_SHARE * len(UNITS)
    others = [value for value in drawn if value]
    expected = [from_unit(plain, unit) for unit in np.linspace(0, 1, len(others))]
    assert others == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("log", [False, True])
def test_normal_numbers_are_those_of_scipy(log: bool) -> None:
    domain = Interval(low=0.1, high=0.9, whole=False, log=log, mean=0.3, std=0.2)
    bend = math.log if log else float
    middle = bend(0.3)
    ends = ((bend(0.1) - middle) / 0.2, (bend(0.9) - middle) / 0.2)
    expected = truncnorm.ppf(UNITS[::500], *ends, loc=middle, scale=0.2)
    found = [bend(from_unit(domain, unit)) for unit in UNITS[::500]]  # type: ignore[arg-type]
    assert found == pytest.approx(list(expected), abs=1e-9)


def test_whole_normal_numbers_have_the_share_around_them() -> None:
    domain = Interval(low=2, high=6, whole=True, mean=4.0, std=1.0)
    shares = Counter(from_unit(domain, unit) for unit in UNITS)
    assert shares.keys() == {2, 3, 4, 5, 6}
    assert all(type(value) is int for value in shares)
    assert shares[2] == shares[6] < shares[3] == shares[5] < shares[4]


@st.composite
def domains(draw: st.DrawFn) -> Interval:
    whole, log = draw(st.booleans()), draw(st.booleans())
    low, high = sorted(draw(st.lists(st.integers(1, 60), min_size=2, max_size=2, unique=True)))
    form = draw(st.sampled_from(["plain", "or_zero", "normal", "step"]))
    if form == "normal":
        mean, std = draw(st.floats(low, high)), draw(st.floats(0.3, 9.0)) * (1 if log else 9)
        return Interval(low=low, high=high, whole=whole, log=log, mean=mean, std=std)
    step = 1 if form == "step" and not log else None
    return Interval(low=low, high=high, whole=whole, log=log, step=step, or_zero=form == "or_zero")


@examples
@given(domains(), st.floats(0.0, 1.0))
def test_to_unit_is_the_inverse_of_from_unit(domain: Interval, unit: float) -> None:
    value = from_unit(domain, unit)
    assert is_value(domain, value)
    there = to_unit(domain, value)
    assert 0.0 <= there <= 1.0
    assert from_unit(domain, there) == pytest.approx(value, rel=1e-6)
    if domain.whole or domain.step:
        assert from_unit(domain, there) == value


@examples
@given(domains(), st.lists(st.floats(0.0, 1.0), min_size=2, max_size=2).map(sorted))
def test_a_larger_unit_gives_no_smaller_value(domain: Interval, units: list[float]) -> None:
    low, high = (from_unit(domain, unit) for unit in units)
    assert low <= high  # type: ignore[operator]
