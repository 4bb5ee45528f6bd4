"""Sequences of which two numbers are to be added."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ckconv_sweep.config.data import AddingData
from ckconv_sweep.data import adding

SMALL = {"length": 20, "train_sequences": 200, "test_sequences": 50}


def load(**changes):
    return adding.load(AddingData(**(SMALL | changes)), None)


def splits(task):
    return [task.train, task.validation, task.read_test()]


def rows(split):
    return {tuple(row) for row in split.inputs.flatten(1).tolist()}


@settings(max_examples=30, deadline=None)
@given(length=st.integers(2, 41))
def test_one_step_of_each_half_is_marked_and_the_target_is_the_sum(length):
    data = AddingData(**(SMALL | {"length": length}))
    task = adding.load(data, None)
    described = adding.describe(data, None)
    assert task.description == described
    assert (described.kind, described.in_channels, described.outputs) == ("regression", 2, 1)
    assert described.length == length
    for split, count in zip(splits(task), (200, 50, 50), strict=True):
        assert split.inputs.shape == (count, 2, length)
        assert split.inputs.dtype == split.targets.dtype == torch.float32
        numbers, marks = split.inputs.unbind(1)
        assert set(marks.unique().tolist()) == {0.0, 1.0} or length == 2
        assert (marks[:, : length // 2].sum(1) == 1).all()
        assert (marks[:, length // 2 :].sum(1) == 1).all()
        torch.testing.assert_close(split.targets, (numbers * marks).sum(1))


def test_numbers_are_uniform_between_zero_and_one():
    numbers = load(length=200).train.inputs[:, 0].flatten().numpy()
    shares, _ = np.histogram(numbers, bins=10, range=(0, 1))
    assert shares.sum() == numbers.size
    np.testing.assert_allclose(shares / numbers.size, 0.1, atol=0.006)


def test_every_step_of_a_half_is_marked_equally_often():
    marks = load(train_sequences=10_000).train.inputs[:, 1].mean(0)
    np.testing.assert_allclose(marks.numpy(), 0.1, atol=0.012)


def test_who_always_answers_one_has_an_error_of_a_sixth():
    targets = load(train_sequences=20_000).train.targets
    assert ((targets - 1) ** 2).mean().item() == pytest.approx(1 / 6, abs=0.004)


@pytest.mark.parametrize("seed", [1, adding.TEST_SEED, 2**63 - 1])
def test_another_seed_draws_other_sequences_but_never_another_test_split(seed):
    one, other = load(), load(split_seed=seed)
    assert not rows(one.train) & rows(other.train)
    assert not rows(one.validation) & rows(other.validation)
    assert torch.equal(one.read_test().inputs, other.read_test().inputs)
    assert not rows(other.train) & rows(other.read_test())


def test_draws_are_those_of_the_first_release():
    drawn = [split.targets[0].item() for split in splits(load())]
    assert drawn == pytest.approx([1.463520, 0.948785, 0.438445], abs=1e-6)


def test_the_global_generators_are_left_alone():
    np.random.seed(0)
    torch.manual_seed(0)
    expected = np.random.random(), torch.rand(1)
    np.random.seed(0)
    torch.manual_seed(0)
    load()
    assert (np.random.random(), torch.rand(1)) == expected
