from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from ckconv_sweep.report.leaderboard import leaderboard
from ckconv_sweep.report.render import to_csv, to_json, to_markdown, to_terminal

from .records import BLOCKS, examples, record, space
from .test_leaderboard import COSINE, PLATEAU


def printed(table: pd.DataFrame, width: int, **options: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(to_terminal(table, width=width, **options))
    return console.export_text().splitlines()


def many_settings() -> tuple[pd.DataFrame, list[str]]:
    asked = space(search=BLOCKS)
    records = [
        record(0, [0.5], params=PLATEAU),
        record(1, [0.6], params=COSINE | {"model.hidden_channels": 40}),
        record(2, [], "failed", reason="out_of_memory", params=PLATEAU),
    ]
    return leaderboard(records, asked), list(asked.parameters())


def test_in_80_columns_the_settings_become_one_column() -> None:
    table, searched = many_settings()
    lines = printed(table, 80, settings=searched, title="digits")
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "settings" in lines[2]
    assert "patience=7" in text
    assert "…" not in text


def test_in_80_columns_no_cell_but_the_settings_is_broken() -> None:
    table, searched = many_settings()
    rows = [line for line in printed(table, 80, settings=searched) if "completed" in line]
    assert len(rows) == 2
    text = "\n".join(printed(table, 80, settings=searched))
    assert "failed (out_of_memory)" in text


@pytest.mark.parametrize("width", range(60, 168))
def test_no_number_is_broken_in_the_middle(width: int) -> None:
    table, searched = many_settings()
    long = table.assign(**{"optimizer.learning_rate": 0.004609})
    lines = printed(long, width, settings=[*searched, "optimizer.learning_rate"])
    assert max(map(len, lines)) <= width
    words = " ".join(line.split("│")[-2] for line in lines if line.startswith("│")).split()
    assert words.count("learning_rate=0.004609") + words.count("0.004609") == 3


def test_with_many_metrics_in_80_columns_the_last_ones_are_told_beside_the_settings() -> None:
    table, searched = many_settings()
    for place, name in enumerate(("model.parameters", "time/epoch_seconds", "95 % low"), start=4):
        table.insert(place, name, 0.25)
    lines = printed(table, 80, settings=searched)
    assert max(map(len, lines)) <= 80
    text = " ".join("\n".join(lines).split())
    assert "…" not in text
    assert sum("completed" in line for line in lines) == 2
    for told in ("time/epoch_seconds", "low=", "patience=7"):
        assert told in text


def test_merged_settings_leave_out_what_a_trial_has_not() -> None:
    table, searched = many_settings()
    rows = printed(table.head(1), 80, settings=searched)
    assert "patience" not in "\n".join(rows)


def test_in_200_columns_every_setting_has_a_column() -> None:
    table, searched = many_settings()
    lines = printed(table, 200, settings=searched)
    heading = lines[1]
    for name in ("schedule", "patience", "warmup_epochs", "hidden_channels", "dropout", "seconds"):
        assert name in heading
    assert "=" not in "\n".join(lines)


def test_a_column_without_a_single_value_is_left_out() -> None:
    asked = space(search=BLOCKS)
    table = leaderboard([record(0, [0.5], params=PLATEAU)], asked)
    text = "\n".join(printed(table, 200, settings=list(asked.parameters())))
    assert "warmup_epochs" not in text


def test_a_terminal_shows_four_digits_and_whole_numbers_in_full() -> None:
    table = pd.DataFrame({"a": [0.123456789], "b": [123456789]})
    row = printed(table, 80)[3]
    assert "0.1235" in row
    assert "0.12345" not in row
    assert "123456789" in row


@pytest.mark.fault("extreme-numbers")
def test_huge_and_tiny_numbers_stand_right_aligned_in_80_columns() -> None:
    values = [1e308, -1e-308, 5e-324, -0.0, 0.5, 12345.678]
    lines = printed(pd.DataFrame({"metric": values}), 80)
    rows = [line for line in lines if line.startswith("│")]
    assert len({len(row) for row in rows}) == 1
    assert [row[-3] != " " for row in rows] == [True] * len(values)
    assert [float(row.strip("│ ")) for row in rows] == pytest.approx(values, rel=1e-3, abs=1e-320)


@pytest.mark.fault("extreme-numbers")
@examples
@given(st.lists(st.floats() | st.integers(-(10**40), 10**40) | st.none(), min_size=1, max_size=6))
@example([1e308, -0.0, 5e-324, 10**39, -(10**39), 2**63 - 1, math.inf, None])
@example([10**400])
def test_any_numbers_stand_aligned_and_readable_in_80_columns(values: list[Any]) -> None:
    table = pd.DataFrame({"trial": range(len(values)), "x": pd.Series(values, dtype=object)})
    rows = [line for line in printed(table, 80) if line.startswith("│")]
    assert len({len(row) for row in rows}) == 1
    assert "…" not in "".join(rows)
    shown = [row.strip("│").split("│")[1:] for row in rows]
    for value, cells in zip(values, shown, strict=True):
        if value is None or value != value:
            assert "".join(cells).strip() == ""
        else:
            assert cells[0][-2] != " "  # right-aligned
            assert Decimal(cells[0].strip()) == pytest.approx(Decimal(value), rel=Decimal("1e-3"))


@pytest.mark.parametrize("write", [to_markdown, lambda table: "\n".join(printed(table, 80))])
def test_no_text_commands_a_terminal(write: Callable[[pd.DataFrame], str]) -> None:
    text = write(pd.DataFrame({"outcome": ["\x1b[31mred\x07"], "\x1b]0;title\x07": [1]}))
    assert "\\x1b[31mred\\x07" in text.replace("\\\\", "\\")
    assert [c for c in text if not c.isprintable() and c != "\n"] == []


@pytest.mark.parametrize(
    "text", ["[bold]x[/bold]", "[/]", "größer", "日本", "\N{SNAKE}", "a|b", "a\\b"]
)
def test_odd_names_are_printed_as_they_are(text: str) -> None:
    lines = printed(pd.DataFrame({"outcome": [text], text: [1.5]}), 80)
    assert sum(text in line for line in lines) == 2


def test_an_empty_sweep_keeps_its_headings_on_a_terminal() -> None:
    asked = space()
    lines = printed(leaderboard([], asked), 80, settings=list(asked.parameters()), title="digits")
    assert lines[0].strip() == "digits"
    assert "trial" in lines[2]


def test_an_empty_sweep_is_an_empty_list_in_json() -> None:
    assert json.loads(to_json(leaderboard([], space()))) == []


def test_an_empty_sweep_is_a_line_of_headings_in_csv() -> None:
    (heading,) = to_csv(leaderboard([], space())).splitlines()
    assert heading.startswith("rank,trial,outcome,val/accuracy")


def test_an_empty_sweep_is_two_lines_in_markdown() -> None:
    first, second = to_markdown(leaderboard([], space())).splitlines()
    assert first.startswith("| rank | trial | outcome |")
    assert second.count("---") == first.count("|") - 1


def test_a_table_without_settings_that_is_too_wide_is_turned_on_its_side() -> None:
    names = [f"quite a long name {i}" for i in range(8)]
    table = pd.DataFrame([["one", *range(8)], ["two", *range(8, 16)]], columns=["sweep", *names])
    lines = printed(table, 80)
    assert max(map(len, lines)) <= 80
    assert re.search(r"sweep +┃ one ┃ two", lines[1])
    for i, name in enumerate(names):
        assert any(re.search(rf"{name} +│ +{i} │ +{i + 8} │", line) for line in lines)


def test_a_table_that_fits_neither_way_is_broken_and_loses_nothing() -> None:
    table = pd.DataFrame({f"c{i}": ["x" * 30 + str(i)] * 20 for i in range(5)})
    lines = printed(table, 60)
    assert max(map(len, lines)) <= 60
    assert "".join(lines).count("x") == 30 * 20 * 5
    assert "…" not in "".join(lines)


def test_a_setting_whose_last_word_is_another_columns_name_keeps_more_words() -> None:
    table = pd.DataFrame({"epochs": [3], "training.epochs": [4], "model.dropout": [0.1]})
    text = printed(table, 80, settings=["training.epochs", "model.dropout"])[1]
    assert [cell.strip() for cell in text.strip("┃").split("┃")] == [
        "epochs",
        "training.epochs",
        "dropout",
    ]


# CSV


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**40), 10**40)


