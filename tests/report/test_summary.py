from __future__ import annotations

from dataclasses import replace

import pytest

from ckconv_sweep.keys import REASON_CONSTRAINT
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.leaderboard import leaderboard
from ckconv_sweep.report.summary import Summary, base_in_words, summarize, winner

from .records import GRID, MAX, MIN, record, space


def test_a_sweep_whose_lock_is_held_is_running() -> None:
    assert summarize("s", [record(0, [0.1])], space(trials=1), held=True).state == "running"


def test_a_sweep_with_its_budget_ended_is_finished() -> None:
    records = [record(0, [0.1]), record(1, [0.1], "pruned"), record(2, [], "failed", reason="x")]
    assert summarize("s", records, space(trials=3), held=False).state == "finished"


@pytest.mark.parametrize(
    "last", [(), (record(2, [0.1], "running"),)], ids=["too few", "one of them unfinished"]
)
def test_any_other_sweep_is_interrupted(last: tuple[()]) -> None:
    records = [record(0, [0.1]), record(1, [0.1]), *last]
    assert summarize("s", records, space(trials=3), held=False).state == "interrupted"


def test_a_sweep_that_was_extended_is_not_finished_while_a_trial_runs() -> None:
    records = [record(0, [0.1]), record(1, [0.1], "running")]
    assert summarize("s", records, space(trials=1), held=False).state == "interrupted"


def test_violated_constraints_are_counted_nowhere() -> None:
    rejected = [record(i, [], "failed", reason=REASON_CONSTRAINT) for i in range(3)]
    summary = summarize("s", [*rejected, record(3, [0.1])], space(trials=2), held=False)
    assert (summary.completed, summary.failed, summary.state) == (1, 0, "interrupted")


@pytest.mark.fault("grid-smaller-than-budget")
def test_of_a_grid_smaller_than_the_budget_as_many_trials_are_asked_as_can_come() -> None:
    of = space(search=GRID, trials=100, sampler="grid")
    rejected = [record(i, [], "failed", reason=REASON_CONSTRAINT) for i in range(2)]
    some = [*rejected, record(2, [0.1])]
    assert summarize("s", [], of, held=False).asked == 6
    assert summarize("s", some, of, held=False).asked == 4
    all_of_them = [*some, *(record(i, [0.1]) for i in (3, 4, 5))]
    summary = summarize("s", all_of_them, of, held=False)
    assert (summary.asked, summary.completed, summary.state) == (4, 4, "finished")


def test_a_summary_counts_each_outcome_and_names_the_best() -> None:
    records = [
        record(0, [0.1, 0.5, 0.2]),
        record(1, [0.9], "pruned"),
        record(2, [0.9], "failed", reason="nonfinite"),
        record(3, [0.9], "running"),
        record(4, [0.4]),
    ]
    assert summarize("s", records, space(trials=6), held=False) == Summary(
        name="s",
        state="interrupted",
        asked=6,
        completed=2,
        pruned=1,
        continued=0,
        failed=1,
        unfinished=1,
        metric="val/accuracy",
        best_trial=0,
        best_value=0.5,
        best_values={"val/accuracy": 0.5},
        best_epoch=2,
        best_repeats=1,
        best_params={"optimizer.learning_rate": 1e-3},
        started_at="1970-01-01T00:00:00.000Z",
        last_epoch_at="1970-01-01T00:00:00.003Z",
    )


def test_times_are_those_of_the_first_trial_and_the_newest_epoch_in_utc() -> None:
    began, ended = 1_700_000_000_123, 1_700_000_009_999
    early, late = (replace(record(i, [0.1]), started_ms=began + i) for i in (0, 1))
    late = replace(late, history=(replace(late.history[0], timestamp_ms=ended),))
    summary = summarize("s", [late, early], space(), held=False)
    assert summary.started_at == "2023-11-14T22:13:20.123Z"
    assert summary.last_epoch_at == "2023-11-14T22:13:29.999Z"


def test_before_the_first_trial_there_are_no_times() -> None:
    summary = summarize("s", [], space(), held=True)
    assert (summary.started_at, summary.last_epoch_at) == (None, None)


def test_without_a_completed_trial_there_is_no_best() -> None:
    records = [record(0, [0.9], "pruned"), record(1, [0.9], "failed", reason="nonfinite")]
    summary = summarize("s", records, space(trials=2), held=False)
    assert (summary.best_trial, summary.best_value, summary.best_epoch) == (None, None, None)
    assert summary.best_params is None
    assert winner(records, space()) is None


@pytest.mark.parametrize(
    ("metric", "name", "expected"), [(MAX, "val/accuracy", 1), (MIN, "val/loss", 0)]
)
def test_the_winner_is_the_earlier_of_the_best(metric: str, name: str, expected: int) -> None:
    records = [record(i, [v], metric=name) for i, v in enumerate([0.1, 0.7, 0.7, 0.1])]
    won = winner(records, space(metric))
    assert won is not None
    assert won.number == expected


def test_the_winner_is_the_first_row_of_the_leaderboard() -> None:
    records = [record(i, [v]) for i, v in enumerate([0.3, 0.8, 0.2, 0.8])]
    won = winner(records, space())
    assert won is not None
    assert won.number == leaderboard(records, space())["trial"][0]


BASE = {"optimizer.learning_rate": 1e-3}
OTHERS = [(0, 0.8), (2, 0.6)]


@pytest.mark.parametrize(
    ("of_base", "told"),
    [
        (record(1, [0.7], params=BASE), "val/accuracy 0.7000, rank 2 of 3"),
        (record(1, [0.9], params=BASE), "val/accuracy 0.9000, rank 1 of 3"),
        (record(1, [0.7], "pruned", params=BASE), "pruned"),
        (record(1, [], "failed", reason="x", params=BASE), "failed"),
        (
            replace(
                record(1, [], "failed", reason=REASON_CONSTRAINT, params=BASE),
                error="model.parameters <= 9 does not hold: 10",
            ),
            "rejected, model.parameters <= 9 does not hold: 10",
        ),
    ],
)
def test_the_base_trial_s_own_settings_are_told_beside_the_others(
    of_base: TrialRecord, told: str
) -> None:
    others = [record(n, [v], params={"optimizer.learning_rate": v / 100}) for n, v in OTHERS]
    line = f"the base trial's own settings (t001): {told}"
    assert base_in_words([*others, of_base], space()) == [line]


def test_nothing_is_told_of_a_base_trial_that_was_not_tried_or_has_not_ended() -> None:
    assert (
        base_in_words([record(0, [0.7], params={"optimizer.learning_rate": 2e-3})], space()) == []
    )
    assert base_in_words([record(0, [0.7], "running", params=BASE)], space()) == []
    narrow = space(search="  optimizer.learning_rate: {low: 1.0e-4, high: 5.0e-4}")
    assert base_in_words([record(0, [0.7], params=BASE)], narrow) == []
