"""Raw sequences in, splits out: sampled more coarsely, steps missing, normalised.

The order is: every n-th step is kept, steps are dropped, mean and standard deviation are taken from
the training sequences, all are normalised, and then a model is shown what is missing, as a mask or
as times. It is that of Romero et al. 2022 (CKConv, arXiv:2102.02611, published code, July 2021),
but for one thing: there steps are dropped before every n-th is kept. No published result does both;
here every sequence lacks the same share at any rate, which `times` needs.

A missing value is NaN until the last step. No NaN leaves this file.

Shapes: N sequences, C channels, L time steps of a whole sequence, T time steps of a prepared one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ckconv_sweep.config.data import Resampled
from ckconv_sweep.data.splits import hold_out, stratified
from ckconv_sweep.data.task import Split
from ckconv_sweep.errors import ConfigError

Sequences = Tensor | NDArray[np.float32]
Normalization = Literal["per_channel", "per_time_step"]

DROP_SEED = 56_789
"""Of the published dropped data."""
SMALLEST_STD = 1e-5
"""Added to every standard deviation, as published."""
CHUNK_VALUES = 2**22
"""So many values at a time are turned into float64, not the whole dataset."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Which sequences are in which split: `(N',)`, int64, sorted, disjoint."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def published_split(targets_N: NDArray[np.int64], split_seed: int) -> Positions:
    """Deal one pool of sequences out as 70 % to train, 15 % to validate, 15 % to test, stratified.

    Args:
        targets_N: class of each sequence.
        split_seed: 0 is the published split (scikit-learn's `train_test_split` with `random_state`
            0, then 1). Another seed deals train and validation anew; the test split is always the
            same, so that no trial has seen it.

    Raises:
        ConfigError: there are too few sequences of a class.
    """
    try:
        count = math.floor(0.7 * len(targets_N))
        train, rest = stratified(targets_N, count, np.random.RandomState(0))
        half = len(rest) // 2
        validation, test = stratified(targets_N[rest], half, np.random.RandomState(1))
        validation, test = rest[validation], rest[test]
    except ValueError as error:
        raise ConfigError(
            f"{len(targets_N)} sequences cannot be split into 70, 15 and 15 % with every class in "
            f"each: {error}",
            where="data",
        ) from error
    if split_seed != 0:
        not_test = np.sort(np.concatenate([train, validation]))
        # Half a sequence less, as `hold_out` rounds up.
        fraction = (len(validation) - 0.5) / len(not_test)
        kept, held_out = hold_out(targets_N[not_test], fraction, split_seed)
        train, validation = not_test[kept], not_test[held_out]
    return Positions(np.sort(train), np.sort(validation), np.sort(test))


def prepared_shape(in_channels: int, length: int, data: Resampled) -> tuple[int, int]:
    """What a `Description` says of the training sequences that `prepare` makes of sequences
    `(in_channels, length)`: their channels, and their steps, or those of the whole sequence where
    they have times."""
    if data.has_times:
        return in_channels, length
    return in_channels + (data.dropped_fraction > 0.0), math.ceil(length / data.sampling_rate)


def prepare(
    inputs_NCL: Sequences, targets_N: NDArray[np.int64], positions: Positions, data: Resampled
) -> tuple[Split, Split, Normalizer]:
    """The training and the validation split, at `sampling_rate`, and what normalised them.

    Args:
        inputs_NCL: all sequences, of all splits, in the dataset's order. Not changed.
        targets_N: what is asked of each.
        positions: which sequence is in which split.
        data: how they are sampled, dropped and normalised.
    """
    missing_NT = _missing(len(inputs_NCL), inputs_NCL.shape[-1], data.sampling_rate, data)
    train_NCT = _selected(inputs_NCL, positions.train, data.sampling_rate, missing_NT)
    normalizer = Normalizer.of(train_NCT, data.normalization)
    train = _finished(train_NCT, targets_N[positions.train], normalizer, data.sampling_rate, data)
    del train_NCT  # may be a gigabyte
    validation_NCT = _selected(inputs_NCL, positions.validation, data.sampling_rate, missing_NT)
    validation = _finished(
        validation_NCT, targets_N[positions.validation], normalizer, data.sampling_rate, data
    )
    return train, validation, normalizer


def prepare_test(
    inputs_NCL: Sequences, targets_N: NDArray[np.int64], positions: Positions, data: Resampled
) -> Split:
    """The test split, at `test_sampling_rate` where there is one; arguments as for `prepare`.

    It is normalised by the training sequences: per channel as in training; per time step, by the
    same time steps of the training sequences.
    """
    rate = data.test_sampling_rate or data.sampling_rate
    missing_NT = _missing(len(inputs_NCL), inputs_NCL.shape[-1], rate, data)
    # The steps of another rate are not all among those of training, but the channels are.
    fit_rate = rate if data.normalization == "per_time_step" else data.sampling_rate
    missing_in_fit_NT = (
        missing_NT
        if fit_rate == rate
        else _missing(len(inputs_NCL), inputs_NCL.shape[-1], fit_rate, data)
    )
    normalizer = Normalizer.of(
        _selected(inputs_NCL, positions.train, fit_rate, missing_in_fit_NT), data.normalization
    )
    test_NCT = _selected(inputs_NCL, positions.test, rate, missing_NT)
    return _finished(test_NCT, targets_N[positions.test], normalizer, rate, data)


def dropped_count(length: int, fraction: float) -> int:
    """How many of `length` steps a sequence lacks: rounded down, as published."""
    return int(length * fraction)


