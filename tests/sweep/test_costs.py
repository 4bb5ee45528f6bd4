"""Metrics that are no scores: the size of the model and the time of an epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.notes import notes
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.report.leaderboard import all_columns

from .in_process import formula, machine, make_space

SIZE = "  model.hidden_channels: {low: 4, high: 12}"
THREE = "[{name: val/accuracy}, {name: model.parameters}, {name: time/epoch_seconds, mode: min}]"


def timed(trial: Trial, number: int) -> Epoch:
    epoch = formula(trial, number)
    return replace(epoch, metrics={**epoch.metrics, "time/epoch_seconds": 0.5 * number})


def test_the_number_of_parameters_and_the_seconds_are_recorded_and_judged_at_the_best_epoch(
    disk: Path,
) -> None:
    space = make_space(search=SIZE, metrics=THREE, sampler="nsgaii, population: 3", trials=8)
    one = machine(disk, space, work=timed)
    assert one.run()
    for record, result in zip(one.records(), one.result(), strict=True):
        size = 100.0 * record.params["model.hidden_channels"]
        assert {epoch.metrics["model.parameters"] for epoch in record.history} == {size}
        best = max(record.history, key=lambda epoch: epoch.metrics["val/accuracy"])
        assert result["values"] == [best.metrics["val/accuracy"], size, 0.5 * best.number]
    table = all_columns(one.records(), space, {record.number: 7 for record in one.records()})
    assert list(table.columns).count("model.parameters") == 1
    assert table["model.parameters"].dtype == "Int64"
    assert set(table["model.parameters"]) == {
        100 * record.params["model.hidden_channels"] for record in one.records()
    }


@pytest.mark.parametrize("sampler", ["tpe, startup_trials: 2", "nsgaii, population: 2"])
def test_a_kill_before_any_write_changes_nothing_of_a_sweep_with_three_metrics(
    sampler: str, disk: Path
) -> None:
    space = make_space(search=SIZE, metrics=THREE, sampler=sampler, trials=5, epochs=2)
    one = machine(disk / "straight", space, work=timed, concurrency=1)
    photographs = one.run_and_photograph(disk / "cut")
    for photograph in photographs[::3]:
        assert photograph.run()
        assert photograph.result() == one.result()


def test_without_such_a_metric_no_epoch_holds_the_number_of_parameters(disk: Path) -> None:
    one = machine(disk, make_space(search=SIZE))
    assert one.run()
    assert all("model.parameters" not in e.metrics for r in one.records() for e in r.history)


@pytest.mark.parametrize("name", ["model.parameters", "time/epoch_seconds"])
def test_a_cost_cannot_come_first_because_it_chooses_no_epoch(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} chooses no epoch: name a score first"):
        make_space(search=SIZE, metrics=f"[{{name: {name}}}, {{name: val/accuracy}}]")


def test_fewer_parameters_and_seconds_are_better() -> None:
    with pytest.raises(ConfigError, match="mode must be min for model"):
        make_space(
            search=SIZE, metrics="[{name: val/accuracy}, {name: model.parameters, mode: max}]"
        )


def test_a_space_with_several_metrics_says_that_its_rule_looks_at_the_first_alone() -> None:
    rule = "{name: asha, grace_epochs: 1, reduction_factor: 3}"
    said = "scheduler asha looks at val/accuracy alone"
    assert said in notes(make_space(search=SIZE, metrics=THREE, scheduler=rule))
    assert said not in notes(make_space(search=SIZE, metrics=THREE))
    assert said not in notes(make_space(search=SIZE, scheduler=rule))