def exact(value: float | str) -> str:
    """To the last bit, and whether it is a whole number."""
    return float(value).hex() if isinstance(value, float) else str(value)


@pytest.mark.fault("extreme-numbers")
@examples
@given(st.lists(NUMBERS, min_size=1, max_size=6))
@example([1e308, -0.0, 5e-324, 10**39, -(10**39), 2**53 + 1, 1.0, 1])
def test_whole_and_real_numbers_of_any_size_are_read_back(values: list[Any]) -> None:
    table = pd.DataFrame({"a": pd.Series(values, dtype=object)})
    assert [exact(row["a"]) for row in json.loads(to_json(table))] == list(map(exact, values))
    _, *rows = rows_of(to_csv(table))
    kinds = map(type, values)
    read = [kind(row[0]) for kind, row in zip(kinds, rows, strict=True)]
    assert list(map(exact, read)) == list(map(exact, values))


@pytest.mark.fault("extreme-numbers")
@examples
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
def test_csv_gives_every_number_back_to_the_last_bit(values: list[float]) -> None:
    _, *rows = rows_of(to_csv(pd.DataFrame({"a": values})))
    assert [float(row[0]).hex() for row in rows] == [value.hex() for value in values]


@pytest.mark.fault("csv-escape")
@pytest.mark.parametrize(
    "text",
    [
        "=cmd|x",
        "+1",
        "-1",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "=1+1",
        "=",
        "\n=1",
        "\0=1",
        "-0.5",
        "\uff1d1",
    ],
)
def test_csv_quotes_a_text_that_a_spreadsheet_would_run(text: str) -> None:
    _, _, after = to_csv(pd.DataFrame({"a": [text]})).partition("\n")
    assert after.removesuffix("\n").strip('"') == "'" + text


