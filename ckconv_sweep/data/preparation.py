"""Raw sequences in, what a model was trained on out: the steps between a file and a model's input.

A dataset measures means and standard deviations on its training sequences when it is loaded; here
they are values, which go with a model wherever it goes.

A missing value is NaN. No NaN leaves this file.

Shapes: N sequences, C channels, T time steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ckconv_sweep.config.data import Resampled
from ckconv_sweep.data.sequences import SMALLEST_STD, Normalizer, with_mask, without_missing
from ckconv_sweep.data.ts_format import padded
from ckconv_sweep.errors import ConfigError

Missing = Literal["refused", "filled", "mask", "times"]
"""What becomes of missing values. `refused`: there may be none. `filled`: the last value before, or
the training sequences' mean where there is none. `mask`: zeros, and one more channel that is 1
where a step is there. `times`: steps without any value are left out, and the others have times."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Preparation:
    """What a dataset does to its sequences before a model sees them."""

    channels: int
    """Of a raw sequence."""
    length: int
    """Steps of a whole raw sequence."""
    measured_on: str
    """Where mean and standard deviation come from, in words; empty where values are used as they
    are."""
    scale: float = 1.0
    """By which raw values are divided first."""
    mean: Tensor
    """`(1, C, 1)`, `(1, 1, T)` or `(1, 1, 1)`; its type is the one in which values are normalised:
    bit for bit as in training."""
    std: Tensor
    """By what the difference is divided, nowhere 0; the same shape and type."""
    order: NDArray[np.int64] | None = None
    """Which raw step each step is; None: as they are."""
    rate: int = 1
    """Every n-th raw step is kept."""
    missing: Missing = "refused"
    continued: bool = False
    """Whether shorter sequences are continued by their last values to `length`, as in training."""
    image: tuple[int, int] | None = None
    """Height and width, where the steps are an image's pixels row by row."""

    @property
    def fixed_length(self) -> bool:
        """Whether no other length can be prepared: each step has a mean or a place of its own."""
        return self.order is not None or self.mean.shape[-1] > 1

    def __call__(
        self, raw_NCT: NDArray[Any], times_NT: NDArray[Any] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Prepare equally long sequences that `check` let pass.

        Args:
            raw_NCT: as a file has them; NaN where a value is missing.
            times_NT: when each step was, in steps of a whole raw sequence: the first is at 0.0, the
                next at 1.0, ...

        Returns:
            A model's inputs, float32, and the times of their steps, where it needs them.
        """
        raw_NCT = self._sampled(raw_NCT, times_NT)
        x_NCT = torch.from_numpy(np.ascontiguousarray(raw_NCT)).to(self.mean.dtype)
        if self.scale != 1.0:
            x_NCT = x_NCT / self.scale
        x_NCT = ((x_NCT - self.mean) / self.std).float()
        if self.missing == "times":
            inputs_NCT, steps_NT = without_missing(x_NCT)
            if times_NT is not None:
                return inputs_NCT, torch.from_numpy(times_NT).float().gather(1, steps_NT.long())
            return inputs_NCT, steps_NT * self.rate
        if self.missing == "mask":
            return with_mask(x_NCT), None
        return x_NCT.nan_to_num_(nan=0.0), None

    def _sampled(self, raw_NCT: NDArray[Any], times_NT: NDArray[Any] | None) -> NDArray[Any]:
        """The raw steps that a model sees, in its order; of times all are there already."""
        if self.missing == "filled":
            raw_NCT = forward_filled(raw_NCT)
        if self.continued and times_NT is None and raw_NCT.shape[-1] < self.length:
            raw_NCT = padded(raw_NCT, self.length)
        if self.order is not None:
            raw_NCT = raw_NCT[..., self.order]
        return raw_NCT if times_NT is not None else raw_NCT[..., :: self.rate]

    def seen(self, raw_CT: NDArray[Any], times_T: NDArray[Any] | None) -> int:
        """How many steps of a raw sequence a model is shown: of one that is shown times only those
        that are there. Sequences are prepared at once where these, and their lengths, are alike."""
        if self.missing != "times":
            return int(raw_CT.shape[1])
        sampled_CT = self._sampled(raw_CT[None], None if times_T is None else times_T[None])[0]
        return int((~np.isnan(sampled_CT).all(0)).sum())

    def check(self, raw_CT: NDArray[Any], times_T: NDArray[Any] | None, where: str) -> None:
        """Raises ConfigError if a raw sequence cannot be prepared; its message tells what would
        be right."""
        channels, length = raw_CT.shape
        if channels != self.channels:
            raise ConfigError(
                f"the model takes sequences of {_count(self.channels, 'channel')}, got {channels}",
                where=where,
                hint="an array must have the shape (sequences, channels, steps)",
            )
        if length < 1 or (self.fixed_length and not self.continued and length != self.length):
            raise ConfigError(
                f"the model takes sequences of {self.length:,} steps only, got {length:,}: "
                + ("its steps are shuffled" if self.order is not None else _PER_STEP),
                where=where,
            )
        if self.fixed_length and length > self.length:
            raise ConfigError(
                f"at most {self.length:,} steps can be prepared, got {length:,}: {_PER_STEP}",
                where=where,
            )
        if np.isinf(raw_CT).any():
            raise ConfigError("a value is infinite", where=where)
        missing_CT = np.isnan(raw_CT)
        if self.missing == "refused" and missing_CT.any():
            raise ConfigError(
                "a value is missing (NaN), and the model was trained on whole sequences",
                where=where,
                hint="fill it, or train on data with dropped_fraction, where the dataset has that",
            )
        if self.missing == "times":
            self._check_times(raw_CT, times_T, where)
        elif times_T is not None:
            raise ConfigError("the model was not trained on times", where=where, hint="leave out")

    def _check_times(self, raw_CT: NDArray[Any], times_T: NDArray[Any] | None, where: str) -> None:
        if times_T is not None and self.mean.shape[-1] > 1:
            raise ConfigError(
                f"this model takes no times of a file: {_PER_STEP}",
                where=where,
                hint="leave the times out, and put NaN where a step is missing",
            )
        missing_CT = np.isnan(raw_CT)
        partly_T = missing_CT.any(0) & ~missing_CT.all(0)
        if partly_T.any() or not self.seen(raw_CT, times_T):
            raise ConfigError(
                "with times a step is there or missing in all channels, and one is there"
                + (f" of every {self.rate}" if self.rate > 1 else ""),
                where=where,
            )
        if times_T is not None and not (
            np.isfinite(times_T).all() and (np.diff(times_T) > 0.0).all()
        ):
            raise ConfigError("its times must be finite and rise", where=where)


_PER_STEP = "each step is normalised by its own mean"


def as_it_is(channels: int, length: int) -> Preparation:
    """For sequences whose values a model gets unchanged."""
    return Preparation(
        channels=channels,
        length=length,
        measured_on="",
        mean=torch.zeros(1, 1, 1),
        std=torch.ones(1, 1, 1),
    )


def by_normalizer(normalizer: Normalizer, channels: int, length: int, **others: Any) -> Preparation:
    """Of a dataset that is normalised so."""
    return Preparation(
        channels=channels,
        length=length,
        mean=normalizer.mean,
        std=normalizer.std + SMALLEST_STD,
        **others,
    )


def of_resampled(
    normalizer: Normalizer,
    shape: tuple[int, int],
    data: Resampled,
    measured_on: str,
    *,
    continued: bool,
) -> Preparation:
    """Of a dataset that `sequences.prepare` has prepared. `shape`: channels and steps of a raw
    sequence."""
    channels, length = shape
    return by_normalizer(
        normalizer,
        channels,
        length,
        measured_on=measured_on,
        rate=data.sampling_rate,
        missing="refused" if data.dropped_fraction == 0.0 else data.dropped_as,
        continued=continued,
    )


def measured(sequences: int, name: str) -> str:
    """Where mean and standard deviation come from, in words."""
    return f"the {sequences:,} training sequences of {name}"


def forward_filled(x: NDArray[Any]) -> NDArray[Any]:
    """Put the last known value of its channel where one is missing (NaN), if there is one; time is
    the last axis."""
    known = ~np.isnan(x)
    source = np.maximum.accumulate(np.where(known, np.arange(x.shape[-1]), 0), axis=-1)
    filled: NDArray[Any] = np.take_along_axis(x, source, axis=-1)
    return filled


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
