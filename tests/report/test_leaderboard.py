from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import REASON_CONSTRAINT
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.leaderboard import all_columns, leaderboard, shown, unvaried

from .records import BLOCKS, MAX, MIN, examples, record, space


def ranking(table: pd.DataFrame) -> list[tuple[int, int]]:
    """(rank, trial) of the ranked rows, from the top."""
    ranked = table.dropna(subset="rank")
    return list(zip(ranked["rank"].tolist(), ranked["trial"].tolist(), strict=True))


def test_only_completed_trials_are_ranked() -> None:
    records = [
        record(0, [0.9], "running"),
        record(1, [0.8], "pruned"),
        record(2, [0.7], "failed", reason="nonfinite"),
        record(3, [0.1], "completed"),
    ]
    assert ranking(leaderboard(records, space())) == [(1, 3)]


def test_the_others_follow_running_before_pruned_before_failed() -> None:
    records = [
        record(0, [0.9], "failed", reason="nonfinite"),
        record(1, [0.8], "pruned"),
        record(2, [0.7], "running"),
        record(3, [0.1], "completed"),
        record(4, [0.95], "pruned"),
    ]
    assert leaderboard(records, space())["trial"].tolist() == [3, 2, 4, 1, 0]


def test_the_highest_is_first_where_the_metric_is_maximised() -> None:
    records = [record(0, [0.1]), record(1, [0.3]), record(2, [0.2])]
    assert leaderboard(records, space(MAX))["trial"].tolist() == [1, 2, 0]


def test_the_lowest_is_first_where_the_metric_is_minimised() -> None:
    records = [record(i, [v], metric="val/loss") for i, v in enumerate([0.1, 0.3, 0.2])]
    assert leaderboard(records, space(MIN))["trial"].tolist() == [0, 2, 1]


@pytest.mark.parametrize(("metric", "name"), [(MAX, "val/accuracy"), (MIN, "val/loss")])
def test_of_equals_the_earlier_trial_is_first(metric: str, name: str) -> None:
    records = [record(i, [0.5], metric=name) for i in (1000, 1, 101)]
    assert leaderboard(records, space(metric))["trial"].tolist() == [1, 101, 1000]


def test_a_trial_is_judged_by_its_best_epoch_the_earlier_of_equals() -> None:
    row = leaderboard([record(0, [0.1, 0.7, 0.3, 0.7])], space()).iloc[0]
    assert (row["val/accuracy"], row["at epoch"], row["epochs"]) == (0.7, 2, 4)


def test_a_trial_is_judged_by_its_last_epoch_where_the_space_says_so() -> None:
    last = space("{name: val/accuracy, mode: max, at: last}")
    row = leaderboard([record(0, [0.1, 0.7, 0.3])], last).iloc[0]
    assert (row["val/accuracy"], row["at epoch"]) == (0.3, 3)


def test_seconds_are_the_sum_over_the_epochs() -> None:
    assert leaderboard([record(0, [0.1, 0.2, 0.3])], space())["seconds"].tolist() == [1.5]


def test_a_trial_that_violated_a_constraint_is_left_out() -> None:
    records = [record(0, [], "failed", reason=REASON_CONSTRAINT), record(1, [0.2])]
    assert leaderboard(records, space())["trial"].tolist() == [1]


def test_the_outcome_of_a_failed_trial_says_its_reason() -> None:
    failed = record(0, [], "failed", reason="out_of_memory")
    assert leaderboard([failed], space())["outcome"].tolist() == ["failed (out_of_memory)"]


def test_a_trial_without_an_epoch_is_last_of_its_kind() -> None:
    records = [record(0, [], "running"), record(1, [0.1], "running")]
    table = leaderboard(records, space())
    assert table["trial"].tolist() == [1, 0]
    assert pd.isna(table["val/accuracy"][1])
    assert pd.isna(table["at epoch"][1])


@pytest.mark.parametrize("records", [[], [record(0, [], "failed", reason=REASON_CONSTRAINT)]])
def test_a_sweep_without_trials_has_the_columns_and_no_row(records: list[TrialRecord]) -> None:
    table = leaderboard(records, space())
    assert len(table) == 0
    assert list(table) == [
        "rank",
        "trial",
        "outcome",
        "val/accuracy",
        "at epoch",
        "epochs",
        "seconds",
        "optimizer.learning_rate",
    ]


PLATEAU = {
    "schedule": "plateau",
    "schedule.plateau.patience": 7,
    "model.hidden_channels": 12,
    "model.dropout": 0.25,
}
COSINE = {
    "schedule": "cosine",
    "schedule.cosine.warmup_epochs": 2,
    "model.hidden_channels": 2**53 + 1,
    "model.dropout": 0.0,
}


def test_whole_numbers_stay_whole_where_other_rows_have_none() -> None:
    """A setting of a block that was not chosen, and a trial whose draw was cut off."""
    records = [
        record(0, [0.1], params=PLATEAU),
        record(1, [0.2], params=COSINE),
        record(2, [], "running", params={"schedule": "cosine"}),
    ]
    table = leaderboard(records, space(search=BLOCKS)).sort_values("trial")
    expected: dict[str, list[Any]] = {
        "rank": [2, 1, None],
        "at epoch": [1, 1, None],
        "epochs": [1, 1, 0],
        "schedule.plateau.patience": [7, None, None],
        "schedule.cosine.warmup_epochs": [None, 2, None],
        "model.hidden_channels": [12, 2**53 + 1, None],
    }
    for name, values in expected.items():
        got = [None if pd.isna(value) else value for value in table[name].tolist()]
        assert got == values, name
        assert not any(isinstance(value, float) for value in got), name


