from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.errors import ConfigError, UnknownNameError
from ckconv_sweep.report.columns import better_is, find, sorted_by, split_order, typed

from .records import examples

KNOWN = ["trial", "epochs", "model.kernel.omega_0", "model.hidden_channels", "training.epochs"]
KNOWN += ["model.kernel.hidden_channels"]


@pytest.mark.parametrize(
    ("given_name", "column"),
    [
        ("model.kernel.omega_0", "model.kernel.omega_0"),
        ("omega_0", "model.kernel.omega_0"),
        (" kernel.omega_0 ", "model.kernel.omega_0"),
        ("epochs", "epochs"),
        ("kernel.hidden_channels", "model.kernel.hidden_channels"),
    ],
)
def test_a_column_is_found_by_its_name_or_its_last_words(given_name: str, column: str) -> None:
    assert find(given_name, KNOWN, "--sort") == column


def test_an_ending_of_several_columns_names_them_all() -> None:
    with pytest.raises(ConfigError, match="several columns end in 'hidden_channels'") as caught:
        find("hidden_channels", KNOWN, "--sort")
    assert str(caught.value.hint).count("hidden_channels") == 2


@pytest.mark.parametrize("name", ["model.hiden_channels", "hidden_chanels"])
def test_an_unknown_column_gets_the_nearest_name(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'model\.hidden_channels'"):
        find(name, KNOWN, "--sort")


def test_an_order_is_said_after_a_colon() -> None:
    assert split_order("val/loss") == ("val/loss", None)
    assert split_order("val/loss:desc") == ("val/loss", True)
    assert split_order("val/loss:asc") == ("val/loss", False)
    with pytest.raises(ConfigError, match="asc or desc must follow"):
        split_order("val/loss:down")


@examples
@given(
    st.lists(st.none() | st.integers(-2, 2) | st.floats(-2, 2) | st.booleans() | st.text("ab")),
    st.sampled_from([None, True, False]),
)
def test_rows_are_sorted_with_gaps_last_and_equal_ones_as_they_were(
    cells: list[Any], descending: bool | None
) -> None:
    table = pd.DataFrame({"a": pd.Series(cells, dtype=object), "row": range(len(cells))})
    got = sorted_by(table, "a", descending)["row"].tolist()
    # Numbers before true and false before text, each in its own order.
    kinds = {int: 0, float: 0, bool: 1, str: 2}
    there = [i for i, cell in enumerate(cells) if cell is not None]
    expected = sorted(
        there, key=lambda i: (kinds[type(cells[i])], cells[i]), reverse=bool(descending)
    )
    assert got == expected + [i for i, cell in enumerate(cells) if cell is None]


def test_unless_said_otherwise_a_score_has_its_best_first() -> None:
    table = pd.DataFrame({"val/accuracy": [0.1, 0.3], "val/loss": [2.0, 1.0], "seconds": [9, 3]})
    assert sorted_by(table, "val/accuracy").index.tolist() == [1, 0]
    assert sorted_by(table, "val/loss").index.tolist() == [1, 0]
    assert sorted_by(table, "seconds").index.tolist() == [1, 0]
    assert [better_is(n) for n in ("val/accuracy", "test/auc", "val/loss", "model.parameters")] == [
        "max",
        "max",
        "min",
        "min",
    ]


def test_columns_get_the_type_of_their_values_and_keep_their_gaps() -> None:
    table = typed(
        pd.DataFrame(
            {
                "whole": pd.Series([1, None, 2**53 + 1], dtype=object),
                "real": pd.Series([0.5, None, 1], dtype=object),
                "huge": pd.Series([10**30, None, 1], dtype=object),
                "flag": pd.Series([True, None, False], dtype=object),
                "text": pd.Series(["a", None, "b"], dtype=object),
                "none": pd.Series([None] * 3, dtype=object),
            }
        )
    )
    assert str(table["whole"].dtype) == "Int64"
    assert table["whole"].tolist()[2] == 2**53 + 1
    assert table["real"].dtype == float
    assert math.isnan(table["real"][1])
    assert table["huge"].tolist() == [10**30, None, 1]
    assert [table[name].dtype for name in ("flag", "text", "none")] == [object] * 3
