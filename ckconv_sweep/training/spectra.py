"""Of which frequencies a sampled function is made. Knows NumPy alone.

A sequence is not periodic, and neither is a kernel: a discrete Fourier transform of it would take
the jump from its last value to its first for high frequencies. So each is followed by its own
mirror image before the transform, which has no such jump (this is the discrete cosine transform
of type II), and has frequencies half as far apart as a transform without.

Frequencies are in cycles a step; 0.5, the highest that samples can tell, is Nyquist's. The mean, at
frequency 0, is no part of an energy: it tells nothing of how fast a function changes.

Shapes: `...` any, T samples, F = T frequencies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

NYQUIST = 0.5
"""Cycles a step."""
_BLOCK = 1 << 22
"""Numbers that are transformed at a time."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Of several functions together."""

    frequencies_F: Array  # noqa: N815
    """Cycles a step, from 0 to just below 0.5."""
    amplitudes_F: Array  # noqa: N815
    """Of the cosines that make up a function and its mirror image: means over the functions."""
    energies_F: Array  # noqa: N815
    """Sums over the functions, in squares of their values; 0 at the frequency 0."""

    @property
    def energy(self) -> float:
        """The sum of the squares of the values, each function without its mean."""
        return float(self.energies_F.sum())

    def share_above(self, frequency: float) -> float:
        """The part of the energy at higher frequencies; 0 where there is no energy."""
        above = self.energies_F[self.frequencies_F > frequency].sum()
        return float(above / self.energy) if self.energy else 0.0

    def frequency_below(self, share: float) -> float:
        """The lowest frequency at or below which that share of the energy lies; 0 without any."""
        if not self.energy:
            return 0.0
        cumulated = np.cumsum(self.energies_F) / self.energy
        return float(self.frequencies_F[np.searchsorted(cumulated, share - 1e-12)])

    def rescaled(self, factor: float) -> Spectrum:
        """With every frequency times a factor: in cycles of another, longer step."""
        return replace(self, frequencies_F=self.frequencies_F * factor)


def spectrum(blocks: Iterable[Array]) -> Spectrum:
    """Of functions in several arrays `(..., T)`, all of one T; values that are NaN count as 0."""
    amplitudes, energies, count = np.zeros(1), np.zeros(1), 0
    for block in blocks:
        steps = block.shape[-1]
        for some in _few_at_a_time(block.reshape(-1, steps)):
            mirrored = np.concatenate([some, some[:, ::-1]], axis=1)
            found = np.abs(np.fft.rfft(mirrored))[:, :-1]  # the last one is zero, by the symmetry
            amplitudes = amplitudes + found.sum(0) / steps
            # Parseval, over twice the steps and for twice the energy; each frequency stands for its
            # negative one too.
            energies = energies + (found**2).sum(0) / (2 * steps)
            count += len(some)
    amplitudes[0] /= 2.0
    energies[0] = 0.0
    frequencies = NYQUIST * np.arange(len(amplitudes)) / len(amplitudes)
    return Spectrum(frequencies, amplitudes / max(1, count), energies)


def _few_at_a_time(rows: Array) -> Iterator[Array]:
    at_a_time = max(1, _BLOCK // (2 * rows.shape[-1]))
    for start in range(0, len(rows), at_a_time):
        yield np.nan_to_num(rows[start : start + at_a_time].astype(np.float64))


def within(values: Array, lags: Array) -> tuple[Array, Array]:
    """How much of functions `(..., T)` is how far from the present.

    Args:
        lags: of each sample, `(T,)`; 0 is the present.

    Returns:
        The distances that occur, rising, in the unit of `lags`, and the share of the sum of the
        squares of `values` within each; zeros where all values are 0.
    """
    squares_T = (np.asarray(values, dtype=np.float64) ** 2).reshape(-1, len(lags)).sum(0)
    distances, places = np.unique(np.abs(lags), return_inverse=True)
    cumulated = np.cumsum(np.bincount(places, weights=squares_T))
    return distances, cumulated / (cumulated[-1] or 1.0)


def reach(values: Array, lags: Array, share: float) -> float:
    """The smallest distance within which that share lies; see `within`. 0 where all values are
    0."""
    distances, shares = within(values, lags)
    return float(distances[np.searchsorted(shares, share - 1e-12)]) if shares[-1] else 0.0
