from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ckconv_sweep.errors import ConfigError
from ckconv_sweep.report.filters import Condition, matching, parse

from .records import examples

NUMBERS = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.sampled_from(["trial", "at epoch", "val/accuracy", "model.kernel.omega_0", "in"])
ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    sign = draw(st.sampled_from([*ORDER, "==", "!=", "in"]))
    literals: st.SearchStrategy[Any] = (
        NUMBERS if sign in ORDER else NUMBERS | TEXTS | st.booleans() | st.none()
    )
    many = draw(st.lists(literals, min_size=1, max_size=4 if sign == "in" else 1))
    return Condition(name=draw(NAMES), sign=sign, values=tuple(many))


@examples
@given(conditions())
@example(Condition(name="a", sign="in", values=(", ]", '"', "'", "\\", "\n", "", "null", "3")))
@example(Condition(name="a", sign="==", values=(math.inf,)))
def test_a_condition_that_is_written_is_read_back(condition: Condition) -> None:
    read = parse(str(condition))
    assert read == condition
    assert list(map(type, read.values)) == list(map(type, condition.values))


@pytest.mark.parametrize(
    ("text", "name", "sign", "values"),
    [
        ("model.hidden_channels < 40", "model.hidden_channels", "<", (40,)),
        ("learning_rate>=1e-3", "learning_rate", ">=", (0.001,)),
        ("schedule == plateau", "schedule", "==", ("plateau",)),
        ("  at epoch  !=  3 ", "at epoch", "!=", (3,)),
        ("trial in [3, 7]", "trial", "in", (3, 7)),
        ("trial in[3,]", "trial", "in", (3,)),
        ("a == '40'", "a", "==", ("40",)),
        ('a == "two words"', "a", "==", ("two words",)),
        ("a == 'c:\\x'", "a", "==", ("c:\\x",)),
        ("a in ['x, y', \"]\"]", "a", "in", ("x, y", "]")),
        ("a == 100_000", "a", "==", (100_000,)),
        ("a == true", "a", "==", (True,)),
        ("a == null", "a", "==", (None,)),
        ("data.name == val/x-1.5", "data.name", "==", ("val/x-1.5",)),
    ],
)
def test_what_a_person_writes(text: str, name: str, sign: str, values: tuple[Any, ...]) -> None:
    assert parse(text) == Condition(name=name, sign=sign, values=values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "this is no condition"),
        ("hidden_channels", "this is no condition"),
        ("< 3", "this is no condition"),
        ("a < ", "this is no condition"),
        ("a == two words", "this is no condition"),
        ("a < 3 and b < 4", "this is no condition"),
        ("a in 3", "this is no condition"),
        ("a in []", "this is no condition"),
        ("a in [3", "this is no condition"),
        ("a == 'open", "this is no condition"),
        ("__import__('os')", "this is no condition"),
        ("a = 3", "a comparison is written with =="),
        ("a < big", "only numbers have an order, got big"),
        ("a < true", "only numbers have an order, got true"),
        ('a == "\\x"', "cannot be read"),
    ],
)
def test_what_is_no_condition_is_one_message_with_the_form(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert said in caught.value.message
    assert caught.value.where == f"--where {text}"
    assert caught.value.hint


@examples
@given(st.text(max_size=30))
def test_any_text_is_a_condition_or_is_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert parse(str(parse(text))) == parse(text)


@examples
@given(
    st.lists(st.none() | st.integers(-3, 3), max_size=8),
    st.sampled_from([*ORDER, "==", "!=", "in"]),
    st.integers(-3, 3),
)
def test_the_rows_are_those_of_the_plain_comparison(
    cells: list[int | None], sign: str, value: int
) -> None:
    table = pd.DataFrame({"a": pd.array(cells, dtype="Int64"), "row": range(len(cells))})
    plain: dict[str, Callable[[Any, Any], bool]] = {
        **ORDER,
        "==": operator.eq,
        "!=": operator.ne,
        "in": operator.eq,
    }
    expected = [i for i, c in enumerate(cells) if c is not None and plain[sign](c, value)]
    condition = Condition(name="a", sign=sign, values=(value,))
    assert matching(table, [condition])["row"].tolist() == expected


@examples
@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=6), st.floats(allow_nan=False))
def test_a_number_that_is_none_fulfils_nothing(cells: list[float], value: float) -> None:
    table = pd.DataFrame({"a": cells})
    for sign in (*ORDER, "==", "!="):
        kept = matching(table, [Condition(name="a", sign=sign, values=(value,))])
        assert not kept["a"].isna().any()


TABLE = pd.DataFrame(
    {
        "n": pd.array([1, 2, None], dtype="Int64"),
        "word": ["x", "y", None],
        "flag": pd.Series([True, False, None], dtype=object),
        "mixed": pd.Series([1, "a", True], dtype=object),
    }
)


def rows(*texts: str) -> list[int]:
    return [int(i) for i in matching(TABLE, [parse(text) for text in texts]).index]


def test_all_conditions_must_hold() -> None:
    assert rows("n >= 1", "word == y") == [1]
    assert rows("n == 1", "word == y") == []
    assert rows() == [0, 1, 2]


def test_null_is_a_cell_without_a_value() -> None:
    assert rows("n == null") == [2]
    assert rows("word != null") == [0, 1]
    assert rows("flag in [null, true]") == [0, 2]
    assert rows("word != x") == [1]


def test_true_is_not_one_and_a_text_is_not_a_number() -> None:
    assert rows("mixed == 1") == [0]
    assert rows("mixed == true") == [2]
    assert rows("mixed == a") == [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n == x", "n holds numbers, not text"),
        ("word == 3", "word holds text, not numbers"),
        ("word < 3", "word holds text, not numbers"),
        ("flag == 1", "flag holds true or false, not numbers"),
        ("mixed < 3", "only numbers have an order"),
    ],
)
def test_another_kind_than_the_column_has_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rows(text)


def test_a_column_without_values_takes_any_kind() -> None:
    table = pd.DataFrame({"a": [None, None]})
    assert len(matching(table, [parse("a == x")])) == 0
    assert len(matching(table, [parse("a < 3")])) == 0


@examples
@given(conditions())
def test_a_condition_holds_of_its_own_value(condition: Condition) -> None:
    assume(condition.sign not in ("<", ">", "!="))
    assert all(condition.holds(value) for value in condition.values)
