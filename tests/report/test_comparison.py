from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.space_file import Repeats
from ckconv_sweep.keys import REASON_CONSTRAINT
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.comparison import of_sweeps, of_trials, reservations
from ckconv_sweep.report.results import Results
from ckconv_sweep.report.sampling_error import wilson

from .records import BLOCKS, LEARNING_RATE, MAX, MIN, record, space

WIDTH = "  model.hidden_channels: {low: 4, high: 64}"


def results(name: str, asked: Space, records: Sequence[TrialRecord]) -> Results:
    return Results(
        name=name,
        uid=name,
        space=asked,
        records=tuple(records),
        state="interrupted",
        source="here",
    )


def rates(metric: str = "val/accuracy", start: float = 0.0) -> list[TrialRecord]:
    return [
        record(0, [start + 0.1, start + 0.5], metric=metric),
        record(1, [start + 0.3], metric=metric),
        record(2, [start + 0.9], "pruned", metric=metric),
        record(3, [], "failed", reason="nonfinite"),
        record(4, [start + 0.2], metric=metric, outcome="running"),
        record(5, [], "failed", reason=REASON_CONSTRAINT),
    ]


def test_the_best_of_a_sweep_has_the_interval_of_its_sequences() -> None:
    known = replace(results("a", space(), rates()), sequences=100)
    first, second = of_sweeps([known, results("b", space(), rates())]).to_dict(orient="records")
    assert (first["95 % low"], first["95 % high"]) == wilson(0.5, 100)
    assert pd.isna(second["95 % low"])


def test_a_sweep_is_a_row_of_what_its_trials_say() -> None:
    (row,) = of_sweeps([results("a", space(), rates())]).to_dict(orient="records")
    assert row == {
        "sweep": "a",
        "state": "interrupted",
        "trials": 5,
        "completed": 2,
        "pruned": 1,
        "failed": 1,
        "unfinished": 1,
        "val/accuracy best": 0.5,
        "trial": 0,
        "at epoch": 2,
        "val/accuracy median": statistics.median([0.5, 0.3]),
        "epochs": 5,
        "hours": 5 * 0.5 / 3600,
    }


def test_sweeps_of_one_metric_on_one_data_set_are_ranked() -> None:
    several = [results("a", space(), rates()), results("b", space(), rates(start=0.05))]
    assert reservations(several) == []
    assert of_sweeps(several)["sweep"].tolist() == ["b", "a"]


def test_a_sweep_without_a_completed_trial_is_last() -> None:
    several = [results("a", space(), []), results("b", space(), rates())]
    table = of_sweeps(several)
    assert table["sweep"].tolist() == ["b", "a"]
    assert pd.isna(table["val/accuracy best"][1])
    assert table["epochs"].tolist() == [5, 0]


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (MIN, "val/loss"),
        ("{name: val/accuracy, mode: max, at: last}", "val/accuracy (last epoch)"),
    ],
)
def test_different_metrics_stand_in_columns_of_their_own_and_are_not_ranked(
    other: str, name: str
) -> None:
    metric = name.partition(" ")[0]
    several = [
        results("a", space(), rates()),
        results("b", space(other), rates(metric, start=0.05)),
    ]
    (said,) = reservations(several)
    assert f"different metrics (val/accuracy, {name})" in said
    table = of_sweeps(several)
    assert table["sweep"].tolist() == ["a", "b"]
    assert table["val/accuracy best"].isna().tolist() == [False, True]
    assert table[f"{name} best"].isna().tolist() == [True, False]
    trials = of_trials(several)
    assert "rank" not in trials
    assert trials["val/accuracy"].notna().sum() + trials[name].notna().sum() == 2 * 4
    assert not (trials["val/accuracy"].notna() & trials[name].notna()).any()


def test_another_validation_split_is_said_and_not_ranked() -> None:
    text = space().to_yaml().replace("validation_fraction: 0.1", "validation_fraction: 0.2")
    other = parse_space(text, "space")
    assert other != space()
    several = [results("a", space(), rates()), results("b", other, rates(start=0.1))]
    (said,) = reservations(several)
    assert "different data (another validation_fraction)" in said
    assert of_sweeps(several)["sweep"].tolist() == ["a", "b"]
    assert "rank" not in of_trials(several)


