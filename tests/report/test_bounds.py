from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckconv_sweep.config.domains import Interval
from ckconv_sweep.config.read import parse_space, read_space
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.advice import widened
from ckconv_sweep.report.bounds import Bound, bounds_hit, wider

from .records import BLOCKS, MIN, examples, record, space

RATE = "optimizer.learning_rate"
PENALTY = "training.kernel_penalty"


def at(fractions: list[float]) -> list[TrialRecord]:
    """A trial at each such fraction of a logarithmic range from 1e-4 to 1e-2, the best first."""
    return [
        record(i, [1 - i / 1000], params={RATE: 10 ** (-4 + 2 * fraction)})
        for i, fraction in enumerate(fractions)
    ]


def rest(amount: int) -> list[float]:
    return [0.5] * amount


def test_a_bound_is_hit_where_the_best_tenth_crowds_within_a_tenth_of_the_end() -> None:
    (bound,) = bounds_hit(at([0.95, 0.99, 0.91, *rest(27)]), space())
    assert (bound.setting, bound.end, bound.value) == (RATE, "high", 0.01)
    assert (bound.near, bound.best) == (3, 3)
    assert bound.there == 3
    assert bound.chance == pytest.approx(2 / math.comb(30, 3))  # one order of many, at either end

    (low,) = bounds_hit(at([0.05, 0.01, 0.09, *rest(27)]), space())
    assert low.end == "low"


def test_what_continues_other_trials_hits_no_bound() -> None:
    """It was put there by its source, and its weights are of several settings."""
    records = at([0.95, 0.99, 0.91, *rest(27)])
    continued = [replace(record, replaces=29) for record in records[:3]]
    assert bounds_hit([*continued, *records[3:]], space()) == []


def test_the_range_of_a_variable_is_moved_too() -> None:
    text = (
        space()
        .to_yaml()
        .replace(
            "first:", "variables: {x: {low: 1, high: 8}}\nderived: {model.blocks: 2 * x}\nfirst:", 1
        )
    )
    asked = parse_space(text, "space.yaml")
    records = [record(i, [1 - i / 1000], params={"x": 8 if i < 3 else 4}) for i in range(30)]
    wide, moved = wider(asked, bounds_hit(records, asked))
    assert moved == ["x"]
    assert wide.variables["x"] == Interval(low=1, high=12, whole=True)


def test_nothing_lies_below_0() -> None:
    asked = space(search=f"  {PENALTY}: {{low: 1.0e-4, high: 1.0e-2, log: true, or_zero: true}}")

    def sweep(best: float) -> list[TrialRecord]:
        rates = [best, best, best, *[1e-3] * 27]
        return [record(i, [1 - i / 1000], params={PENALTY: rate}) for i, rate in enumerate(rates)]

    assert bounds_hit(sweep(0.0), asked) == []
    (bound,) = bounds_hit(sweep(0.0099), asked)
    wide, moved = wider(asked, [bound])
    assert moved == [PENALTY]
    domain = wide.parameters()[PENALTY]
    assert isinstance(domain, Interval)
    assert (domain.low, domain.high, domain.or_zero) == (1e-4, 0.1, True)


@pytest.mark.parametrize(
    "fractions",
    [
        [0.95, 0.99, *rest(20), 0.91, *rest(7)],  # the third there is among the worst
        [0.5, 0.5, 0.5, *[0.99] * 27],  # many are there, but not the best
        [0.99] * 19,  # too few to have a best tenth
    ],
)
def test_no_bound_is_hit_otherwise(fractions: list[float]) -> None:
    assert bounds_hit(at(fractions), space()) == []


def test_where_many_trials_lie_at_an_end_the_best_must_not_be_the_only_good_ones() -> None:
    asked = space(search="  model.hidden_channels: {low: 4, high: 12, step: 4}")

    def sweep(channels: list[int]) -> list[TrialRecord]:
        return [
            record(i, [1 - i / 1000], params={"model.hidden_channels": c})
            for i, c in enumerate(channels)
        ]

    assert bounds_hit(sweep([12] * 4 + [8, 12, 8, 8, 12, 12] * 6), asked) == []
    (bound,) = bounds_hit(sweep([12] * 20 + [8] * 20), asked)
    assert (bound.near, bound.best, bound.there) == (4, 4, 20)


def test_choices_have_no_ends() -> None:
    records = [record(i, [0.5], params={"model.norm": "layer"}) for i in range(40)]
    assert bounds_hit(records, space(search="  model.norm: {choices: [layer, none]}")) == []


