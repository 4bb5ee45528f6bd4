"""The adding problem: two of many numbers are marked, and their sum is asked for.

Channel 0 is a number from U(0, 1) at every step. Channel 1 is 1 at two steps and 0 elsewhere: one
step of the first half (`length // 2` steps) and one of the second, both drawn uniformly. The target
is the sum of the two marked numbers. Inputs are not normalised, as published.

Task: Hochreiter and Schmidhuber 1997 (LSTM), in the form of Arjovsky et al. 2016 (uRNN,
arXiv:1511.06464), sec. 4.2; sizes of Romero et al. 2022 (CKConv, arXiv:2102.02611). The published
code of the latter marks any two different steps, which may be neighbours; a mark in each half asks
for a memory of some length in nearly every sequence. Who always answers 1 has an error of 1/6.

Split: train, validation and test are three streams of one generator. `split_seed` draws train and
validation; the test split is the same for ever.

Shapes: N sequences, C = 2 channels, T time steps.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from ckconv_sweep.config.data import AddingData, Description
from ckconv_sweep.data.preparation import as_it_is
from ckconv_sweep.data.task import SequenceTask, Split

TRAIN, VALIDATION, TEST = 0, 1, 2
"""The streams."""
TEST_SEED = 210_202_611
"""Never to be changed, and never a setting: the test split would be another one."""


def describe(data: AddingData, data_dir: Path | None = None) -> Description:
    """Follows from the settings."""
    return Description(name=data.name, kind=data.kind, in_channels=2, length=data.length, outputs=1)


def load(data: AddingData, data_dir: Path | None = None) -> SequenceTask:
    """Draw the sequences. `data_dir` is not used: there is no file to find."""
    return SequenceTask(
        description=describe(data),
        train=_draw(data.length, data.train_sequences, data.split_seed, TRAIN),
        validation=_draw(data.length, data.test_sequences, data.split_seed, VALIDATION),
        test_reader=partial(_draw, data.length, data.test_sequences, TEST_SEED, TEST),
        preparation=as_it_is(2, data.length),
    )


def _draw(length: int, count: int, seed: int, stream: int) -> Split:
    """`count` sequences with their sums `(N,)`."""
    # RandomState: its draws are the same in every version of numpy.
    rng = np.random.RandomState(
        np.random.MT19937(np.random.SeedSequence(seed, spawn_key=(stream,)))
    )
    half = length // 2
    first_N = torch.from_numpy(rng.randint(0, half, count, dtype=np.int64))
    second_N = torch.from_numpy(rng.randint(half, length, count, dtype=np.int64))
    inputs_NCT = torch.zeros(count, 2, length)
    for row_CT in inputs_NCT:  # row by row: all numbers at once, in double, would fill 400 MB
        row_CT[0] = torch.from_numpy(rng.random_sample(length))
    sequences_N = torch.arange(count)
    inputs_NCT[sequences_N, 1, first_N] = 1.0
    inputs_NCT[sequences_N, 1, second_N] = 1.0
    sums_N = inputs_NCT[sequences_N, 0, first_N] + inputs_NCT[sequences_N, 0, second_N]
    return Split(inputs_NCT, sums_N)
