"""Series of different lengths as a split: each keeps its length, and zeros come after its end.

Shapes: N sequences, C channels, T time steps of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ckconv_sweep.data.preparation import forward_filled
from ckconv_sweep.data.sequences import Normalizer
from ckconv_sweep.data.task import Split


@dataclass(frozen=True, eq=False)
class Ragged:
    """Series beside each other."""

    inputs_NCT: NDArray[np.float32]  # noqa: N815
    """A missing value is the last one before it; NaN where a channel begins with missing values,
    and after the end of a series."""
    lengths_N: NDArray[np.int64]  # noqa: N815
    times_NT: NDArray[np.float32] | None = None  # noqa: N815
    """When each step was, rising also after the end of a series."""

    @classmethod
    def of(
        cls,
        series: Sequence[NDArray[Any]],
        length: int,
        times: Sequence[NDArray[Any]] | None = None,
    ) -> Ragged:
        """Of series `(C, T)`, T their own and `length` at most; where they have times, `(T,)`."""
        lengths_N = np.array([x_CT.shape[1] for x_CT in series], dtype=np.int64)
        shape = (len(series), series[0].shape[0], length)
        inputs_NCT = np.full(shape, np.nan, dtype=np.float32)
        for row_CT, x_CT in zip(inputs_NCT, series, strict=True):
            row_CT[:, : x_CT.shape[1]] = forward_filled(x_CT)
        if times is None:
            return cls(inputs_NCT, lengths_N)
        times_NT = np.tile(np.arange(length, dtype=np.float32), (len(series), 1))
        for row_T, t_T in zip(times_NT, times, strict=True):
            row_T += t_T[-1] + 1.0 - len(t_T)
            row_T[: len(t_T)] = t_T
        return cls(inputs_NCT, lengths_N, times_NT)

    def split(
        self, chosen: NDArray[np.int64] | slice, targets: Tensor, normalizer: Normalizer
    ) -> Split:
        """Some of them, normalised. `targets`: of all."""
        all_whole = bool((self.lengths_N == self.inputs_NCT.shape[-1]).all())
        return Split(
            normalizer(self.inputs_NCT[chosen]).nan_to_num_(nan=0.0),
            targets[chosen],
            None if self.times_NT is None else torch.from_numpy(self.times_NT[chosen]),
            lengths=None if all_whole else torch.from_numpy(self.lengths_N[chosen]),
        )