def test_all_trials_are_ranked_over_the_sweeps() -> None:
    several = [results("a", space(), rates()), results("b", space(), rates(start=0.05))]
    table = of_trials(several)
    ranked = table.dropna(subset="rank")
    assert list(zip(ranked["sweep"], ranked["trial"], ranked["val/accuracy"], strict=True)) == [
        ("b", 0, 0.55),
        ("a", 0, 0.5),
        ("b", 1, 0.35),
        ("a", 1, 0.3),
    ]
    assert len(table) == 10
    assert set(table["outcome"][4:]) == {"pruned", "failed", "unfinished"}


def test_a_setting_that_one_sweep_searched_and_another_fixed_is_one_column() -> None:
    searched = [
        record(i, [0.5], params={"model.hidden_channels": width}) for i, width in enumerate((4, 9))
    ]
    several = [results("a", space(search=WIDTH), searched), results("b", space(), rates()[:1])]
    table = of_trials(several)
    widths = table.set_index(["sweep", "trial"])["model.hidden_channels"]
    # The last is that of its base trial.
    assert widths.to_dict() == {("a", 0): 4, ("a", 1): 9, ("b", 0): 8}
    assert "optimizer.learning_rate" not in table  # 1e-3 here, and in the base trial there
    assert "training.seed" not in table
    assert not [name for name in table if name.startswith("metric")]


def test_a_block_is_named_as_in_the_table_of_one_sweep() -> None:
    plateau: dict[str, Any] = {"model.hidden_channels": 4, "model.dropout": 0.0}
    cosine = plateau | {"schedule": "cosine", "schedule.cosine.warmup_epochs": 1}
    plateau |= {"schedule": "plateau", "schedule.plateau.patience": 7}
    records = [record(0, [0.5], params=plateau), record(1, [0.6], params=cosine)]
    table = of_trials([results("a", space(search=BLOCKS), records)]).set_index("trial")
    assert table["schedule"].to_dict() == {0: "plateau", 1: "cosine"}


def test_a_trial_whose_draw_was_cut_off_has_no_settings() -> None:
    search = f"{LEARNING_RATE}\n{WIDTH}"
    whole = {"optimizer.learning_rate": 1e-3, "model.hidden_channels": 4}
    records = [
        record(0, [0.5], params=whole),
        record(1, [0.6], params=whole | {"model.hidden_channels": 5}),
        record(2, [], "running", params={"optimizer.learning_rate": 1e-2}),
    ]
    table = of_trials([results("a", space(search=search), records)])
    assert table["trial"].tolist() == [1, 0, 2]
    assert table["model.hidden_channels"].tolist() == [5, 4, pd.NA]


def test_numbers_of_parameters_are_those_of_the_trial_in_its_sweep() -> None:
    several = [results("a", space(), rates()[:2]), results("b", space(MAX), rates()[:1])]
    table = of_trials(several, {"a": {0: 10, 1: 11}, "b": {0: 20}})
    counts = table.set_index(["sweep", "trial"])["model.parameters"]
    assert counts.to_dict() == {("a", 0): 10, ("a", 1): 11, ("b", 0): 20}


def test_sweeps_without_trials_have_headings() -> None:
    assert list(of_trials([results("a", space(), [])]))[:4] == ["rank", "sweep", "trial", "outcome"]


def test_a_setting_that_lacks_repeats_ranks_after_those_of_any_sweep_that_have_all() -> None:
    asked = replace(space(), repeats=Repeats(seeds=2))
    second = [record(0, [0.5]), replace(record(1, [0.4]), repeat_of=0)]
    lucky = [record(0, [0.9]), replace(record(1, [], "failed", reason="error"), repeat_of=0)]
    table = of_trials([results("lucky", asked, lucky), results("whole", asked, second)])
    assert list(table["sweep"]) == ["whole", "lucky"]
    assert list(table["rank"]) == [1, 2]
    assert list(table["val/accuracy"]) == pytest.approx([0.45, 0.9])
