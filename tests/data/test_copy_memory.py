"""Sequences to be remembered."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ckconv_sweep.config.data import CopyMemoryData
from ckconv_sweep.data import copy_memory

SMALL = {"blank_steps": 30, "memory": 10, "train_sequences": 200, "test_sequences": 50}


def load(**changes):
    return copy_memory.load(CopyMemoryData(**(SMALL | changes)), None)


def splits(task):
    return [task.train, task.validation, task.read_test()]


def rows(split):
    return {tuple(row) for row in split.inputs.flatten(1).tolist()}


def test_a_sequence_is_as_published():
    task = load(blank_steps=4, memory=2, train_sequences=1)
    first, second = task.train.inputs[0, 0, :2].tolist()
    assert {first, second} <= set(range(1, 9))
    assert task.train.inputs[0, 0].tolist() == [first, second, 0, 0, 0, 9, 9, 9]
    assert task.train.targets[0].tolist() == [0, 0, 0, 0, 0, 0, first, second]


def test_one_blank_step_leaves_no_blank_between_symbols_and_signal():
    task = load(blank_steps=1, memory=1, train_sequences=1)
    symbol = task.train.inputs[0, 0, 0].item()
    assert task.train.inputs[0, 0].tolist() == [symbol, 9, 9]
    assert task.train.targets[0].tolist() == [0, 0, symbol]


@settings(max_examples=30, deadline=None)
@given(blank_steps=st.integers(1, 40), memory=st.integers(1, 12))
def test_shapes_are_as_described(blank_steps, memory):
    data = CopyMemoryData(**(SMALL | {"blank_steps": blank_steps, "memory": memory}))
    described = copy_memory.describe(data, None)
    task = copy_memory.load(data, None)
    assert task.description == described
    assert (described.kind, described.in_channels, described.outputs) == ("per_step", 1, 10)
    assert described.length == blank_steps + 2 * memory
    for split, count in zip(splits(task), (200, 50, 50), strict=True):
        assert split.inputs.shape == (count, 1, described.length)
        assert split.inputs.dtype == torch.float32
        assert split.targets.shape == (count, described.length)
        assert split.targets.dtype == torch.int64


def test_every_symbol_is_drawn_equally_often():
    counts = torch.bincount(load(train_sequences=4000).train.targets[:, -10:].flatten())
    assert counts[0] == 0
    assert len(counts) == 9
    np.testing.assert_allclose(counts[1:].numpy() / 40_000, 1 / 8, atol=0.006)


@pytest.mark.parametrize("seed", [1, copy_memory.TEST_SEED, 2**63 - 1])
def test_another_seed_draws_other_sequences_but_never_another_test_split(seed):
    one, other = load(), load(split_seed=seed)
    assert not rows(one.train) & rows(other.train)
    assert not rows(one.validation) & rows(other.validation)
    assert torch.equal(one.read_test().inputs, other.read_test().inputs)
    assert not rows(other.train) & rows(other.read_test())


def test_draws_are_those_of_the_first_release():
    task = load(blank_steps=2, memory=4, train_sequences=1, test_sequences=1)
    drawn = [split.inputs[0, 0, :4].int().tolist() for split in splits(task)]
    assert drawn == [[2, 7, 1, 3], [7, 8, 6, 6], [1, 7, 5, 3]]


def test_the_global_generators_are_left_alone():
    np.random.seed(0)
    torch.manual_seed(0)
    expected = np.random.random(), torch.rand(1)
    np.random.seed(0)
    torch.manual_seed(0)
    load()
    assert (np.random.random(), torch.rand(1)) == expected
