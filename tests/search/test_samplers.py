"""Suggestions are functions of the study, and lie where the space says."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import new_trial
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState
from scipy.stats import qmc
from sweep.in_process import Machine, formula, machine, make_space
from thinned import each_second

from ckconv_sweep.config.domains import Choices, Interval, from_unit, points
from ckconv_sweep.config.grid import exhausted, grid
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.sampling import SAMPLERS, Auto, Nsgaii, Tpe
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, next_position
from ckconv_sweep.search.samplers import (
    PlannedSampler,
    distribution,
    sampler_for,
)
from ckconv_sweep.search.view import View

REPOSITORY = Path(__file__).parents[2]
TRIALS = 10
DRAWING = {name: row for name, row in SAMPLERS.items() if row is not Auto}
"""Those that draw; `auto` stands for one of them."""
EARLY = {
    "tpe": "startup_trials: 4",
    "gp": "startup_trials: 4",
    "nsgaii": "population: 4",
    "cmaes": "population: 4",
}
"""Settings with which a sampler that learns begins after four trials."""


def draw_some(one: Machine, numbers: range, *, reopened: bool = False) -> list[dict[str, Any]]:
    """Draw trials one by one and give each a value; `reopened`: by a new process each, nearly."""
    drawn: list[dict[str, Any]] = []

    def draw_one(study: Study) -> None:
        number = study.next_number()
        params = dict(new_trial(study).params)
        epoch = formula(one.space.resolve(params, number), 1)
        study.add_epoch(number, epoch, epoch.metrics["val/accuracy"])
        study.end(number, "completed")
        drawn.append(params)

    if reopened:
        for _ in numbers:
            with one.folder.records.create(one.space) as study:
                draw_one(study)
    else:
        with one.folder.records.create(one.space) as study:
            for _ in numbers:
                draw_one(study)
    return drawn


COUNTED = """
  optimizer.learning_rate: {choices: [0.001, 0.01]}
  model.dropout: {low: 0.0, high: 0.3, step: 0.1}
  schedule:
    choices:
      constant: {}
      plateau: {factor: 0.5, patience: {low: 1, high: 2}}
"""
RANGES = """
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.dropout: {low: 0.0, high: 0.3, step: 0.1}
  model.hidden_channels: {low: 2, high: 9}
"""


def space_for(name: str, trials: int = TRIALS, **others: Any) -> Space:
    """One that the sampler can search, with choices and blocks if it can."""
    search = COUNTED if name == "grid" else RANGES if SAMPLERS[name].ranges_alone else ""
    return make_space(sampler=early(name), trials=trials, search=search, **others)


def early(name: str) -> str:
    return f"{name}, {EARLY[name]}" if name in EARLY else name


@pytest.mark.parametrize("name", DRAWING)
def test_every_sampler_draws_values_of_the_domains_and_only_the_parameters_that_exist(
    name: str, disk: Path
) -> None:
    space = space_for(name)
    domains = {key: distribution(domain) for key, domain in space.parameters().items()}
    seen = set()
    for params in draw_some(machine(disk, space), range(TRIALS)):
        assert params.keys() <= domains.keys()
        for key, value in params.items():
            assert domains[key]._contains(domains[key].to_internal_repr(value))
        if SAMPLERS[name].ranges_alone:
            continue
        assert ("schedule.plateau.patience" in params) == (params["schedule"] == "plateau")
        seen.add(params["schedule"])
    assert seen == ({*()} if SAMPLERS[name].ranges_alone else {"constant", "plateau"})


@pytest.mark.parametrize("name", DRAWING)
def test_every_sampler_suggests_after_a_restart_what_it_would_have_without_one(
    name: str, disk: Path
) -> None:
    space = space_for(name)
    straight = draw_some(machine(disk / "straight", space), range(TRIALS))
    assert draw_some(machine(disk / "halting", space), range(TRIALS), reopened=True) == straight
    assert len({tuple(params.items()) for params in straight}) > TRIALS // 2


SUGGEST = """
import json, sys
from pathlib import Path
from ckconv_sweep.record.folder import SweepFolder
from sweep.in_process import Machine
from search.test_samplers import DRAWING, draw_some, space_for
for name in DRAWING:
    one = Machine(SweepFolder.of(Path(sys.argv[1]) / name, "sweep"), space_for(name))
    print(json.dumps(draw_some(one, range(2))))
