"""The kernels of a trained model: sampled as the model uses them, and more finely, to see what is
between the samples.

Shapes: D channels out, C channels in (1 where each has a kernel of its own), K samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ckconv_sweep.errors import ConfigError
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.models.kernel_masks import Unmasked
from ckconv_sweep.models.kernel_nets.linear import LinearLayer
from ckconv_sweep.models.kernel_nets.mlp import MLP
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.models.tcn import DilatedConv
from ckconv_sweep.training.spectra import Array, Spectrum, reach, spectrum, within

FINER = 8
"""Samples of a continuous kernel for each that the model takes, to see what is between them."""
_BLOCK = 1 << 22
"""Values that are sampled at a time."""


@dataclass(frozen=True, eq=False)
class LearntKernel:
    """The kernels of one convolution."""

    layer: str
    """Its place in the model, as in `blocks.0.conv1`."""
    values_DCK: Array  # noqa: N815
    """In lag order, masked; `(D, 1, K)` where each channel has a kernel of its own."""
    separable: bool
    lags_K: Array  # noqa: N815
    """How far before the present each sample is, in steps; negative where it is ahead."""
    positions_K: Array | None  # noqa: N815
    """Where the kernel net is asked, from -1 to 1; None where the samples are the weights."""
    spectrum: Spectrum
    """As the model samples them."""
    finer: Spectrum | None
    """Of the functions between the samples too, to `FINER` times Nyquist's frequency, in cycles a
    step of the model; None where there is nothing between them."""
    first_frequencies: Array | None
    """Of a SIREN: those of its first layer, `omega_0 |w| / (2 pi)` made cycles a step."""

    @property
    def pairs(self) -> int:
        """How many kernels these are."""
        return int(np.prod(self.values_DCK.shape[:2]))

    def within(self) -> tuple[Array, Array]:
        """Distances from the present, rising, in steps, and the share of the squared kernels within
        each."""
        return within(self.values_DCK, self.lags_K)

    def reach(self, share: float) -> float:
        """Within how many steps from the present that share of the squared kernel lies."""
        return reach(self.values_DCK, self.lags_K, share)

    def share_within(self, distance: float) -> float:
        """The share of the samples that are at most so many steps from the present."""
        return float(np.mean(np.abs(self.lags_K) <= distance))

    @property
    def beyond(self) -> float | None:
        """The share of the energy that the sampling rate cannot carry; None where nothing is
        between the samples."""
        return None if self.finer is None else self.finer.share_above(0.5)

    def largest(self, number: int) -> list[tuple[int, int]]:
        """The pairs (out, in) of channels with the largest kernels by their norm, in order."""
        norms_DC = np.linalg.norm(self.values_DCK, axis=-1)
        order = np.argsort(-norms_DC, axis=None, kind="stable")[:number]
        outs, ins = np.unravel_index(order, norms_DC.shape)
        return list(zip(outs.tolist(), ins.tolist(), strict=True))


@torch.no_grad()
def learnt_kernels(model: SequenceModel) -> list[LearntKernel]:
    """Those of every convolution of a model, in the order in which it has them.

    Raises:
        ConfigError: it has no convolutions.
    """
    found = [
        _continuous(name, module) if isinstance(module, CKConv) else _discrete(name, module)
        for name, module in model.named_modules()
        if isinstance(module, CKConv | DilatedConv)
    ]
    if not found:
        raise ConfigError(
            f"a model of this architecture has no kernels: {type(model).__name__}",
            hint="ckcnn and tcn have",
        )
    return found


def is_siren(conv: nn.Module) -> bool:
    """Whether its kernels are those of a SIREN without a mask, of which omega_0 alone says how fast
    they change."""
    if not isinstance(conv, CKConv) or not isinstance(conv.kernel_net, MLP):
        return False
    return conv.kernel_net.is_siren and isinstance(conv.mask, Unmasked)


def _continuous(name: str, conv: CKConv) -> LearntKernel:
    span, net = conv.span, conv.kernel_net
    like = net.last.bias
    positions_K = span.sampled(span.training_length, 1.0, like=like)
    present = 1.0 if span.causal else 0.0
    first = None
    if is_siren(conv):
        layer = net.layers[0]
        assert isinstance(layer, LinearLayer)
        radians_H = (net.omega_0 * layer.weight()).abs().flatten()
        first = (radians_H / (2.0 * np.pi) * span.step).numpy()
    values_DCK = conv.kernel(span.training_length).numpy()
    return LearntKernel(
        layer=name,
        values_DCK=values_DCK[:, None] if conv.separable else values_DCK,
        separable=conv.separable,
        lags_K=((present - positions_K) / span.step).round().numpy(),
        positions_K=positions_K.numpy(),
        spectrum=spectrum([values_DCK]),
        finer=finer_spectrum(conv) if len(positions_K) > 1 else None,
        first_frequencies=first,
    )


@torch.no_grad()
def finer_spectrum(conv: CKConv) -> Spectrum:
    """Of its kernels with `FINER` samples a step, in cycles a step."""
    positions_K = conv.span.sampled(conv.span.training_length, 1.0, like=conv.kernel_net.last.bias)
    first, last = float(positions_K[0]), float(positions_K[-1])
    positions_P = torch.linspace(first, last, FINER * (len(positions_K) - 1) + 1)
    features_HP = conv.kernel_net.features(positions_P)
    weight_NH, bias_N = conv.kernel_net.last.weight(), conv.kernel_net.last.bias

    def blocks() -> Iterator[Array]:
        at_a_time = max(1, _BLOCK // len(positions_P))
        for start in range(0, len(bias_N), at_a_time):
            some = slice(start, start + at_a_time)
            values_NP = weight_NH[some] @ features_HP + bias_N[some, None]
            yield conv.mask(values_NP, positions_P).numpy()

    return spectrum(blocks()).rescaled(FINER)


def _discrete(name: str, conv: DilatedConv) -> LearntKernel:
    """The taps of a TCN, with the zeros between them."""
    weight_DCK = conv.weight().flip(-1).numpy()
    lags = (weight_DCK.shape[-1] - 1) * conv.dilation + 1
    values_DCK = np.zeros((*weight_DCK.shape[:2], lags), dtype=weight_DCK.dtype)
    values_DCK[..., :: conv.dilation] = weight_DCK
    return LearntKernel(
        layer=name,
        values_DCK=values_DCK,
        separable=False,
        lags_K=np.arange(lags, dtype=np.float64),
        positions_K=None,
        spectrum=spectrum([values_DCK]),
        finer=None,
        first_frequencies=None,
    )
