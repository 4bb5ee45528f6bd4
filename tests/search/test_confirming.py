from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.record.confirmation import Confirmation
from ckconv_sweep.record.trials import BASE, TrialRecord
from ckconv_sweep.search.confirming import (
    FEWEST,
    is_over,
    is_worse,
    leader_of,
    paired,
    values_of,
    wanted,
)
from tests.report.records import examples

ACCURACY = Metric(name="val/accuracy", mode="max")
LOSS = Metric(name="val/loss", mode="min")
T_975 = {1: 12.7062047364, 2: 4.3026527297, 3: 3.1824463053, 4: 2.7764451052, 9: 2.2621571628}
"""Student's t by degrees of freedom, of a printed table."""


def _plan(
    settings: tuple[int, ...] = (4, 17, 23), seeds: int = 5, control: int | None = BASE
) -> Confirmation:
    return Confirmation(settings=settings, control=control, seeds=seeds, begun_ms=0)


def _trial(
    setting: int, index: int, value: float | None, metric: Metric = ACCURACY, **known: Any
) -> TrialRecord:
    """Of a confirmation; without a value it runs."""
    metrics = {metric.name: 0.5 if value is None else value}
    return TrialRecord(
        number=100 + 10 * index + setting % 10,
        outcome=known.pop("outcome", "running" if value is None else "completed"),
        params={},
        history=(Epoch(number=1, metrics=metrics, timestamp_ms=1),),
        confirms=setting,
        seed_index=index,
        **known,
    )


def _trained(
    plan: Confirmation,
    reached: Callable[[int, int], float],
    metric: Metric = ACCURACY,
    places: int = 1,
) -> Iterator[list[TrialRecord]]:
    """The records after each trial that ends, the oldest of those that run first."""
    records: list[TrialRecord] = []
    while True:
        running = [i for i, record in enumerate(records) if record.outcome == "running"]
        more = wanted(plan, records, metric)[: places - len(running)]
        records = [*records, *(_trial(setting, index, None, metric) for setting, index in more)]
        running = [i for i, record in enumerate(records) if record.outcome == "running"]
        if not running:
            return
        one = records[running[0]]
        assert one.confirms is not None
        assert one.seed_index is not None
        value = reached(one.confirms, one.seed_index)
        records[running[0]] = _trial(one.confirms, one.seed_index, value, metric)
        yield records


@pytest.mark.parametrize("pairs", [2, 3, 4, 5, 10])
def test_the_paired_interval_is_the_plain_formula_written_out(pairs):
    rng = np.random.default_rng(pairs)
    leader = {index: 0.9 + 0.01 * rng.normal() for index in range(pairs)}
    values = {index: value - 0.02 + 0.005 * rng.normal() for index, value in leader.items()}
    differences = [values[index] - leader[index] for index in range(pairs)]
    mean = sum(differences) / pairs
    variance = sum((d - mean) ** 2 for d in differences) / (pairs - 1)
    half = T_975[pairs - 1] * math.sqrt(variance / pairs)
    found = paired(values, leader)
    assert found is not None
    assert found.count == pairs
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))


def test_only_seeds_that_both_completed_are_pairs():
    assert paired({0: 0.5, 2: 0.6}, {1: 0.5, 2: 0.7}) is None
    found = paired({0: 0.5, 1: 0.9, 2: 0.6}, {0: 0.4, 2: 0.7, 3: 0.0})
    assert found is not None
    assert found.count == 2
    assert found.mean == pytest.approx(0.0)


def test_a_setting_with_the_same_numbers_is_a_tie_and_one_always_lower_by_the_same_is_not():
    leader = {0: 0.91, 1: 0.87, 2: 0.93}
    same = paired(dict(leader), leader)
    lower = paired({index: value - 0.25 for index, value in leader.items()}, leader)
    assert same is not None
    assert lower is not None
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    assert not is_worse(same, ACCURACY)
    assert is_worse(lower, ACCURACY)
    assert not is_worse(lower, LOSS)


def test_what_all_seeds_of_both_have_in_common_does_not_hide_a_difference():
    """Seeds that are easy for both differ by more than the settings do."""
    leader = {0: 0.70, 1: 0.95, 2: 0.80, 3: 0.90}
    values = {index: value - 0.01 - 0.001 * index for index, value in leader.items()}
    assert is_worse(paired(values, leader), ACCURACY)


def test_two_seeds_never_tell_two_settings_apart():
    assert not is_worse(paired({0: 0.1, 1: 0.1}, {0: 0.9, 1: 0.9}), ACCURACY)


def test_the_first_seeds_are_given_to_all_settings_one_seed_after_the_other():
    first = wanted(_plan(), [], ACCURACY)
    assert first[:5] == [(4, 0), (17, 0), (23, 0), (BASE, 0), (4, 1)]
    assert len(first) == 4 * 5