def test_the_lowest_are_the_best_where_the_metric_is_minimised() -> None:
    records = [
        record(i, [v], params={RATE: 0.0099 if v < 0.3 else 0.001}, metric="val/loss")
        for i, v in enumerate([0.5, 0.6, 0.7] * 9 + [0.1, 0.2, 0.15])
    ]
    (bound,) = bounds_hit(records, space(MIN))
    assert bound.near == 3


def bound(setting: str, end: str) -> Bound:
    return Bound(
        setting=setting,
        end="high" if end == "high" else "low",
        value=0.0,
        near=3,
        best=3,
        there=3,
        chance=0.001,
    )


@pytest.mark.parametrize(
    ("search", "setting", "end", "expected"),
    [
        ("{low: 1.0e-4, high: 1.0e-2, log: true}", RATE, "high", (1e-4, 1e-1)),
        ("{low: 1.0e-4, high: 1.0e-2, log: true}", RATE, "low", (1e-5, 1e-2)),
        ("{low: 1.0e-4, high: 4.0e-4, log: true}", RATE, "high", (1e-4, 8e-4)),
        ("{low: 0.001, high: 0.003}", RATE, "high", (0.001, 0.004)),
        ("{low: 4, high: 12, step: 4}", "model.hidden_channels", "high", (4, 16)),
        ("{low: 4, high: 12, step: 4}", "model.hidden_channels", "low", (4, 12)),  # 0 is none
        ("{low: 8, high: 9}", "model.hidden_channels", "high", (8, 10)),
        ("{low: 8, high: 9, log: true}", "model.hidden_channels", "low", (7, 9)),
        ("{low: 0.1, high: 0.9}", "model.dropout", "high", (0.1, 0.95)),  # 1.3, 1.1 and 1 are none
        ("{low: 0.0, high: 0.9}", "model.dropout", "low", (0.0, 0.9)),
    ],
)
def test_an_end_moves_outwards_as_far_as_the_setting_allows(
    search: str, setting: str, end: str, expected: tuple[float, float]
) -> None:
    asked = space(search=f"  {setting}: {search}")
    new, moved = wider(asked, [bound(setting, end)])
    domain = new.parameters()[setting]
    assert isinstance(domain, Interval)
    assert (domain.low, domain.high) == pytest.approx(expected)
    old = asked.parameters()[setting]
    assert moved == ([setting] if domain != old else [])
    assert (domain.log, domain.step, domain.whole) == (old.log, old.step, old.whole)  # type: ignore[union-attr]


def test_a_range_inside_a_block_moves_too_and_nothing_else_does() -> None:
    asked = space(search=BLOCKS)
    setting = "schedule.plateau.patience"
    new, moved = wider(asked, [bound(setting, "high")])
    assert moved == [setting]
    changed = {k for k, v in new.parameters().items() if v != asked.parameters()[k]}
    assert changed == {setting}
    assert (new.trial, new.budget, new.sampler) == (asked.trial, asked.budget, asked.sampler)


@settings(examples, max_examples=25)  # each reads several spaces
@given(st.floats(1e-3, 1e3), st.floats(1.001, 1e4), st.booleans(), st.sampled_from(["low", "high"]))
def test_a_wider_range_holds_the_old_one_and_more(
    low: float, ratio: float, log: bool, end: str
) -> None:
    low, high = float(f"{low:.4g}"), float(f"{low * ratio:.5g}")
    if not low < high:
        return
    search = f"  optimizer.learning_rate: {{low: {low}, high: {high}, log: {str(log).lower()}}}"
    new, moved = wider(space(search=search), [bound(RATE, end)])
    domain = new.parameters()[RATE]
    assert isinstance(domain, Interval)
    assert domain.low <= low
    assert domain.high >= high
    assert bool(moved) == ((domain.low, domain.high) != (low, high))
    assert math.isfinite(domain.high)


def test_the_file_of_a_wider_space_is_a_space(tmp_path: Path) -> None:
    found = widened(at([0.95, 0.99, 0.91, *rest(27)]), space())
    assert found is not None
    path = tmp_path / "wider.yaml"
    path.write_text(found[0].to_yaml())
    again = read_space(str(path))
    assert again == found[0]
    domain = again.parameters()[RATE]
    assert isinstance(domain, Interval)
    assert (domain.low, domain.high) == (1e-4, 0.1)


def test_there_is_no_wider_space_where_no_bound_was_hit() -> None:
    assert widened(at(rest(40)), space()) is None
