"""Which sequences are held out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from ckconv_sweep.config.data import DigitsData
from ckconv_sweep.data.splits import folds, held_out_by, hold_out, stratified
from ckconv_sweep.errors import ConfigError

TARGETS = np.repeat(np.arange(10), 30)


@settings(max_examples=100, deadline=None)
@given(
    targets=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    fraction=st.floats(0.0, 1.0, exclude_min=True, exclude_max=True),
    seed=st.integers(0, 2**63 - 1),
)
def test_both_sides_hold_every_class_of_two_and_together_every_sequence_once(
    targets, fraction, seed
):
    targets = np.array(targets)
    counts = np.bincount(targets)
    if counts.max() < 2:
        with pytest.raises(ConfigError, match="no sequence can be held out for validation"):
            hold_out(targets, fraction, seed)
        return
    kept, held_out = hold_out(targets, fraction, seed)
    assert sorted([*kept, *held_out]) == list(range(len(targets)))
    assert set(targets[kept]) == set(targets)
    assert set(targets[held_out]) == set(np.flatnonzero(counts >= 2))


@settings(max_examples=200, deadline=None)
@given(
    targets=st.lists(st.integers(0, 6), min_size=4, max_size=90),
    kept=st.integers(1, 89),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_stratified_split_is_scikit_learns_in_its_order(targets, kept, seed):
    targets, left = np.array(targets), len(targets) - kept
    try:
        expected = train_test_split(
            np.arange(len(targets)),
            test_size=left,
            stratify=targets,
            random_state=seed,
        )
    except ValueError:
        with pytest.raises(ValueError, match=r"has one sequence|are too few for"):
            stratified(targets, kept, np.random.RandomState(seed))
        return
    found = stratified(targets, kept, np.random.RandomState(seed))
    assert [side.tolist() for side in found] == [side.tolist() for side in expected]


def test_the_generator_is_left_where_scikit_learn_leaves_it():
    theirs, ours = np.random.RandomState(3), np.random.RandomState(3)
    train_test_split(np.arange(300), test_size=77, stratify=TARGETS, random_state=theirs)
    stratified(TARGETS, 223, ours)
    assert ours.random_sample() == theirs.random_sample()


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
    ("counts", "fraction", "held_out"),
    [
        ([3, 3], 0.01, [1, 1]),  # a share of none
        ([3, 3], 0.99, [2, 2]),  # a share of all
        ([4, 1], 0.5, [2, 0]),  # a class of one sequence
        ([97, 3], 0.05, [5, 1]),  # of all sequences together it leaves the second class out
        ([2] * 52, 0.2, [1] * 52),  # PigAirwayPressure of the UCR archive
        ([292, 177, 10, 19, 2], 0.2, [58, 35, 2, 4, 1]),  # ECG5000
    ],
)
def test_of_every_class_that_has_two_sequences_each_side_gets_one(counts, fraction, held_out):
    targets = np.repeat(np.arange(len(counts)), counts)
    _, found = hold_out(targets, fraction, 0)
    assert np.bincount(targets[found], minlength=len(counts)).tolist() == held_out


def test_where_each_class_has_one_sequence_the_message_says_what_is_needed():
    with pytest.raises(ConfigError, match="each of the 18 classes has one") as error:
        hold_out(np.arange(18), 0.2, 0)
    assert "two sequences of at least one class" in error.value.hint


@settings(max_examples=100, deadline=None)
@given(
    targets=st.lists(st.integers(0, 4), min_size=2, max_size=60),
    number=st.integers(2, 7),
    seed=st.integers(0, 2**63 - 1),
)
def test_folds_are_equal_and_hold_the_same_of_every_class_but_for_one(targets, number, seed):
    of = folds(np.array(targets), number, seed)
    sizes = np.bincount(of, minlength=number)
    assert sizes.max() - sizes.min() <= 1
    for label in set(targets):
        counts = np.bincount(of[np.array(targets) == label], minlength=number)
        assert counts.max() - counts.min() <= 1


def test_each_sequence_is_held_out_by_one_fold_and_another_seed_deals_them_anew():
    held_out = []
    for fold in range(5):
        kept, held = held_out_by(DigitsData(folds=5, fold=fold, split_seed=7), TARGETS)
        assert sorted([*kept, *held]) == list(range(len(TARGETS)))
        assert list(np.bincount(TARGETS[held])) == [6] * 10
        held_out += [*held]
    assert sorted(held_out) == list(range(len(TARGETS)))
    _, other = held_out_by(DigitsData(folds=5, fold=0, split_seed=8), TARGETS)
    assert set(other) != set(held_out[:60])


def test_more_folds_than_sequences_are_refused():
    with pytest.raises(ConfigError, match="3 sequences cannot be dealt into 5 folds"):
        held_out_by(DigitsData(folds=5), np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="fold must be < folds, got 5 and 5"):
        DigitsData(folds=5, fold=5)