"""


def test_every_sampler_suggests_the_same_for_the_same_study_in_another_process(
    disk: Path,
) -> None:
    here, there = (
        {name: machine(disk / place / name, space_for(name)) for name in DRAWING}
        for place in ("here", "there")
    )
    for one in (*here.values(), *there.values()):
        draw_some(one, range(6))
    answer = subprocess.run(
        [sys.executable, "-c", SUGGEST, str(disk / "there")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/tests", "PYTHONHASHSEED": "77"},
    )
    suggested = [json.loads(line) for line in answer.stdout.splitlines()]
    assert suggested == [draw_some(one, range(2)) for one in here.values()]


@pytest.mark.parametrize("name", [name for name, row in DRAWING.items() if not row.ends])
def test_another_seed_of_the_sampler_suggests_something_else(name: str, disk: Path) -> None:
    space = space_for(name)
    other = replace(space, sampler=space.sampler.model_copy(update={"seed": 4}))
    assert draw_some(machine(disk / "3", space), range(3)) != draw_some(
        machine(disk / "4", other), range(3)
    )


def plan_of(space: Space, number: int) -> Any:
    sampler = sampler_for(space, number)
    assert isinstance(sampler, PlannedSampler)
    return space.draw(lambda name, domain: sampler.plan(name))


@pytest.mark.parametrize("name", ["random", "qmc", "grid"])
def test_what_a_planned_trial_tries_does_not_depend_on_the_order_of_asking(name: str) -> None:
    space = space_for(name)
    forwards = {number: plan_of(space, number) for number in range(9)}
    assert {number: plan_of(space, number) for number in reversed(range(9))} == forwards


def test_random_parameters_do_not_depend_on_which_others_are_drawn() -> None:
    one = make_space(search="  model.dropout: {low: 0.0, high: 0.5}")
    two = make_space(
        search="  optimizer.learning_rate: {low: 0.1, high: 0.5}\n"
        "  model.dropout: {low: 0.0, high: 0.5}"
    )
    for number in range(5):
        assert plan_of(one, number)["model.dropout"] == plan_of(two, number)["model.dropout"]


def test_quasi_monte_carlo_takes_the_points_of_scipys_sobol_sequence() -> None:
    space = space_for("qmc")
    sequence = qmc.Sobol(4, scramble=True, rng=np.random.default_rng(3)).random_base2(4)
    names = list(space.parameters())
    for number, point in enumerate(sequence):
        expected = space.draw(
            lambda name, domain, at=point: from_unit(domain, at[names.index(name)])
        )
        assert plan_of(space, number) == expected


def test_quasi_monte_carlo_fills_each_sixteenth_of_a_range_once_in_sixteen_trials() -> None:
    space = make_space(sampler="qmc", search="  model.dropout: {low: 0.0, high: 0.5}")
    values = [plan_of(space, number)["model.dropout"] for number in range(16)]
    assert sorted(int(value * 32) for value in values) == list(range(16))


def test_a_grid_is_walked_in_the_order_of_its_file_to_its_end() -> None:
    space = space_for("grid")
    expected = list(grid(space))
    assert [plan_of(space, number) for number in range(len(expected))] == expected
    assert [exhausted(space, n) for n in (0, len(expected) - 1, len(expected))] == [
        False,
        False,
        True,
    ]
    assert not exhausted(space_for("random"), 10**6)


def test_a_grid_visits_each_of_its_points_though_others_try_trials_in_between(disk: Path) -> None:
    space = space_for("grid", trials=100)
    one = machine(disk, space)
    expected = list(grid(space))
    with one.folder.records.create(space) as study:
        for _ in range(3):
            new_trial(study)
            with_no_position = study.create(
                expected[-1], View(space).draw(len(expected) - 1).distributions, position=None
            )
            study.end(with_no_position.number, "failed", reason="error")
    assert one.run()
    drawn = [dict(r.params) for r in one.records() if r.position is not None]
    assert drawn == expected
    assert len(one.records()) == len(expected) + 3


# from_unit

ALMOST_ONE = float(np.nextafter(1.0, 0.0))
units = st.one_of(st.floats(0.0, ALMOST_ONE), st.sampled_from([0.0, 0.5, ALMOST_ONE]))
examples = settings(max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "100")), deadline=None)


@st.composite
def counted(draw: st.DrawFn) -> Interval:
    """Whole numbers or decimals with a step, as a space that was read holds them."""
    digits = draw(st.integers(0, 4))
    low, step = draw(st.integers(-10_000, 10_000)), draw(st.integers(1, 500))
    high = low + step * draw(st.integers(0, 200))
    if digits == 0:
        return Interval(low=low, high=high, whole=True, step=step)
    scale = 10**digits
    return Interval(low=low / scale, high=high / scale, whole=False, step=step / scale)


@given(counted())
@examples
def test_every_value_of_a_counted_range_has_an_equal_share(domain: Interval) -> None:
    values = list(points(domain) or ())
    found = [from_unit(domain, (i + 0.5) / len(values)) for i in range(len(values))]
    assert found == values
    assert {type(value) for value in found} == {int if domain.whole else float}


@given(st.lists(st.integers(), min_size=2, max_size=9, unique=True), units)
@examples
def test_every_choice_has_an_equal_share(options: list[int], unit: float) -> None:
    domain = Choices(options=tuple(options))
    assert from_unit(domain, unit) == options[int(unit * len(options))]


@given(counted(), units)
@examples
def test_no_point_of_a_counted_range_falls_outside(domain: Interval, unit: float) -> None:
    assert from_unit(domain, unit) in list(points(domain) or ())


@given(st.floats(-1e9, 1e9), st.floats(0.0, 1e9), units)
@examples
def test_no_point_of_a_range_falls_outside(low: float, width: float, unit: float) -> None:
    domain = Interval(low=low, high=low + width, whole=False)
    assert low <= from_unit(domain, unit) <= low + width


@given(st.floats(1e-12, 1e6), st.floats(1.0, 1e6), units)
@examples
def test_no_point_of_a_logarithmic_range_falls_outside(
    low: float, factor: float, unit: float
) -> None:
    domain = Interval(low=low, high=low * factor, whole=False, log=True)
    assert low <= from_unit(domain, unit) <= low * factor


@given(st.integers(1, 10_000), st.integers(0, 10_000), units)
@examples
def test_logarithmic_whole_numbers_stay_whole_and_inside(low: int, more: int, unit: float) -> None:
    value = from_unit(Interval(low=low, high=low + more, whole=True, log=True), unit)
    assert isinstance(value, int)
    assert low <= value <= low + more


def shares(domain: Interval, steps: int = 20_000) -> Counter[Any]:
    return Counter(from_unit(domain, (i + 0.5) / steps) for i in range(steps))


def test_the_ends_of_a_logarithmic_range_of_whole_numbers_get_their_share() -> None:
    found = shares(Interval(low=1, high=8, whole=True, log=True))
    assert set(found) == set(range(1, 9))
    for value, times in found.items():
        expected = np.log((value + 0.5) / (value - 0.5)) / np.log(8.5 / 0.5)
        assert times / 20_000 == pytest.approx(expected, abs=2e-4)


def test_half_of_a_logarithmic_range_lies_below_its_geometric_mean() -> None:
    domain = Interval(low=1e-4, high=1e-2, whole=False, log=True)
    assert from_unit(domain, 0.5) == pytest.approx(1e-3)
    assert from_unit(domain, 0.0) == pytest.approx(1e-4)


def test_decimals_come_out_as_they_are_written() -> None:
    domain = Interval(low=0.0, high=0.3, whole=False, step=0.1)
    assert sorted(shares(domain, 40)) == [0.0, 0.1, 0.2, 0.3]
    long = Interval(low=123456.1234567, high=123457.1234567, whole=False, step=0.5)
    assert sorted(shares(long, 30)) == [123456.1234567, 123456.6234567, 123457.1234567]


def test_a_domain_becomes_optunas_of_the_same_values() -> None:
    assert distribution(Choices(options=(1, 2))) == CategoricalDistribution((1, 2))
    assert distribution(Interval(low=1, high=9, whole=True, step=2)) == IntDistribution(
        1, 9, step=2
    )
    assert distribution(Interval(low=1, high=9, whole=False, log=True)) == FloatDistribution(
        1, 9, log=True
    )


TWO = "[{name: val/accuracy}, {name: val/loss, mode: min}]"


def of_two_metrics(number: int, accuracy: float, loss: float, outcome: Outcome) -> TrialRecord:
    """A trial whose learning rate is its accuracy / 10."""
    metrics = {"val/accuracy": accuracy, "val/loss": loss}
    ended = Epoch(number=1, metrics=metrics, timestamp_ms=1)
    return TrialRecord(
        number=number,
        outcome=outcome,
        params={"optimizer.learning_rate": accuracy / 10},
        history=() if outcome == "failed" else (ended,),
        position=number,
    )


@pytest.mark.parametrize("name", [name for name, row in DRAWING.items() if not row.one_metric])
def test_every_sampler_draws_with_several_metrics_and_trials_of_every_outcome(
    name: str, disk: Path
) -> None:
    counted = "{choices: [0.0, 0.1, 0.2, 0.3]}"
    space = make_space(
        search=f"  model.dropout: {counted}\n  model.input_dropout: {counted}",
        sampler=early(name),
        metrics=TWO,
    )
    outcomes: list[Outcome] = ["completed", "pruned", "failed", "running", "completed"]
    with machine(disk, space).folder.records.create(space) as study:
        for i in range(TRIALS):
            record = new_trial(study)
            if (outcome := outcomes[i % 5]) == "running":
                continue
            for number in (1, 2):
                epoch = formula(space.resolve(record.params, record.number), number)
                study.add_epoch(record.number, epoch, epoch.metrics["val/accuracy"])
            study.end(record.number, outcome, reason="error" if outcome == "failed" else "")
        records = study.trials()
        position = next_position(records)
        (first, again) = (View(space, records).draw(position) for _ in range(2))
        one_by_one = View(space)
        for record in records:
            one_by_one.show(record)
        assert first == again == one_by_one.draw(position)


def test_with_several_metrics_tpe_holds_a_pruned_trial_for_worse_than_every_completed_one() -> None:
    """Also where its early loss is lower than any: it was stopped for its accuracy."""
    search = "  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1}"
    space = make_space(search=search, sampler="tpe", metrics=TWO)
    good = [of_two_metrics(i, 0.9 + i / 1000, 0.5, "completed") for i in range(10)]
    stopped = [of_two_metrics(i, i / 1000, 0.01, "pruned") for i in range(10, 20)]
    draws = [
        View(space, [*good, *stopped]).draw(position).params["optimizer.learning_rate"]
        for position in range(20, 40)
    ]
    assert min(map(float, draws)) > 0.05  # theirs end at 0.002, and those of the good at 0.09


FINE = "  model.dropout: {low: 0.0, high: 0.5, step: 0.00005}"
"""A grid that has what `ended_at_random` tries."""


def ended_at_random(count: int) -> list[TrialRecord]:
    """Trials that ended in another order than they began, every fifth of them pruned."""
    rng = np.random.default_rng(4)
    records = []
    for number, place in enumerate(rng.permutation(count)):
        value = round(float(rng.random()), 4)
        records.append(
            TrialRecord(
                number=number,
                outcome="pruned" if number % 5 == 4 else "completed",
                params={"model.dropout": value / 2},
                history=(
                    Epoch(number=1, metrics={"val/accuracy": value}, timestamp_ms=int(place)),
                ),
                ended_ms=1_000 + int(place) // 2,  # two at a time
            )
        )
    return records


def dropout_of(record: TrialRecord) -> float:
    return float(record.params["model.dropout"])


def seen_by_the_sampler(shown: View) -> set[float]:
    return {float(trial.params["model.dropout"]) for trial in shown._study.get_trials()}


def test_a_sampler_sees_the_newest_trials_and_the_best_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Tpe, "newest", 20)
    monkeypatch.setattr(Tpe, "best", 3)
    space = make_space(search="  model.dropout: {low: 0.0, high: 0.5}", sampler="tpe")
    records = ended_at_random(60)
    by_end = sorted(records, key=lambda record: (record.ended_ms, record.number))
    running = [replace(r, outcome="running", history=(), ended_ms=None) for r in records]
    grown = View(space, running)
    for count, record in enumerate(by_end, start=1):
        grown.show(record)
        running = [r for r in running if r.number != record.number]
        seen = seen_by_the_sampler(grown)
        finished = seen - {dropout_of(r) for r in running}
        best = sorted(by_end[:count], key=lambda r: (r.outcome == "pruned", -dropout_of(r)))
        assert {dropout_of(r) for r in (*running, *by_end[max(0, count - 18) : count])} <= seen
        assert {dropout_of(r) for r in best[:3] if r.outcome == "completed"} <= seen
        assert len(finished) == count if count <= 20 else len(finished) <= 20 + 3
        opened = View(space, sorted([*by_end[:count], *running], key=lambda r: r.number))
        assert seen_by_the_sampler(opened) == seen
        assert opened.draw(count) == replayed(space, records, by_end[:count]).draw(count)


def replayed(space: Space, records: list[TrialRecord], by_end: list[TrialRecord]) -> View:
    """As a driver has it that has run all the time."""
    shown = View(space, [replace(r, outcome="running", history=(), ended_ms=None) for r in records])
    for record in by_end:
        shown.show(record)
    return shown


@pytest.mark.parametrize("name", DRAWING)
def test_no_sampler_learns_from_a_trial_that_failed_or_was_rejected_or_is_pushed_out_by_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SAMPLERS[name], "newest", 20)
    space = make_space(search=FINE, sampler=early(name))
    learnt = ended_at_random(18)
    nan = Epoch(number=1, metrics={"val/accuracy": math.nan}, timestamp_ms=1)
    failed = [
        replace(r, number=18 + r.number, outcome="failed", history=(nan,), ended_ms=9_000)
        for r in ended_at_random(200)
    ]
    grown = View(space, learnt)
    for record in failed:
        grown.show(replace(record, outcome="running", history=(), ended_ms=None))
        grown.show(record)
    opened = View(space, [*learnt, *failed])
    assert seen_by_the_sampler(opened) == {dropout_of(record) for record in learnt}
    assert opened.draw(300) == grown.draw(300) == View(space, learnt).draw(300)


LEARNING = [name for name in DRAWING if name in EARLY]
"""The samplers whose draws depend on what the trials reached."""


def test_the_other_samplers_learn_nothing() -> None:
    """A new row that learns belongs into `EARLY`."""
    for name in DRAWING.keys() - {*LEARNING}:
        space = make_space(search=FINE, sampler=name)
        drawn = [View(space, some).draw(2) for some in ([], ended_at_random(40))]
        assert drawn[0] == drawn[1]


TWO_DROPOUTS = """
  model.dropout: {low: 0.0, high: 0.5}
  model.input_dropout: {low: 0.0, high: 0.5}
