"""What a SIREN's omega_0 lets its kernels be, beside what the data have and what the sampling rate
can carry.

A sine layer turns the position p, from -1 to 1, into `sin(omega_0 (w p + b))`, which has
`omega_0 |w| / (2 pi)` cycles per unit of position. A kernel of T samples has `(T - 1) / 2` steps
per unit, so that is `omega_0 |w| / (pi (T - 1))` cycles per step, and the rate carries
`omega_0 |w| <= pi (T - 1) / 2`. The next layer takes the sine of such sines, which has the higher
frequencies of a modulated wave: how high, depends on its weights too (with the initial values of
the published code they rise with the square of omega_0, with those of the SIREN paper with omega_0
itself). So the band is not taken from a formula but measured: kernel nets are made as a trial
makes them, and sampled.

All of this is about functions, and none of it about what is learnt with them: it tells where to
search, not which value is best.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ckconv_sweep.config.model import CKCNNConfig, MLPConfig, ModelConfig
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.models.kernel_nets.base import make_kernel_net
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training.learnt_kernels import FINER, LearntKernel
from ckconv_sweep.training.seeding import generator
from ckconv_sweep.training.spectra import NYQUIST, Spectrum, spectrum

BAND = 0.99
"""The share of the kernels' energy within what is called their band."""
MISSED = 0.25
"""The share of the data's energy above the band from which on omega_0 is called too low."""
BEYOND = 0.5
"""The share of the kernels' energy beyond Nyquist's frequency from which on it is called too high.
Both were chosen on `digits` and Character Trajectories, where they part the omega_0 of good
validation scores from the others (docs/guide.md)."""
_NETS, _KERNELS = 4, 16
"""Kernel nets that are made for one omega_0, and kernels of each, at most."""
_VALUES = 1 << 20
"""Samples of one net: where kernels are longer, there are fewer."""
_PER_DECADE = 20
_LOWEST, _HIGHEST = 0.1, 10_000.0

Verdict = Literal["too low", "too high", "fits", "no data"]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Whether an omega_0 fits, and which range to search."""

    omega_0: float
    """That of the model; the mean over its layers where it was learned."""
    band: float
    """The highest frequency that the trained kernels have, in cycles per step: that of the layer
    with the widest band."""
    data_above: float | None
    """The share of the data's energy at higher frequencies; None without data."""
    beyond: float
    """The share of the kernels' energy beyond Nyquist's frequency: mean over the layers."""
    first_layer: float
    """The highest frequency in the first layer of a kernel net, in cycles per step."""
    verdict: Verdict
    low: float | None
    """The lowest omega_0 to search: with less, new kernels miss too much of the data's energy; None
    without data."""
    high: float
    """The highest: with more than that, most of a new kernel's energy is beyond Nyquist's
    frequency."""


def advice(
    model: SequenceModel, config: ModelConfig, kernels: list[LearntKernel], data: Spectrum | None
) -> Advice | None:
    """Judge the omega_0 of a trained model; None where its kernels are no SIREN's.

    Args:
        config: the model's settings.
        kernels: the model's.
        data: the spectrum of what the model reads, at its sampling rate.
    """
    sirens = [kernel for kernel in kernels if kernel.first_frequencies is not None]
    if (
        not sirens
        or not isinstance(config, CKCNNConfig)
        or not isinstance(config.kernel, MLPConfig)
    ):
        return None
    learned = [m.kernel_net.omega_0.item() for m in model.modules() if isinstance(m, CKConv)]
    band = max(kernel.spectrum.frequency_below(BAND) for kernel in sirens)
    beyond = float(np.mean([kernel.beyond or 0.0 for kernel in sirens]))
    above = None if data is None else data.share_above(band)
    low, high = searched(config.kernel, len(sirens[0].lags_K), data)
    if beyond > BEYOND:
        verdict: Verdict = "too high"
    elif above is None:
        verdict = "no data"
    else:
        verdict = "too low" if above > MISSED else "fits"
    return Advice(
        omega_0=float(np.mean(learned)),
        band=band,
        data_above=above,
        beyond=beyond,
        first_layer=max(float(k.first_frequencies.max()) for k in sirens),  # type: ignore[union-attr]
        verdict=verdict,
        low=low,
        high=high,
    )


def searched(config: MLPConfig, length: int, data: Spectrum | None) -> tuple[float | None, float]:
    """The lowest and the highest omega_0 that are worth a trial, to two digits: between them new
    kernels of that length are neither too low for the data nor beyond the rate. Without data there
    is no lowest."""

    def reaches(omega_0: float) -> bool:
        assert data is not None
        band = new_kernels(config, omega_0, length).frequency_below(BAND)
        return data.share_above(band) <= MISSED

    def is_beyond(omega_0: float) -> bool:
        return new_kernels(config, omega_0, length).share_above(NYQUIST) > BEYOND

    return None if data is None else _first(reaches), _first(is_beyond)


def new_kernels(config: MLPConfig, omega_0: float, length: int) -> Spectrum:
    """Of kernels before training, sampled `FINER` times a step, in cycles per step."""
    config = config.model_copy(update={"omega_0": omega_0})
    positions_P = torch.linspace(-1.0, 1.0, FINER * (length - 1) + 1)
    kernels = max(2, min(_KERNELS, _VALUES // len(positions_P)))
    with torch.no_grad():
        blocks = [
            make_kernel_net(config, kernels, generator(seed, "init"))(positions_P).numpy()
            for seed in range(_NETS)
        ]
    return spectrum(blocks).rescaled(FINER)


def _first(holds: Callable[[float], bool]) -> float:
    """The lowest omega_0 from which on something holds that holds for all higher ones, found by
    halving."""
    steps = round(_PER_DECADE * math.log10(_HIGHEST / _LOWEST))
    low, high = 0, steps
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(_at(middle)) else (middle + 1, high)
    return _at(low)


def _at(step: int) -> float:
    value = _LOWEST * 10.0 ** (step / _PER_DECADE)
    return float(f"{value:.2g}")
