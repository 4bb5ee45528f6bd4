"""Which trials are verified, when they are killed, and what is told of a difference."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.sweep.differences import metrics_differ, weights_differ
from ckconv_sweep.sweep.killed import planned
from ckconv_sweep.sweep.verified import chosen, kind_of


def epoch(number: int, **metrics: float) -> Epoch:
    return Epoch(number=number, metrics=metrics, timestamp_ms=number)


def record(number: int, outcome: Outcome = "completed", **origin: int) -> TrialRecord:
    history = (epoch(1, loss=1.0),) if outcome != "failed" else ()
    return TrialRecord(number=number, outcome=outcome, params={}, history=history, **origin)  # type: ignore[arg-type]


def test_of_each_kind_one_is_chosen_before_a_second_of_any() -> None:
    records = [record(n) for n in range(20)]
    records += [record(20, "pruned"), record(21, "failed"), record(22, "running")]
    records += [record(23, repeat_of=1), record(24, "continued"), record(25, "pruned")]
    for seed in range(20):
        picked = chosen(records, 4, (), seed)
        assert [one.number for one in picked] == sorted({one.number for one in picked})
        kinds = Counter(map(kind_of, picked))
        assert kinds == {"completed": 1, "pruned": 1, "completed, repeat": 1, "continued": 1}
    assert len({chosen(records, 1, (), seed)[0].number for seed in range(20)}) > 5
    assert chosen(records, 3, (), 7) == chosen(records, 3, (), 7)
    assert len(chosen(records, 99, (), 0)) == 24  # neither what failed at once nor what runs


def test_named_trials_are_among_the_chosen_and_must_have_something_to_compare() -> None:
    records = [record(0), record(1, "failed"), record(2, "running"), record(3, "pruned")]
    assert [one.number for one in chosen(records, 1, (3,), 0)] == [3]
    assert [one.number for one in chosen(records, 1, (3, 0, 3), 0)] == [0, 3]
    with pytest.raises(ConfigError, match="t001 has no epoch that could be compared: failed"):
        chosen(records, 1, (1,), 0)
    with pytest.raises(ConfigError, match="t002 has not ended"):
        chosen(records, 1, (2,), 0)


def test_kills_come_at_different_epochs_anywhere_in_a_trial() -> None:
    seen = set()
    for seed in range(200):
        kills = planned(2, 5, random.Random(seed))
        assert [kill.epoch for kill in kills] == sorted({kill.epoch for kill in kills})
        assert all(0 <= kill.part < 1 for kill in kills)
        seen |= {kill.epoch for kill in kills}
    assert seen == {1, 2, 3, 4, 5}
    assert [kill.epoch for kill in planned(9, 3, random.Random(0))] == [1, 2, 3]
    assert planned(0, 3, random.Random(0)) == []


def test_metrics_are_compared_to_the_last_bit_but_for_times_and_what_only_a_driver_knows() -> None:
    recorded = [
        Epoch(
            number=n, metrics={"a": 0.1 * n, "time/x": 1.0, "model.parameters": 9.0}, timestamp_ms=n
        )
        for n in (1, 2, 3)
    ]
    now = [{"number": n, "metrics": {"a": 0.1 * n, "time/x": 2.0}} for n in (1, 2, 3)]
    assert metrics_differ(recorded, now) == []
    assert isinstance(now[2]["metrics"], dict)
    now[2]["metrics"]["a"] += 1e-16
    assert now[2]["metrics"]["a"] != recorded[2].metrics["a"]
    (sentence,) = metrics_differ(recorded, now)
    assert sentence.startswith("a: epoch 3 is recorded with 0.30000000000000004, and has 0.3")
    assert sentence.endswith("1 of 3 epochs differ, by 1.11e-16 at most")
    assert metrics_differ(recorded, now[:2]) == ["epoch 3 is recorded, and it ends before"]


def test_a_metric_that_is_recorded_and_now_missing_is_a_difference_and_a_new_one_is_none() -> None:
    recorded = [epoch(n, a=0.1, b=0.2) for n in (1, 2, 3)]
    now = [{"number": n, "metrics": {"a": 0.1, "b": 0.2, "new": 1.0}} for n in (1, 2, 3)]
    assert metrics_differ(recorded, now) == []
    now[1:] = [{"number": n, "metrics": {"a": 0.1}} for n in (2, 3)]
    assert metrics_differ(recorded, now) == [
        "b: is recorded, and now missing, in epoch 2; in 2 of 3 epochs"
    ]


def test_weights_that_differ_are_counted_and_measured() -> None:
    kept = {"a": torch.ones(3), "b": torch.zeros(2)}
    assert weights_differ(kept, {name: value.clone() for name, value in kept.items()}) == ""
    other = {"a": torch.ones(3), "b": torch.tensor([0.0, 0.25])}
    assert weights_differ(kept, other) == (
        "weights: 1 of 2 tensors are not the kept ones, by 0.25 at most"
    )
    assert "another shape" in weights_differ(kept, {"a": torch.ones(4), "b": torch.zeros(2)})
    assert "other tensors" in weights_differ(kept, {"a": torch.ones(3)})