"""


def reached(space: Space, trials: int) -> list[float]:
    """How far from 0.4 each of the two settings of so many trials lay, one after the other."""
    records: list[TrialRecord] = []
    for number in range(trials):
        params = View(space, records).draw(number).params
        distance = sum(abs(float(value) - 0.4) for value in params.values())
        epoch = Epoch(number=1, metrics={"val/accuracy": 1 - distance}, timestamp_ms=number)
        records.append(
            TrialRecord(
                number=number,
                outcome="completed",
                params=params,
                history=(epoch,),
                position=number,
                ended_ms=number,
            )
        )
    return [1 - record.history[0].metrics["val/accuracy"] for record in records]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "gp")) for name in LEARNING],
)
def test_a_sampler_that_learns_draws_better_trials_in_the_end_than_at_random(name: str) -> None:
    learnt = reached(make_space(search=TWO_DROPOUTS, sampler=early(name)), 40)
    at_random = reached(make_space(search=TWO_DROPOUTS, sampler="random"), 40)
    assert np.mean(learnt[-10:]) < 0.7 * np.mean(at_random)


@pytest.mark.parametrize("name", each_second(DRAWING))
def test_a_kill_before_any_write_changes_nothing_of_what_a_sampler_draws(
    name: str, disk: Path
) -> None:
    """One trial at a time: several end in another order after a kill."""
    space = space_for(name, trials=7, epochs=1)
    photographs = machine(disk / "straight", space, concurrency=1).run_and_photograph(disk / "cut")
    results = []
    for photograph in [*photographs[::5], photographs[-1]]:
        assert photograph.run()
        results.append(photograph.result())
    assert all(result == results[-1] for result in results)


def test_the_trial_that_a_sampler_drew_last_is_seen_like_one_that_was_read_from_the_study() -> None:
    """Also what it did not choose: all completed trials have the plateau's patience."""
    space = make_space(sampler="gp, startup_trials: 2")
    shown = [
        replace(record, params=PLATEAU | {"model.dropout": round(0.1 * (i % 4), 1)})
        for i, record in enumerate(ended_at_random(6))
    ]
    live = View(space, shown)
    drawn = [live.draw(6 + i, 6 + i) for i in range(4)]
    assert {"constant", "plateau"} == {draw.params["schedule"] for draw in drawn}
    running = [
        TrialRecord(number=6 + i, outcome="running", params=draw.params, history=(), position=6 + i)
        for i, draw in enumerate(drawn)
    ]
    assert live.draw(10) == View(space, [*shown, *running]).draw(10)


