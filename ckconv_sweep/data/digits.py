"""scikit-learn's 1,797 small digits, read row by row: 64 steps, 1 channel, 10 classes.

Needs no download: the data come with scikit-learn (`sklearn.datasets.load_digits`; E. Alpaydin and
C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998, its test part). A task small enough
for a sweep on a laptop; no published CKCNN result exists for it.

Split: a stratified fifth is the test split, the same one for ever. `validation_fraction` of the
rest is held out by `split_seed`. Values (0 to 16) are normalised by mean and standard deviation of
all values of the training sequences.

Shapes: N sequences, C = 1 channel, T = 64 time steps.
"""

from __future__ import annotations

import gzip
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ckconv_sweep.config.data import Description, DigitsData
from ckconv_sweep.data.preparation import Preparation, measured
from ckconv_sweep.data.splits import held_out_by, hold_out
from ckconv_sweep.data.task import SequenceTask, Split

DIGITS = Description(name="digits", in_channels=1, length=64, outputs=10)

TEST_FRACTION = 0.2
TEST_SEED = 1_797
"""Never to be changed, and never a setting: with another one, sequences that trials have seen would
move into the test split."""


def describe(data: DigitsData, data_dir: Path | None = None) -> Description:
    """Always the same."""
    return DIGITS


def load(data: DigitsData, data_dir: Path | None = None) -> SequenceTask:
    """Read and split the digits. `data_dir` is not used: there is no file to find."""
    values_NT, targets_N = _read()
    open_positions, _ = hold_out(targets_N, TEST_FRACTION, TEST_SEED)
    train, validation = held_out_by(data, targets_N[open_positions])
    train, validation = open_positions[train], open_positions[validation]
    mean, std = float(values_NT[train].mean()), float(values_NT[train].std())
    return SequenceTask(
        description=DIGITS,
        train=_split(values_NT[train], targets_N[train], mean, std),
        validation=_split(values_NT[validation], targets_N[validation], mean, std),
        test_reader=partial(_read_test, mean, std),
        preparation=Preparation(
            channels=1,
            length=DIGITS.length,
            measured_on=measured(len(train), data.name),
            mean=torch.tensor(mean, dtype=torch.float64).view(1, 1, 1),
            std=torch.tensor(std, dtype=torch.float64).view(1, 1, 1),
            image=(8, 8),
        ),
    )


def _read() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values `(1797, 64)` and classes `(1797,)`, in the order of scikit-learn's file. It is read
    where it lies: importing scikit-learn takes each process that trains a second."""
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64)


def _read_test(mean: float, std: float) -> Split:
    values_NT, targets_N = _read()
    _, test = hold_out(targets_N, TEST_FRACTION, TEST_SEED)
    return _split(values_NT[test], targets_N[test], mean, std)


def _split(
    values_NT: NDArray[np.float64], targets_N: NDArray[np.int64], mean: float, std: float
) -> Split:
    normalised_NCT = torch.from_numpy((values_NT - mean) / std).float().unsqueeze(1)
    return Split(normalised_NCT, torch.from_numpy(targets_N))
