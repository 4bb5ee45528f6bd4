"""Which sequences are held out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckconv_sweep.data.splits import hold_out
from ckconv_sweep.errors import ConfigError

TARGETS = np.repeat(np.arange(10), 30)


@settings(max_examples=100, deadline=None)
@given(
    targets=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    fraction=st.floats(0.0, 1.0, exclude_min=True, exclude_max=True),
    seed=st.integers(0, 2**63 - 1),
)
def test_both_sides_hold_every_class_and_together_every_sequence_once(targets, fraction, seed):
    targets = np.array(targets)
    try:
        kept, held_out = hold_out(targets, fraction, seed)
    except ConfigError:
        return
    assert sorted([*kept, *held_out]) == list(range(len(targets)))
    assert set(targets[kept]) == set(targets[held_out]) == set(targets)


def test_every_class_gives_the_same_share():
    _, held_out = hold_out(TARGETS, 0.1, 0)
    assert np.bincount(TARGETS[held_out]).tolist() == [3] * 10


def test_positions_are_sorted():
    for side in hold_out(TARGETS, 0.3, 0):
        assert (np.diff(side) > 0).all()


def test_a_seed_repeats_its_split_and_another_seed_does_not():
    first, again, other = (hold_out(TARGETS, 0.1, seed)[1] for seed in (7, 7, 8))
    assert (first == again).all()
    assert (first != other).any()


def test_seeds_beyond_32_bits_are_told_apart():
    one, other = (hold_out(TARGETS, 0.1, seed)[1] for seed in (1, 2**32 + 1))
    assert (one != other).any()


def test_the_global_generator_is_left_alone():
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    hold_out(TARGETS, 0.1, 0)
    assert np.random.random() == expected


@pytest.mark.parametrize(
    ("targets", "fraction"),
    [
        ([0, 0, 0, 1, 1, 1], 0.01),  # one sequence held out, two classes
        ([0, 0, 0, 1, 1, 1], 0.99),  # none kept
        ([0, 0, 0, 0, 1], 0.5),  # a class of one sequence
        ([0] * 97 + [1] * 3, 0.05),  # room for both classes, but rounding leaves one out
    ],
)
def test_a_fraction_that_leaves_a_class_empty_is_refused(targets, fraction):
    with pytest.raises(ConfigError, match="leaves a class without a sequence") as error:
        hold_out(np.array(targets), fraction, 0)
    assert error.value.where == "data.validation_fraction"
    assert f"{fraction} of {len(targets)}" in str(error.value)