PLATEAU = {"optimizer.learning_rate": 0.01, "schedule": "plateau", "schedule.plateau.patience": 2}


def on_a_line(count: int, outcome: Outcome = "completed") -> list[TrialRecord]:
    return [
        replace(of_two_metrics(i, 0.1 + i / 100, 1 - i / 100, outcome), ended_ms=i)
        for i in range(count)
    ]


def test_nsgaii_breeds_from_the_best_trials_alone_and_mutates_some_settings() -> None:
    search = "  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1}"
    space = make_space(search=search, sampler="nsgaii, population: 5")
    records = on_a_line(30)
    assert View(space, records[:4]).draw(9) == View(space).draw(9)  # at random
    parents = {record.params["optimizer.learning_rate"] for record in records[-5:]}
    drawn = [View(space, records).draw(i).params["optimizer.learning_rate"] for i in range(60)]
    assert 15 < sum(value in parents for value in drawn) < 45
    assert not {record.params["optimizer.learning_rate"] for record in records[:-5]} & {*drawn}


def test_what_a_trial_did_not_choose_stands_in_the_middle_for_those_that_need_all_settings() -> (
    None
):
    space = make_space(sampler="nsgaii")
    constant = {"optimizer.learning_rate": 0.01, "model.dropout": 0.1, "schedule": "constant"}
    record = replace(ended_at_random(1)[0], params=constant)
    (seen,) = View(space, [record])._study.get_trials()
    assert seen.params == {**constant, "schedule.plateau.patience": 3}
    (seen,) = View(make_space(sampler="tpe"), [record])._study.get_trials()
    assert seen.params == constant


