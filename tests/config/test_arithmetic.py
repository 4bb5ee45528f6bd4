"""Arithmetic in a settings file is computed, and never run."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.config.arithmetic import MOST_WHOLE, read_expression
from ckconv_sweep.errors import ConfigError
from config.conftest import examples

VALUES = {"a": 3, "b.c": 0.5, "zero": 0, "less": -2}


def value_of(text: str) -> Any:
    expression = read_expression(text)
    assert expression is not None
    return expression.of(VALUES)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 ** a", 8),
        ("2 ** -a", 0.125),
        ("4 ** b.c", 2.0),
        ("-a + +7 * (2 - 1)", 4),
        ("7 // 2 + 7 % 2", 4),
        ("1_000 * 1e-3", 1.0),
        ("max(a, b.c, 9) - min(a, 2)", 7),
        ("a / 2", 1.5),
    ],
)
def test_arithmetic_has_the_value_that_python_gives_it(text: str, value: float) -> None:
    found = value_of(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a +",
        "__import__('os')",
        "a.__class__.__init__(1, 2)",
        "abs(a, a)",
        "max(a)",
        "max(*a)",
        "[a for a in b]",
        "lambda: 1",
        "a if a else a",
        "a and a",
        "a @ a",
        "(a := 2)",
        "a < 2",
        "~a",
        "1j",
        "1e999",
        "'a' * 3",
        "True",
        "f(a)[0]",
        "(a).b" + "(" * 150,
        "1 + " * 60 + "1",
    ],
)
def test_what_is_no_arithmetic_is_not_read(text: str) -> None:
    assert read_expression(text) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 / zero", "1 / zero has no value: division by zero (zero = 0)"),
        ("1 % zero", "division by zero"),
        ("zero ** less", "division by zero"),
        ("less ** b.c", "a root of a negative number (b.c = 0.5, less = -2)"),
        ("9 ** 9 ** 9", "9 ** 9 ** 9 has no value: a number is too large"),
        ("2 ** 64", "a number is too large"),
        ("2.0 ** 4000", "a number is too large"),
        ("1e308 * 10", "it is not finite"),
    ],
)
def test_an_expression_without_a_value_says_why(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        value_of(text)
    assert why in refused.value.message


EXPRESSIONS = st.recursive(
    st.sampled_from([*VALUES, "0", "7", "1e9", "0.1", "99999999999"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]), inner).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        ),
        inner.map(lambda one: f"-{one}"),
        st.tuples(inner, inner).map(lambda two: f"max({two[0]}, {two[1]})"),
    ),
    max_leaves=12,
)


@examples
@given(EXPRESSIONS)
def test_any_arithmetic_has_a_bounded_value_or_a_reason_at_once_and_is_read_back_equal(
    text: str,
) -> None:
    expression = read_expression(text)
    if expression is None:
        assert len(text) > 200
        return
    assert read_expression(str(expression)) == expression
    start = time.process_time()
    try:
        found = expression.of(VALUES)
    except ConfigError:
        found = 0
    assert time.process_time() - start < 0.5
    assert math.isfinite(found)
    assert isinstance(found, float) or abs(found) <= MOST_WHOLE


@examples
@given(st.text("ab.019_+-*/%(), <>='\"[]{}\n", max_size=40) | st.text(max_size=20))
def test_any_text_is_arithmetic_or_refused(text: str) -> None:
    expression = read_expression(text)
    if expression is not None:
        assert read_expression(str(expression)) == expression
