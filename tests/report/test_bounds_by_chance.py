"""How often a bound is hit by chance, with what the samplers really draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, qmc

from ckconv_sweep.config.domains import Interval, from_unit
from ckconv_sweep.config.grid import grid
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.bounds import bounds_hit
from ckconv_sweep.report.scale import Scale
from ckconv_sweep.search.view import View

from .records import record, space

STATED = 0.01
"""The chance at which a bound is told."""
TRIALS = 40

RANGES = """  model.hidden_channels: {low: 1, high: 8, log: true}
  model.blocks: {low: 2, high: 12}
  model.kernel.hidden_channels: {low: 1, high: 2}
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
  optimizer.beta_2: {low: 0.5, high: 0.9}
  model.dropout: {low: 0.0, high: 0.5, step: 0.1}
  schedule: {choices: {constant: {}, plateau: {patience: {low: 1, high: 3}}}}"""
COUNTED = """  model.hidden_channels: {low: 1, high: 4, log: true}
  model.blocks: {low: 2, high: 4}
  model.dropout: {low: 0.0, high: 0.5, step: 0.1}
  schedule: {choices: {constant: {}, plateau: {patience: {low: 1, high: 3}}}}"""
FEW = """  model.hidden_channels: {low: 1, high: 8, log: true}
  model.blocks: {low: 2, high: 12}
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}"""

Params = dict[str, Any]
Score = Callable[[Params, np.random.Generator], float]


def nothing_matters(params: Params, rng: np.random.Generator) -> float:
    return float(rng.random())


def _at(units: np.ndarray, of: Space) -> list[Params]:
    """What random and quasi Monte Carlo draw at such points of the unit cube."""
    names = list(of.parameters())
    return [
        of.draw(lambda name, domain: from_unit(domain, point[names.index(name)]))  # noqa: B023
        for point in units
    ]


def random(of: Space, rng: np.random.Generator) -> list[Params]:
    return _at(rng.random((TRIALS, len(of.parameters()))), of)


def quasi_monte_carlo(of: Space, rng: np.random.Generator) -> list[Params]:
    return _at(qmc.Sobol(len(of.parameters()), rng=rng).random(64)[:TRIALS], of)


def whole_grid(of: Space, rng: np.random.Generator) -> list[Params]:
    return list(grid(of))


def half_a_grid(of: Space, rng: np.random.Generator) -> list[Params]:
    points = list(grid(of))
    return points[: len(points) // 2]


def sweeps(
    draws: Callable[[Space, np.random.Generator], list[Params]], of: Space, score: Score, many: int
) -> Iterator[list[TrialRecord]]:
    for number in range(many):
        rng = np.random.default_rng([1, number])
        yield [
            record(i, [score(params, rng)], params=params)
            for i, params in enumerate(draws(of, rng))
        ]


def tpe_sweeps(of: Space, score: Score, many: int) -> Iterator[list[TrialRecord]]:
    for number in range(many):
        rng = np.random.default_rng([2, number])
        seeded = replace(of, sampler=of.sampler.model_copy(update={"seed": number}))
        view, records = View(seeded), []
        for i in range(TRIALS):
            params = view.draw(i, i).params
            records.append(record(i, [score(params, rng)], params=params))
            view.show(records[-1])
        yield records


def alarms(some: Iterator[list[TrialRecord]], of: Space) -> Counter[str]:
    """In how many sweeps each range was told to be too narrow."""
    return Counter(s for records in some for s in {b.setting for b in bounds_hit(records, of)})


def at_most(rate: float, many: int) -> int:
    """More than so many of `many` are seen in one of a million runs at most, at this rate."""
    return int(binom.isf(1e-6, many, rate))


def check_false_alarms(found: Counter[str], of: Space, many: int) -> None:
    ranges = [name for name, domain in of.parameters().items() if isinstance(domain, Interval)]
    assert {name: found[name] for name in ranges if found[name] > at_most(STATED, many)} == {}


@pytest.mark.fault("chance-of-a-bound")
@pytest.mark.parametrize(
    ("draws", "search", "many"),
    [
        (random, RANGES, 150),
        (quasi_monte_carlo, RANGES, 150),
        (whole_grid, COUNTED, 100),
        (half_a_grid, COUNTED, 100),
    ],
)
@pytest.mark.filterwarnings("ignore:The balance properties of Sobol")
def test_where_nothing_matters_a_bound_is_told_as_rarely_as_stated(
    draws: Callable[[Space, np.random.Generator], list[Params]], search: str, many: int
) -> None:
    of = space(search=search)
    check_false_alarms(alarms(sweeps(draws, of, nothing_matters, many), of), of, many)


@pytest.mark.fault("chance-of-a-bound")
def test_where_nothing_matters_tpe_makes_a_bound_be_told_as_rarely_as_stated() -> None:
    """TPE draws where chance was kind, so the best trials crowd at an end in one of five sweeps."""
    of, many = space(search=FEW), 30
    check_false_alarms(alarms(tpe_sweeps(of, nothing_matters, many), of), of, many)


@pytest.mark.fault("chance-of-a-bound")
def test_trials_that_all_fail_in_one_part_of_a_range_do_not_make_its_other_end_look_better() -> (
    None
):
    of, many = space(), 400
    (setting,) = of.parameters()
    some = (
        [r for r in records if r.params[setting] < 4e-4]
        for records in sweeps(random, of, nothing_matters, many)
    )
    assert alarms(some, of)[setting] <= at_most(STATED, many)


@pytest.mark.fault("chance-of-a-bound")
@pytest.mark.parametrize("draws", [random, whole_grid, half_a_grid])
def test_trials_that_all_score_the_same_hit_no_bound(
    draws: Callable[[Space, np.random.Generator], list[Params]],
) -> None:
    of = space(search=COUNTED)
    assert not alarms(sweeps(draws, of, lambda params, rng: 1.0, 5), of)


def better_towards(setting: str, of: Space, end: float) -> Score:
    scale = Scale(of.parameters()[setting])
    return lambda params, rng: 1 - abs(scale.fraction(params[setting]) - end) + rng.normal() / 20


@pytest.mark.parametrize("end", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("setting", list(space(search=FEW).parameters()))
def test_an_optimum_at_the_end_of_a_range_or_beyond_is_found(setting: str, end: float) -> None:
    of, many = space(search=FEW), 50
    found = alarms(sweeps(random, of, better_towards(setting, of, end), many), of)
    assert found[setting] >= many / 2
    check_false_alarms(found - Counter({setting: many}), of, many)


def test_an_optimum_at_the_end_of_a_range_is_found_with_tpe() -> None:
    of, many, setting = space(search=FEW), 5, "optimizer.learning_rate"
    found = alarms(tpe_sweeps(of, better_towards(setting, of, 1.0), many), of)
    assert found[setting] >= 0.8 * many