def test_the_gaussian_process_takes_a_pruned_trial_for_one_that_reached_no_more() -> None:
    space = make_space(search="  model.dropout: {low: 0.0, high: 0.5}", sampler="gp")
    pruned = [record for record in ended_at_random(10) if record.outcome == "pruned"]
    (one, other) = View(space, pruned)._study.get_trials()
    assert [one.values, other.values] == [[2 * dropout_of(record)] for record in pruned]
    two = make_space(search="  model.dropout: {low: 0.0, high: 0.5}", sampler="gp", metrics=TWO)
    (seen,) = View(two, on_a_line(1, "pruned"))._study.get_trials()
    assert seen.state == TrialState.PRUNED


def test_the_oldest_trials_are_forgotten_but_for_those_of_the_first_fronts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Nsgaii, "newest", 10)
    monkeypatch.setattr(Nsgaii, "best", 4)
    search = "  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1}"
    space = make_space(search=search, sampler="nsgaii", metrics=TWO)
    points = [(0.9, 0.5), (0.2, 0.1), (0.5, 0.3), (0.8, 0.6), (0.3, 0.3), (0.4, 0.5)]
    old = [of_two_metrics(i, *point, "completed") for i, point in enumerate(points)]
    new = [of_two_metrics(6 + i, 0.001 * (i + 1), 0.9, "completed") for i in range(10)]
    records = [replace(record, ended_ms=record.number) for record in [*old, *new]]
    seen = {trial.values[0] for trial in View(space, records)._study.get_trials()}
    assert {0.9, 0.2, 0.5, 0.8} <= seen
    assert not {0.3, 0.4} & seen


