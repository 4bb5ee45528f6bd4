from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.report.grouping import grouped, quantile_bins
from ckconv_sweep.report.leaderboard import all_columns

from .records import BLOCKS, MIN, examples, record, space

STEPPED = "  model.dropout: {low: 0.0, high: 0.3, step: 0.1}"
scores = st.floats(0.0, 1.0)


def row(table: pd.DataFrame, setting: str, value: Any) -> pd.Series[Any]:
    (found,) = [r for _, r in table.iterrows() if r[setting] == value]
    return found


@examples
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2]), scores), max_size=10))
def test_each_value_has_the_statistics_of_its_trials(drawn: list[tuple[float, float]]) -> None:
    asked = space(search=STEPPED)
    records = [
        record(i, [score], params={"model.dropout": value})
        for i, (value, score) in enumerate(drawn)
    ]
    groups = grouped(all_columns(records, asked), "model.dropout", asked)
    by_value: dict[float, list[float]] = {}
    for value, score in drawn:
        by_value.setdefault(value, []).append(score)
    assert groups.table["model.dropout"].tolist() == sorted(by_value)
    for value, several in by_value.items():
        got = row(groups.table, "model.dropout", value)
        assert got["trials"] == len(several)
        assert got["val/accuracy mean"] == pytest.approx(statistics.fmean(several))
        assert got["val/accuracy best"] == max(several)
        if len(several) == 1:
            assert math.isnan(got["95 % low"])
            assert math.isnan(got["95 % high"])
        else:
            error = statistics.stdev(several) / math.sqrt(len(several))
            t = scipy.stats.t.ppf(0.975, len(several) - 1)
            mean = statistics.fmean(several)
            low, high = max(0.0, mean - t * error), min(1.0, mean + t * error)
            assert got["95 % low"] == pytest.approx(low, abs=1e-12)
            assert got["95 % high"] == pytest.approx(high, abs=1e-12)


@examples
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(1, 6))
def test_bins_are_those_between_the_quantiles(numbers: list[float], bins: int) -> None:
    values = np.array(numbers)
    found = quantile_bins(values, bins)
    many = max(1, min(bins, len(numbers) // 2))
    edges = [float(np.quantile(values, i / many)) for i in range(1, many)]
    expected: dict[int, list[float]] = {}
    for number in numbers:
        place = next((i for i, edge in enumerate(edges) if number <= edge), many - 1)
        expected.setdefault(place, []).append(number)
    assert [values[index].tolist() for index in found] == [expected[i] for i in sorted(expected)]


def test_a_real_number_is_put_in_bins_that_name_their_ends() -> None:
    asked, rates = space(), [1e-4, 2e-4, 1e-3, 2e-3, 3e-3, 5e-3, 8e-3, 1e-2]
    records = [
        record(i, [0.1 * i], params={"optimizer.learning_rate": rate})
        for i, rate in enumerate(rates)
    ]
    table = grouped(all_columns(records, asked), "optimizer.learning_rate", asked, bins=4).table
    assert table["optimizer.learning_rate from"].tolist() == rates[::2]
    assert table["optimizer.learning_rate to"].tolist() == rates[1::2]
    assert table["trials"].tolist() == [2, 2, 2, 2]
    assert table["val/accuracy mean"].tolist() == pytest.approx([0.05, 0.25, 0.45, 0.65])


@pytest.mark.parametrize(("most", "binned"), [(8, False), (9, True)])
def test_whole_numbers_are_put_in_bins_where_they_are_many(most: int, binned: bool) -> None:
    asked = space(search="  model.hidden_channels: {low: 1, high: 64}")
    records = [record(i, [0.5], params={"model.hidden_channels": i + 1}) for i in range(most)]
    table = grouped(all_columns(records, asked), "model.hidden_channels", asked).table
    assert ("model.hidden_channels from" in table) == binned
    assert len(table) == (4 if binned else most)


def test_trials_that_did_not_complete_or_have_no_value_are_counted() -> None:
    asked = space(search=BLOCKS)
    plateau = {"schedule": "plateau", "schedule.plateau.patience": 7}
    cosine = {"schedule": "cosine", "schedule.cosine.warmup_epochs": 1}
    records = [
        record(0, [0.5], params=plateau),
        record(1, [0.7], params=cosine),
        record(2, [0.9], "pruned", params=plateau),
        record(3, [], "failed", params=plateau, reason="nonfinite"),
        record(4, [0.9], "running", params=cosine),
    ]
    groups = grouped(all_columns(records, asked), "schedule.plateau.patience", asked)
    assert groups.table["trials"].tolist() == [1]
    assert groups.table["val/accuracy best"].tolist() == [0.5]
    assert (groups.not_completed, groups.without_value) == (3, 1)


def test_the_best_of_a_loss_is_the_smallest() -> None:
    asked = space(MIN, search=STEPPED)
    records = [
        record(i, [v], params={"model.dropout": 0.1}, metric="val/loss")
        for i, v in enumerate([0.3, 0.2, 0.4])
    ]
    table = grouped(all_columns(records, asked), "model.dropout", asked).table
    assert table["val/loss best"].tolist() == [0.2]


def test_without_a_completed_trial_there_are_headings_and_no_row() -> None:
    asked = space(search=STEPPED)
    groups = grouped(all_columns([], asked), "model.dropout", asked)
    assert len(groups.table) == 0
    assert list(groups.table)[:3] == ["model.dropout", "trials", "val/accuracy mean"]
