"""Copy memory: remember some symbols over many blank steps, then say them again.

Of M = `memory` and B = `blank_steps`, a sequence is M symbols drawn from 1 to 8, B - 1 blanks (0)
and M + 1 times the signal 9; what is asked is 0 for the first B + M steps, then the M symbols. So
the first signal says "from the next step on", T = B + 2 M, and every step is one of 10 classes.
Input is the symbol itself, as a number, in one channel: not normalised, as published.

Task: Hochreiter and Schmidhuber 1997 (LSTM), in the form of Arjovsky et al. 2016 (uRNN,
arXiv:1511.06464), sec. 4.1; sizes of Romero et al. 2022 (CKConv, arXiv:2102.02611). A model
without memory can reach a loss of M log(8) / T per step, not less.

Split: train, validation and test are three streams of one generator. `split_seed` draws train and
validation; the test split is the same for ever. Sequences are drawn with replacement: of 8 ** M
different ones, a small `memory` has too few for three splits without a common sequence.

Shapes: N sequences, C = 1 channel, M symbols, T time steps.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from ckconv_sweep.config.data import CopyMemoryData, Description
from ckconv_sweep.data.preparation import as_it_is
from ckconv_sweep.data.task import SequenceTask, Split

SYMBOLS = 8
SIGNAL = SYMBOLS + 1

TRAIN, VALIDATION, TEST = 0, 1, 2
"""The streams."""
TEST_SEED = 210_202_611
"""Never to be changed, and never a setting: the test split would be another one."""


def describe(data: CopyMemoryData, data_dir: Path | None = None) -> Description:
    """Follows from the settings."""
    return Description(
        name=data.name,
        kind=data.kind,
        in_channels=1,
        length=data.blank_steps + 2 * data.memory,
        outputs=SIGNAL + 1,
    )


def load(data: CopyMemoryData, data_dir: Path | None = None) -> SequenceTask:
    """Draw the sequences. `data_dir` is not used: there is no file to find."""
    return SequenceTask(
        description=describe(data),
        train=_draw(data, data.train_sequences, data.split_seed, TRAIN),
        validation=_draw(data, data.test_sequences, data.split_seed, VALIDATION),
        test_reader=partial(_draw, data, data.test_sequences, TEST_SEED, TEST),
        preparation=as_it_is(1, describe(data).length),
    )


def _draw(data: CopyMemoryData, count: int, seed: int, stream: int) -> Split:
    """`count` sequences with their targets `(N, T)`."""
    # RandomState: its draws are the same in every version of numpy.
    rng = np.random.RandomState(
        np.random.MT19937(np.random.SeedSequence(seed, spawn_key=(stream,)))
    )
    symbols_NM = torch.from_numpy(rng.randint(1, SYMBOLS + 1, (count, data.memory), dtype=np.int64))
    length = describe(data).length
    inputs_NCT = torch.zeros(count, 1, length)
    inputs_NCT[:, 0, : data.memory] = symbols_NM
    inputs_NCT[:, :, -data.memory - 1 :] = SIGNAL
    targets_NT = torch.zeros(count, length, dtype=torch.int64)
    targets_NT[:, -data.memory :] = symbols_NM
    return Split(inputs_NCT, targets_NT)