@pytest.mark.parametrize("name", [name for name, row in DRAWING.items() if row.ranges_alone])
def test_a_sampler_of_ranges_alone_refuses_choices_and_blocks_and_names_those_that_can(
    name: str,
) -> None:
    for search, what in (
        ("  model.norm: {choices: [layer, none]}", "model.norm"),
        ("  schedule: {choices: {constant: {}, plateau: {}}}", "schedule"),
        (
            "variables: {width: {choices: [1, 9, 3]}}\n"
            "derived: {model.kernel.hidden_channels: 4 * width}",
            "width",
        ),
    ):
        with pytest.raises(ConfigError) as refusal:
            make_space(search=f"{RANGES.rstrip()}\n{search}", sampler=name)
        assert refusal.value.message == (
            f"sampler: {name} searches ranges alone, and {what} has choices"
        )
        assert refusal.value.hint == "samplers that can: tpe, gp, nsgaii, random, qmc, auto"
        assert str(refusal.value.where).startswith("space.yaml:")


@pytest.mark.parametrize("name", [name for name, row in DRAWING.items() if row.one_metric])
def test_a_sampler_of_one_metric_refuses_several_and_names_those_that_can(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} cannot learn from several metrics") as refusal:
        make_space(search=RANGES, sampler=name, metrics=TWO)
    assert refusal.value.hint == "samplers that can: tpe, gp, nsgaii, random, qmc, auto"


