"""Population based training: who is replaced by whom, and with which settings."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from sweep.in_process import make_space

from ckconv_sweep.config.domains import Scalar, from_unit, is_value
from ckconv_sweep.config.history import Continue, Go
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import Pbt
from ckconv_sweep.search.population import exploit, explored
from ckconv_sweep.search.rules import Curve, Curves

SEARCH = """
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  optimizer.beta_1: {choices: [0.5, 0.8, 0.9, 0.95], ordered: true}
  model.dropout: {low: 0.0, high: 0.3, step: 0.1}
  model.input_dropout: {low: 0.1, high: 0.4, or_zero: true}
  training.clip_norm: {low: 0.0, high: 2.0}
  schedule:
    choices:
      constant: {}
      plateau: {factor: 0.5, patience: {low: 1, high: 4}}
"""


def population(resample: float = 0.0, seed: int = 3) -> Space:
    scheduler = f"{{name: pbt, resample_probability: {resample}}}"
    made = make_space(search=SEARCH, scheduler=scheduler, epochs=9)
    return replace(made, sampler=made.sampler.model_copy(update={"seed": seed}))


def drawn(space: Space, seed: int) -> dict[str, Scalar]:
    rng = random.Random(seed)
    return space.draw(lambda _, domain: from_unit(domain, rng.random()))


def anything(params: Mapping[str, Scalar]) -> bool:
    return True


@pytest.mark.parametrize("resample", [0.0, 0.25, 1.0])
def test_what_is_explored_is_of_the_space_and_follows_from_seed_and_number(resample: float) -> None:
    space, other = population(resample), population(resample, seed=4)
    domains, differing = space.parameters(), 0
    for number in range(200):
        source = drawn(space, number)
        params = explored(space, source, number, anything)
        assert params == explored(space, source, number, anything)
        assert all(is_value(domains[name], value) for name, value in params.items())
        space.resolve(params, number)
        differing += params != explored(other, source, number, anything)
    assert differing > 190


def test_a_number_is_multiplied_by_one_of_two_factors_within_its_range() -> None:
    space, name = population(), "optimizer.learning_rate"
    seen = Counter[float]()
    for number in range(200):
        source = drawn(space, number) | {name: 0.01}
        seen[round(float(explored(space, source, number, anything)[name]), 9)] += 1  # type: ignore[arg-type]
    assert set(seen) == {0.008, 0.012}
    assert min(seen.values()) > 70
    ends = {explored(space, drawn(space, n) | {name: 0.1}, n, anything)[name] for n in range(50)}
    assert max(map(float, ends)) == 0.1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "neighbours"),
    [
        ("optimizer.beta_1", 0.8, {0.5, 0.9}),
        ("optimizer.beta_1", 0.5, {0.5, 0.8}),
        ("model.dropout", 0.1, {0.0, 0.2}),
        ("model.dropout", 0.0, {0.0, 0.1}),
        ("model.input_dropout", 0.1, {0.0, 0.12}),
        ("model.input_dropout", 0.0, {0.0, 0.1}),
        ("schedule.plateau.patience", 2, {1, 3}),
        ("schedule.plateau.patience", 4, {3, 4}),
    ],
)
def test_a_value_moves_to_one_of_its_neighbours(
    name: str, value: Scalar, neighbours: set[Scalar]
) -> None:
    space = population()
    source = drawn(space, 0) | {
        "schedule": "plateau",
        "schedule.plateau.patience": 1,
        name: value,
    }
    found = [explored(space, source, number, anything) for number in range(60)]
    there = {params[name] for params in found if name in params}
    assert {round(v, 9) if isinstance(v, float) else v for v in there} == neighbours


def test_a_zero_that_no_factor_moves_is_drawn_anew() -> None:
    space, name = population(), "training.clip_norm"
    values = {explored(space, drawn(space, n) | {name: 0.0}, n, anything)[name] for n in range(20)}
    assert len(values) == 20


def test_settings_of_a_block_that_the_source_had_not_are_drawn() -> None:
    space = population()
    source = {
        name: value for name, value in drawn(space, 1).items() if not name.startswith("schedule")
    } | {"schedule": "constant"}
    found = [explored(space, source, number, anything) for number in range(80)]
    plateaus = [params for params in found if params["schedule"] == "plateau"]
    assert plateaus
    assert {params["schedule.plateau.patience"] for params in plateaus} == {1, 2, 3, 4}


def test_settings_that_no_trial_may_have_are_drawn_again_and_at_last_the_sources() -> None:
    space = population()
    source = drawn(space, 2)
    first = explored(space, source, 5, anything)
    second = explored(space, source, 5, lambda params: params != first)
    assert second != first
    assert explored(space, source, 5, lambda params: False) == source


def curves(*values: float, epoch: int = 5) -> Curves:
    return Curves({n: Curve([0.0] * (epoch - 1) + [v]) for n, v in enumerate(values)}, seed=1)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_only_the_worst_are_replaced_and_only_by_the_best(mode: str) -> None:
    """A plain count: how many trials are better, how many worse."""
    rule, sign = Pbt(fraction=0.3), 1 if mode == "max" else -1
    rng = random.Random(0)
    sources = Counter[int]()
    for _ in range(200):
        values = [sign * v / 20 for v in rng.choices(range(20), k=rng.randint(1, 12))]
        seen = curves(*values)
        share = max(1, int(0.3 * len(values)))
        for number, value in enumerate(values):
            verdict = exploit(rule, seen, number, mode)
            worse = sum(sign * other < sign * value for other in values)
            better = sorted(values, key=lambda v: -sign * v)[:share]
            is_worst = worse < share and any(sign * b > sign * value for b in better)
            assert isinstance(verdict, Continue) == is_worst
            if isinstance(verdict, Continue):
                above = sum(sign * v > sign * values[verdict.source] for v in values)
                assert above < share
                assert sign * values[verdict.source] > sign * value
                assert verdict.epoch == 5
                sources[verdict.source] += 1
    assert len(sources) > 5


def test_a_trial_is_judged_each_interval_and_once_more_an_epoch_later() -> None:
    rule = Pbt(interval_epochs=3)
    for epoch in range(1, 10):
        seen = curves(0.1, 0.9, epoch=epoch)
        for number in seen:
            seen[number].values[:] = [(0.1, 0.9)[number]] * epoch
        judged = epoch >= 3 and epoch % 3 in (0, 1)
        assert isinstance(exploit(rule, Curves(seen, seed=1), 0, "max"), Continue) == judged
        assert exploit(rule, Curves(seen, seed=1), 1, "max") == Go()


def test_a_continuation_is_not_judged_by_an_epoch_before_its_first() -> None:
    seen = Curves({0: Curve([0.9] * 7), 1: Curve([0.1], after=5)})
    assert exploit(Pbt(interval_epochs=5), seen, 1, "max") == Go()
    seen = Curves({0: Curve([0.9] * 10), 1: Curve([0.1] * 5, after=5)})
    verdict = exploit(Pbt(interval_epochs=5), seen, 1, "max")
    assert isinstance(verdict, Continue)
    assert (verdict.source, verdict.epoch) == (0, 10)


def test_a_trial_that_failed_is_no_source() -> None:
    seen = Curves({0: Curve([0.9] * 5, given_up=True), 1: Curve([0.1] * 5)})
    assert exploit(Pbt(), seen, 1, "max") == Go()
