"""Mel-frequency cepstral coefficients: sound in, 20 numbers every 100 samples out.

With the settings of the published CKConv code (Romero et al. 2022, arXiv:2102.02611, after Kidger
et al. 2020, Neural CDEs, arXiv:2005.08926), for sound of 16,000 samples a second:

1. windows of 200 samples, one every 100, the first around sample 0: the sound is continued by its
   mirror image for 100 samples at both ends; weighed by a periodic Hann window;
2. power of the 101 frequencies of their Fourier transform;
3. sums over 64 triangles whose corners are equally far apart on the mel scale, mel(f) =
   2595 log10(1 + f / 700), from 0 to 8000 Hz, each with height 1 (Davis and Mermelstein 1980);
4. log(sum + 1e-6);
5. the first 20 coefficients of the orthonormal DCT-II.

Some of the lowest triangles lie between two frequencies, as these are 80 Hz apart: they are empty,
and step 4 gives log(1e-6) there. That, too, is as published.

Shapes: N clips, S samples, T = S // 100 + 1 windows, F frequencies, M triangles, C coefficients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SAMPLES_PER_SECOND = 16_000
WINDOW_SAMPLES, HOP_SAMPLES = 200, 100
TRIANGLES = 64
COEFFICIENTS = 20
FLOOR = 1e-6
CLIPS_AT_ONCE = 256
"""The windows of all clips of a dataset would need several GB."""


def mfcc(sound_NS: Tensor) -> Tensor:
    """Coefficients of clips of equal length.

    Args:
        sound_NS: `(N, S)`, a floating type, from -1 to 1, 16,000 samples a second; S > 100.

    Returns:
        `(N, 20, S // 100 + 1)`, in the same type.
    """
    kind = sound_NS.dtype
    window_S = torch.hann_window(WINDOW_SAMPLES, periodic=True, dtype=torch.float64).to(kind)
    triangles_MF, cosines_CM = mel_triangles().to(kind), cosines().to(kind)
    out_NCT = torch.empty(
        len(sound_NS), COEFFICIENTS, sound_NS.shape[1] // HOP_SAMPLES + 1, dtype=kind
    )
    for some_NS, into_NCT in zip(
        torch.split(sound_NS, CLIPS_AT_ONCE), torch.split(out_NCT, CLIPS_AT_ONCE), strict=True
    ):
        spectrum_NFT = torch.stft(
            some_NS,
            WINDOW_SAMPLES,
            HOP_SAMPLES,
            window=window_S,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        power_NFT = spectrum_NFT.real.square() + spectrum_NFT.imag.square()
        into_NCT.copy_(cosines_CM @ torch.log(triangles_MF @ power_NFT + FLOOR))
    return out_NCT


def mel_triangles() -> Tensor:
    """How much of each frequency belongs to each triangle, `(64, 101)`, float64, from 0 to 1."""
    highest_hz = SAMPLES_PER_SECOND / 2
    frequencies_F = torch.linspace(0.0, highest_hz, WINDOW_SAMPLES // 2 + 1, dtype=torch.float64)
    highest_mel = 2595.0 * math.log10(1.0 + highest_hz / 700.0)
    corners_mel = torch.linspace(0.0, highest_mel, TRIANGLES + 2, dtype=torch.float64)
    corners_hz = 700.0 * (10.0 ** (corners_mel / 2595.0) - 1.0)
    left_M1, top_M1, right_M1 = (corners_hz[i : i + TRIANGLES, None] for i in range(3))
    rising_MF = (frequencies_F - left_M1) / (top_M1 - left_M1)
    falling_MF = (right_M1 - frequencies_F) / (right_M1 - top_M1)
    return torch.minimum(rising_MF, falling_MF).clamp(min=0.0)


def cosines() -> Tensor:
    """The first rows of the orthonormal DCT-II, `(20, 64)`, float64."""
    middles_M = torch.arange(TRIANGLES, dtype=torch.float64) + 0.5
    orders_C1 = torch.arange(COEFFICIENTS, dtype=torch.float64)[:, None]
    rows_CM = torch.cos(math.pi / TRIANGLES * orders_C1 * middles_M) * math.sqrt(2.0 / TRIANGLES)
    rows_CM[0] /= math.sqrt(2.0)
    return rows_CM