def test_a_setting_far_below_gets_three_seeds_and_the_others_and_the_control_all():
    def reached(setting: int, index: int) -> float:
        good = {4: 0.9, 17: 0.9, 23: 0.2, BASE: 0.1}[setting]
        return good + (0.01 if (setting + index) % 2 else -0.01)

    records = list(_trained(_plan(), reached))[-1]
    assert {k: len(v) for k, v in values_of(records, ACCURACY).items()} == {
        4: 5,
        17: 5,
        23: 3,
        BASE: 5,
    }
    assert is_over(_plan(), records, ACCURACY)


def test_a_control_that_is_one_of_the_settings_is_trained_once_and_never_dropped():
    plan = _plan(control=23)
    records = list(_trained(plan, lambda setting, _: 0.1 if setting == 23 else 0.9))[-1]
    assert len([record for record in records if record.confirms == 23]) == 5


def test_where_lower_is_better_the_higher_one_is_dropped():
    records = list(_trained(_plan(), lambda setting, _: setting / 10, LOSS))[-1]
    counts = {k: len(v) for k, v in values_of(records, LOSS).items()}
    assert counts == {4: 5, 17: 3, 23: 3, BASE: 5}
    assert leader_of(_plan(), values_of(records, LOSS), LOSS) == 4


def test_the_leader_needs_three_seeds_and_of_equal_ones_it_is_that_of_the_search():
    plan = _plan()
    assert leader_of(plan, {17: {0: 1.0, 1: 1.0}}, ACCURACY) is None
    three = {0: 0.5, 1: 0.5, 2: 0.5}
    assert leader_of(plan, {17: {0: 1.0, 1: 1.0}, 23: three, 4: three}, ACCURACY) == 4
    assert leader_of(plan, {BASE: {0: 1.0, 1: 1.0, 2: 1.0}, 23: three}, ACCURACY) == 23


def test_a_failed_seed_is_not_begun_again_and_the_others_go_on():
    plan = _plan(settings=(4,), seeds=4, control=None)
    failed = _trial(4, 1, 0.5, outcome="failed", reason="nonfinite")
    records = [_trial(4, 0, 0.9), failed, _trial(4, 2, 0.9)]
    assert wanted(plan, records, ACCURACY) == [(4, 3)]
    assert not is_over(plan, [*records, _trial(4, 3, None)], ACCURACY)
    assert is_over(plan, [*records, _trial(4, 3, 0.8)], ACCURACY)
    assert values_of(records, ACCURACY) == {4: {0: 0.9, 2: 0.9}}


def test_a_dropped_setting_gets_seeds_again_when_a_later_one_shows_that_it_may_be_as_good():
    plan = _plan(settings=(4, 17), seeds=5, control=None)
    records = [_trial(4, i, 0.9 + 0.001 * i) for i in range(3)]
    records += [_trial(17, i, 0.8 + 0.002 * i) for i in range(3)]
    assert wanted(plan, records, ACCURACY) == [(4, 3), (4, 4)]
    records += [_trial(4, 3, 0.1)]
    assert wanted(plan, records, ACCURACY) == [(17, 3), (4, 4), (17, 4)]
    records += [_trial(17, 3, 0.81), _trial(4, 4, 0.1), _trial(17, 4, 0.81)]
    assert wanted(plan, records, ACCURACY) == []
    assert leader_of(plan, values_of(records, ACCURACY), ACCURACY) == 17


_scores = st.dictionaries(
    st.tuples(st.sampled_from([4, 17, 23, BASE]), st.integers(0, 5)),
    st.sampled_from([0.0, 0.25, 0.5, 0.875, 1.0]),
    min_size=24,
    max_size=24,
)


@examples
@given(
    scores=_scores,
    seeds=st.integers(3, 6),
    places=st.integers(1, 5),
    metric=st.sampled_from([ACCURACY, LOSS]),
)
def test_whatever_is_reached_each_gets_three_seeds_and_what_began_is_not_wanted_again(
    scores, seeds, places, metric
):
    plan = _plan(seeds=seeds)
    for records in _trained(plan, lambda s, i: scores[s, i], metric, places):
        begun = [(record.confirms, record.seed_index) for record in records]
        assert len(set(begun)) == len(begun)
        assert not set(begun) & set(wanted(plan, records, metric))
        amounts = [sum(one == number for one, _ in begun) for number in plan.compared]
        assert max(amounts) <= seeds
        if max(amounts) <= FEWEST:
            assert max(amounts) - min(amounts) <= 1
    assert is_over(plan, records, metric)
    values = values_of(records, metric)
    leader = leader_of(plan, values, metric)
    assert len(values[BASE]) == len(values[leader]) == seeds
    for number in plan.settings:
        assert len(values[number]) >= FEWEST
        if len(values[number]) < seeds:
            assert is_worse(paired(values[number], values[leader]), metric)


@examples
@given(order=st.permutations(range(10)))
def test_the_order_in_which_the_study_names_the_trials_makes_no_difference(order):
    plan = _plan(seeds=4)
    records = [_trial(s, i, (s + i) % 7 / 7) for s in plan.compared for i in range(3)][:10]
    assert wanted(plan, [records[i] for i in order], ACCURACY) == wanted(plan, records, ACCURACY)
