from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.errors import ConfigError, UnknownNameError
from ckconv_sweep.report.leaderboard import all_columns, default_columns, leaderboard
from ckconv_sweep.report.selection import Selection

from .records import LEARNING_RATE, examples, record, space

SEARCH = f"{LEARNING_RATE}\n  model.hidden_channels: {{low: 4, high: 64}}"
SPACE = space(search=SEARCH)
WIDTHS = [40, 16, 30, 20, 8]
SCORES = [0.9, 0.7, 0.8, 0.6, 0.95]
RECORDS = [
    replace(
        record(i, [score], "pruned" if i == 4 else "completed"),
        params={"optimizer.learning_rate": 1e-3 * (i + 1), "model.hidden_channels": width},
    )
    for i, (score, width) in enumerate(zip(SCORES, WIDTHS, strict=True))
]
COUNTS = {i: 100 * width for i, width in enumerate(WIDTHS)}


def chosen(**options: object) -> pd.DataFrame:
    table = all_columns(RECORDS, SPACE, COUNTS)
    selection = Selection(**options)  # type: ignore[arg-type]
    return selection.apply(table, SPACE.metrics, default_columns(SPACE, table))


def test_without_options_it_is_the_leaderboard() -> None:
    pd.testing.assert_frame_equal(chosen(), leaderboard(RECORDS, SPACE))


def test_a_rank_stays_that_of_the_whole_sweep() -> None:
    table = chosen(where=["hidden_channels < 30"])
    assert table["trial"].tolist() == [1, 3, 4]
    assert table["rank"].tolist()[:2] == [3, 4]


def test_rows_are_filtered_then_sorted_then_cut() -> None:
    table = chosen(where=["outcome == completed"], sort="hidden_channels", top=2)
    assert table["model.hidden_channels"].tolist() == [16, 20]
    table = chosen(where=["outcome == completed"], sort="hidden_channels:desc", top=2)
    assert table["model.hidden_channels"].tolist() == [40, 30]


def test_columns_are_those_that_are_named_in_their_order() -> None:
    table = chosen(columns=["hidden_channels", "trial", "parameters", "trial"], top=1)
    assert list(table) == ["model.hidden_channels", "trial", "model.parameters"]


def test_a_column_that_is_not_shown_can_be_asked_for() -> None:
    assert chosen(where=["parameters <= 2000"], columns=["trial"])["trial"].tolist() == [1, 3, 4]


def test_pareto_keeps_the_completed_trials_that_no_other_beats() -> None:
    table = chosen(pareto=["parameters"])
    # Trial 3 is larger and worse than trial 1; trial 4, best and smallest, did not complete.
    assert table["trial"].tolist() == [0, 2, 1]
    assert list(table)[3:5] == ["val/accuracy", "model.parameters"]


@examples
@given(st.lists(st.tuples(st.integers(1, 4), st.floats(0, 1), st.booleans()), max_size=8))
def test_pareto_is_the_plain_definition(drawn: list[tuple[int, float, bool]]) -> None:
    records = [
        record(i, [score], "completed" if done else "pruned")
        for i, (_, score, done) in enumerate(drawn)
    ]
    counts = {i: size for i, (size, _, _) in enumerate(drawn)}
    table = Selection(pareto=["model.parameters"]).apply(
        all_columns(records, space(), counts), SPACE.metrics, ["trial", "val/accuracy"]
    )
    done = {i: (size, -score) for i, (size, score, ended) in enumerate(drawn) if ended}
    expected = {
        i
        for i, (size, loss) in done.items()
        if not any(
            other[0] <= size and other[1] <= loss and other != (size, loss)
            for other in done.values()
        )
    }
    assert set(table["trial"]) == expected


def test_pareto_of_several_metrics_weighs_all_of_them() -> None:
    """Trial 2 is worse than trial 1 in accuracy and size, and has the lowest loss."""
    of = parse_space(
        f"{space().to_yaml()}metrics: [{{name: val/accuracy}}, {{name: val/loss, mode: min}}]", "s"
    )
    told = [(0.5, 0.5), (0.7, 0.4), (0.6, 0.1)]
    records = [
        replace(
            record(i),
            history=(Epoch(number=1, metrics={"val/accuracy": a, "val/loss": b}, timestamp_ms=1),),
        )
        for i, (a, b) in enumerate(told)
    ]
    table = all_columns(records, of, {0: 300, 1: 100, 2: 200})
    assert table["pareto"].tolist() == [True, True, False]
    chosen = Selection(pareto=["parameters"]).apply(table, of.metrics, default_columns(of, table))
    assert list(zip(chosen["rank"], chosen["trial"], strict=True)) == [(1, 1), (2, 2)]
    assert list(chosen)[3:6] == ["val/accuracy", "val/loss", "model.parameters"]


def test_pareto_in_a_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="reason holds no numbers"):
        chosen(pareto=["reason"])


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"where": ["hiden_channels < 3"]}, "--where hiden_channels < 3"),
        ({"sort": "hiden_channels:asc"}, "--sort hiden_channels:asc"),
        ({"columns": ["trial", "hiden_channels"]}, "--columns trial,hiden_channels"),
        ({"pareto": ["hiden_channels"]}, "--pareto hiden_channels"),
    ],
)
def test_an_unknown_name_says_in_which_option_it_stands(
    options: dict[str, object], where: str
) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'model\.hidden_channels'") as caught:
        chosen(**options)
    assert caught.value.where == where


def test_every_column_that_is_named_is_known_before_anything_is_counted() -> None:
    selection = Selection(
        where=["trial > 3"], pareto=["seconds"], sort="epochs:desc", columns=["omega_0"]
    )
    known = ["trial", "seconds", "epochs", "model.kernel.omega_0"]
    assert list(selection.names(known)) == known