def told(space: Space, records: list[TrialRecord], position: int = 50) -> dict[str, float]:
    return {k: float(v) for k, v in View(space, records).draw(position).params.items()}


def test_cmaes_is_told_groups_in_the_order_in_which_they_ended_and_waits_for_a_whole_one() -> None:
    space = make_space(search=TWO_DROPOUTS, sampler="cmaes, population: 4")
    records = [
        replace(record, params={**record.params, "model.input_dropout": 0.25})
        for record in ended_at_random(12)
    ]
    by_end = sorted(records, key=lambda record: (record.ended_ms or 0, record.number))
    assert told(space, by_end[:4]) == told(space, by_end[:7]) != told(space, by_end[:8])
    assert told(space, by_end[:4]) != told(space, records[:4])
    renumbered = [
        replace(record, number=11 - record.number, ended_ms=i) for i, record in enumerate(by_end)
    ]
    assert told(space, renumbered) == told(space, by_end)


def test_cmaes_holds_a_pruned_trial_for_worse_than_every_completed_one() -> None:
    space = make_space(search=TWO_DROPOUTS, sampler="cmaes, population: 4")
    low = {"model.dropout": 0.05, "model.input_dropout": 0.05}
    high = {"model.dropout": 0.45, "model.input_dropout": 0.45}
    records = [
        replace(record, outcome="pruned" if i % 2 else "completed", params=high if i % 2 else low)
        for i, record in enumerate(ended_at_random(24))
    ]
    draws = [told(space, records, position)["model.dropout"] for position in range(20)]
    assert np.mean(draws) < 0.15