@pytest.mark.fault("extreme-numbers")
def test_whole_numbers_of_40_digits_and_the_ends_of_real_ones_stay_what_they_are() -> None:
    huge = 10**39 + 1
    search = f"  training.batch_size: {{choices: [{huge}, 2]}}"
    sizes, values = [huge, 2, None], [1e308, -0.0, 5e-324]
    records = [
        record(i, [value], params={} if size is None else {"training.batch_size": size})
        for i, (size, value) in enumerate(zip(sizes, values, strict=True))
    ]
    table = leaderboard(records, space(search=search)).sort_values("trial")
    assert [value.hex() for value in table["val/accuracy"].tolist()] == [v.hex() for v in values]
    assert [None if pd.isna(v) else v for v in table["training.batch_size"].tolist()] == sizes
    assert ranking(leaderboard(records, space(search=search))) == [(1, 0), (2, 2), (3, 1)]


def test_a_column_without_any_value_is_there() -> None:
    table = leaderboard([record(0, [0.1], params=PLATEAU)], space(search=BLOCKS))
    assert table["schedule.cosine.warmup_epochs"].isna().tolist() == [True]


_values = st.lists(st.sampled_from([0.1, 0.2, 0.3]) | st.floats(-1e3, 1e3), min_size=1, max_size=4)
_outcomes = st.sampled_from(["completed", "completed", "pruned", "failed", "running"])
_reasons = st.sampled_from(["nonfinite", REASON_CONSTRAINT])


@examples
@given(st.lists(st.tuples(_outcomes, _values, _reasons), max_size=8), st.booleans())
def test_the_ranking_is_the_plain_one(drawn: list[tuple[Any, list[float], str]], up: bool) -> None:
    name, metric = ("val/accuracy", MAX) if up else ("val/loss", MIN)
    asked: Space = space(metric)
    records = [
        record(i, values, outcome, reason=reason if outcome == "failed" else "", metric=name)
        for i, (outcome, values, reason) in enumerate(drawn)
    ]
    table = leaderboard(records, asked)

    best = max if up else min
    scores = {i: best(v) for i, (o, v, _) in enumerate(drawn) if o == "completed"}
    order = sorted(scores, key=lambda i: (-scores[i] if up else scores[i], i))
    assert ranking(table) == [(rank, trial) for rank, trial in enumerate(order, start=1)]
    assert table[name].tolist()[: len(order)] == [scores[i] for i in order]
    assert len(table) == sum(r.counts for r in records)


def test_all_columns_have_every_metric_at_the_epoch_by_which_the_trial_is_judged() -> None:
    judged = record(0, [0.1, 0.7, 0.3])
    losses = [3.0, 2.0, 1.0]
    history = tuple(
        replace(epoch, metrics={**epoch.metrics, "val/loss": loss})
        for epoch, loss in zip(judged.history, losses, strict=True)
    )
    table = all_columns([replace(judged, history=history), record(1, [], "running")], space())
    assert table["val/loss"][0] == 2.0
    assert pd.isna(table["val/loss"][1])
    assert table["time/epoch_seconds"][0] == 0.5


def test_all_columns_have_reason_and_outcome_apart_and_what_is_shown_joins_them() -> None:
    records = [record(0, [0.1], reason="epochs"), record(1, [], "failed", reason="nonfinite")]
    table = all_columns(records, space())
    assert table["outcome"].tolist() == ["completed", "failed"]
    assert table["reason"].tolist() == ["epochs", "nonfinite"]
    joined = shown(table, ["outcome"])["outcome"].tolist()
    assert joined == ["completed", "failed (nonfinite)"]
    assert shown(table, ["reason", "outcome"])["outcome"].tolist() == ["completed", "failed"]


def test_the_numbers_of_parameters_stand_beside_their_trials() -> None:
    records = [record(3, [0.1]), record(1, [0.2]), record(2, [], "running")]
    table = all_columns(records, space(), {3: 300, 1: 100})
    counts = dict(zip(table["trial"], table["model.parameters"], strict=True))
    assert (counts[3], counts[1], counts[2]) == (300, 100, pd.NA)
    assert "model.parameters" not in all_columns(records, space())


def test_settings_that_never_varied_are_those_with_one_value() -> None:
    records = [
        record(0, [0.1], params=PLATEAU),
        record(1, [0.2], params=COSINE | {"model.dropout": 0.25}),
        record(2, [0.2], params=COSINE | {"model.dropout": 0.25}),
    ]
    asked = space(search=BLOCKS)
    same = unvaried(leaderboard(records, asked), asked.parameters())
    assert same == {
        "model.dropout": 0.25,
        "schedule.plateau.patience": 7,
        "schedule.cosine.warmup_epochs": 2,
    }


def test_of_one_trial_no_setting_is_said_never_to_vary() -> None:
    asked = space()
    assert unvaried(leaderboard([record(0, [0.1])], asked), asked.parameters()) == {}


def test_a_thousand_trials_of_a_hundred_epochs_take_well_under_a_second() -> None:
    records = [record(i, [i / 1000] * 100) for i in range(1000)]
    asked = space(trials=1000)
    start = time.process_time()
    table = leaderboard(records, asked)
    assert time.process_time() - start < 0.5  # 0.04 s measured
    assert table["trial"][0] == 999


def test_what_has_not_ended_runs_only_in_a_sweep_that_runs() -> None:
    records = [record(0, [0.5], "running"), record(1, [0.4])]
    for state, outcome in (("running", "running"), ("interrupted", "unfinished")):
        table = leaderboard(records, space(), state=state)  # type: ignore[arg-type]
        assert table["outcome"].tolist() == ["completed", outcome]