def dropped_steps(sequences: int, length: int, fraction: float, seed: int = DROP_SEED) -> Tensor:
    """Which steps each sequence lacks: `(N, T)`, True where one is missing.

    As published: one generator for the whole dataset, and for each sequence in turn the first
    `dropped_count` of a random order of its steps.
    """
    generator = torch.Generator().manual_seed(seed)
    count = dropped_count(length, fraction)
    missing_NT = torch.zeros(sequences, length, dtype=torch.bool)
    for missing_T in missing_NT:
        missing_T[torch.randperm(length, generator=generator)[:count]] = True
    return missing_NT


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Mean and standard deviation of training sequences; called, it normalises others by them."""

    mean: Tensor
    """`(1, C, 1)` or `(1, 1, T)`, float32."""
    std: Tensor
    """The same shape. Of the sample (divided by n - 1), as published; 1 where fewer than two values
    are known."""

    @classmethod
    def of(cls, train_NCT: Sequences, normalization: Normalization) -> Normalizer:
        """Measure training sequences, without their missing values (NaN).

        Args:
            train_NCT: the training sequences, no others.
            normalization: `per_channel`: over sequences and time steps. `per_time_step`: over
                sequences and channels, as the published code does it.
        """
        train_NCT = torch.as_tensor(train_NCT)
        over = (0, 2) if normalization == "per_channel" else (0, 1)
        size = max(1, CHUNK_VALUES // max(1, train_NCT[:1].numel()))
        chunks = [train_NCT[start : start + size] for start in range(0, len(train_NCT), size)]
        zero = torch.zeros((), dtype=torch.float64)
        count = sum(((~chunk.isnan()).sum(over, keepdim=True) for chunk in chunks), start=zero)
        total = sum((chunk.double().nansum(over, keepdim=True) for chunk in chunks), start=zero)
        mean = total / count.clamp(min=1)
        squares = sum(
            ((chunk.double() - mean).square().nansum(over, keepdim=True) for chunk in chunks),
            start=zero,
        )
        std = (squares / (count - 1).clamp(min=1)).sqrt()
        return cls(mean.float(), torch.where(count > 1, std, 1.0).float())

    def __call__(self, x_NCT: Sequences) -> Tensor:
        """`(x - mean) / (std + 1e-5)`, a new tensor; what is NaN stays NaN."""
        return self.apply_(torch.as_tensor(x_NCT).clone())

    def apply_(self, x_NCT: Tensor) -> Tensor:
        """The same, written into `x_NCT`."""
        return x_NCT.sub_(self.mean).div_(self.std + SMALLEST_STD)


def with_mask(x_NCT: Sequences) -> Tensor:
    """`(N, C, T) -> (N, C + 1, T)`: missing values become 0, and the last channel is 1 where a step
    is there (has a value in any channel), 0 where not."""
    x_NCT = torch.as_tensor(x_NCT)
    present_N1T = (~x_NCT.isnan().all(1, keepdim=True)).to(x_NCT.dtype)
    return torch.cat([x_NCT, present_N1T], dim=1).nan_to_num_(nan=0.0)


def without_missing(x_NCL: Sequences) -> tuple[Tensor, Tensor]:
    """Leave missing steps out.

    Args:
        x_NCL: every sequence lacks the same number of steps, each in all channels.

    Returns:
        The steps that are there, `(N, C, T)`, and which of the L steps each is, `(N, T)`, float32.

    Raises:
        ValueError: the sequences lack different numbers of steps.
    """
    x_NCL = torch.as_tensor(x_NCL)
    present_NL = ~x_NCL.isnan().all(1)
    counts = present_NL.sum(1)
    if (counts != counts[:1]).any():
        raise ValueError("every sequence must lack the same number of steps")
    present_NCT = x_NCL.masked_select(present_NL[:, None, :])
    times_NL = torch.arange(x_NCL.shape[-1], dtype=torch.float32).expand_as(present_NL)
    return (
        present_NCT.view(*x_NCL.shape[:2], -1),
        times_NL.masked_select(present_NL).view(len(x_NCL), -1),
    )


def _missing(sequences: int, length: int, rate: int, data: Resampled) -> Tensor | None:
    if data.dropped_fraction == 0.0:
        return None
    return dropped_steps(sequences, math.ceil(length / rate), data.dropped_fraction)


def _selected(
    inputs_NCL: Sequences, positions: NDArray[np.int64], rate: int, missing_NT: Tensor | None
) -> Tensor:
    """Some of the sequences at a rate, NaN where a step is missing: `(N', C, T)`, a copy."""
    # numpy: indexing takes and gives memory as it is, also of arrays that may not be written to.
    values_NCT = np.asarray(inputs_NCL)[:, :, ::rate][positions]
    x_NCT = torch.from_numpy(np.ascontiguousarray(values_NCT, dtype=np.float32))
    if missing_NT is not None:
        x_NCT.masked_fill_(missing_NT[torch.from_numpy(positions), None, :], math.nan)
    return x_NCT


def _finished(
    x_NCT: Tensor,
    targets_N: NDArray[np.int64],
    normalizer: Normalizer,
    rate: int,
    data: Resampled,
) -> Split:
    normalised_NCT = normalizer.apply_(x_NCT)  # a copy of ours already, perhaps of gigabytes
    targets = torch.from_numpy(targets_N)
    if data.has_times:
        inputs_NCT, times_NT = without_missing(normalised_NCT)
        return Split(inputs_NCT, targets, times_NT * rate)
    inputs_NCT = with_mask(normalised_NCT) if data.dropped_fraction > 0.0 else normalised_NCT
    return Split(inputs_NCT, targets, rate=rate / data.sampling_rate)