@pytest.mark.fault("csv-escape")
@examples
@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
    st.sampled_from("=+-@\t\r"),
)
def test_no_cell_of_csv_begins_as_a_formula(text: str, sign: str) -> None:
    table = pd.DataFrame({"a": [sign + text, text], "b": [-1.5, 2]})
    _, *rows = csv.reader(io.StringIO(to_csv(table), newline=""))
    assert rows[0] == ["'" + sign + text, "-1.5"]
    assert rows[1][0] in (text, "'" + text)
    assert rows[1][0][:1] not in "=+-@\t\r\n"


@pytest.mark.fault("csv-escape")
@pytest.mark.parametrize("text", ["=1", "-1", "@x", "\tx", "'x", "x\ny"])
def test_json_gives_every_text_back_as_it_is(text: str) -> None:
    assert json.loads(to_json(pd.DataFrame({"a": [text]}))) == [{"a": text}]


@pytest.mark.fault("csv-escape")
def test_csv_never_quotes_a_number() -> None:
    table = pd.DataFrame({"a": [-0.5, 1e-300], "b": pd.array([-3, None], dtype="Int64")})
    assert rows_of(to_csv(table)) == [["a", "b"], ["-0.5", "-3"], ["1e-300", ""]]


@pytest.mark.parametrize("text", ["plain", 'a,b "c"', "two\nlines", "größer 日本", "a=b"])
def test_csv_gives_a_harmless_text_back(text: str) -> None:
    assert rows_of(to_csv(pd.DataFrame({"a": [text]})))[1] == [text]


def test_csv_writes_whole_numbers_whole_beside_a_gap() -> None:
    table, _ = many_settings()
    heading, *rows = rows_of(to_csv(table))
    at = {name: heading.index(name) for name in heading}
    assert [row[at["rank"]] for row in rows] == ["1", "2", ""]
    assert [row[at["schedule.cosine.warmup_epochs"]] for row in rows] == ["2", "", ""]


# JSON


def test_json_has_null_and_never_nan() -> None:
    table = leaderboard([record(0, [], "running", params={})], space())
    text = to_json(table)
    assert "NaN" not in text
    (row,) = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert row == {
        "rank": None,
        "trial": 0,
        "outcome": "running",
        "val/accuracy": None,
        "at epoch": None,
        "epochs": 0,
        "seconds": 0.0,
        "optimizer.learning_rate": None,
    }


@pytest.mark.fault("extreme-numbers")
@examples
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_json_gives_every_number_back_to_the_last_bit(values: list[float]) -> None:
    rows = json.loads(to_json(pd.DataFrame({"a": values})))
    assert [float(row["a"]).hex() for row in rows] == [value.hex() for value in values]


def test_json_keeps_whole_numbers_and_true_and_false() -> None:
    table = pd.DataFrame(
        {"a": pd.array([2**53 + 1, None], dtype="Int64"), "b": [True, None], "c": [False, True]}
    )
    rows = json.loads(to_json(table))
    assert rows == [{"a": 2**53 + 1, "b": True, "c": False}, {"a": None, "b": None, "c": True}]


# Markdown


@pytest.mark.fault("csv-escape")
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_markdown_escapes_bars_and_line_breaks(end: str) -> None:
    _, _, row = to_markdown(pd.DataFrame({"a": [f"x|y\\z{end}w"]})).splitlines()
    assert row == "| x\\|y\\\\z w |"


def test_markdown_rows_have_one_cell_for_each_heading() -> None:
    table, _ = many_settings()
    lines = to_markdown(table).splitlines()
    assert len({line.count(" | ") for line in lines}) == 1


@pytest.mark.parametrize("write", [to_csv, to_json, to_markdown])
def test_the_table_given_is_not_changed(write: Any) -> None:
    table, _ = many_settings()
    before = table.copy()
    write(table)
    pd.testing.assert_frame_equal(table, before)


def test_infinity_is_refused_in_json_rather_than_written_as_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(pd.DataFrame({"a": [math.inf]}))


def test_settings_that_become_one_column_keep_room_to_be_read() -> None:
    """Two metrics and their front leave three characters beside the epochs and the rank at 80."""
    row: dict[str, object] = {"rank": 1, "trial": 0, "outcome": "completed"}
    row |= {"val/accuracy": 0.123456, "train/loss": 2.123456, "pareto": True, "epochs": 4}
    table = pd.DataFrame([row | {"optimizer.learning_rate": 0.002182, "model.dropout": 0.2}])
    settings = ["optimizer.learning_rate", "model.dropout"]
    wide, narrow = ("\n".join(printed(table, width, settings=settings)) for width in (92, 80))
    assert "epochs" in wide
    assert "epochs" not in narrow
    assert "rank" not in narrow
    assert "pareto" in narrow
    assert "0.002182" in narrow
