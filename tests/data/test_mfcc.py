"""The coefficients against the same formula written out as plain sums."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import dct

from ckconv_sweep.data import mfcc as module
from ckconv_sweep.data.mfcc import cosines, mel_triangles, mfcc


def sound(clips=3, samples=1_000, seed=0):
    """Noise and a rising tone, float64, from -1 to 1."""
    noise = np.random.default_rng(seed).normal(0.0, 0.1, (clips, samples))
    time = np.arange(samples) / 16_000
    tone = 0.5 * np.sin(2 * math.pi * (200 + 3_000 * time) * time)
    return np.clip(noise + tone, -1.0, 1.0)


def mel(hertz):
    return 2595 * math.log10(1 + hertz / 700)


def triangle(number, hertz):
    """Value of triangle 0 to 63 at a frequency; corners at equal distances in mel."""
    left, top, right = (700 * (10 ** ((number + i) * mel(8_000) / 65 / 2595) - 1) for i in range(3))
    if left < hertz <= top:
        return (hertz - left) / (top - left)
    if top < hertz < right:
        return (right - hertz) / (right - top)
    return 0.0


def written_out(clip):
    """`(20, T)` of one clip, by the sums of the textbook."""
    samples = len(clip)
    out = np.empty((20, samples // 100 + 1))
    n = np.arange(200)
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * i / 200) for i in n]
    shares = np.array([[triangle(m, 80.0 * f) for f in range(101)] for m in range(64)])
    for t in range(out.shape[1]):
        places = [100 * t - 100 + i for i in n]
        places = [-p if p < 0 else 2 * (samples - 1) - p if p >= samples else p for p in places]
        windowed = np.array([clip[p] * w for p, w in zip(places, hann, strict=True)])
        power = np.empty(101)
        for f in range(101):
            real = sum(windowed * np.cos(2 * math.pi * f * n / 200))
            imaginary = -sum(windowed * np.sin(2 * math.pi * f * n / 200))
            power[f] = real**2 + imaginary**2
        logs = [math.log(sum(shares[m] * power) + 1e-6) for m in range(64)]
        for c in range(20):
            scale = math.sqrt(1 / 64) if c == 0 else math.sqrt(2 / 64)
            out[c, t] = scale * sum(
                logs[m] * math.cos(math.pi * c * (2 * m + 1) / 128) for m in range(64)
            )
    return out


def test_coefficients_are_the_sums_written_out():
    clips = sound(clips=2, samples=730)  # no multiple of the hop
    expected = np.stack([written_out(clip) for clip in clips])
    got = mfcc(torch.from_numpy(clips))
    assert got.shape == (2, 20, 8)
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


def test_a_second_of_sound_becomes_161_steps_of_20():
    got = mfcc(torch.from_numpy(sound(samples=16_000)).float())
    assert got.shape == (3, 20, 161)
    assert got.dtype == torch.float32


def test_single_precision_is_near_to_double():
    clips = torch.from_numpy(sound(samples=16_000))
    torch.testing.assert_close(mfcc(clips.float()).double(), mfcc(clips), rtol=1e-3, atol=1e-3)


def test_silence_is_the_floor_in_every_triangle():
    got = mfcc(torch.zeros(1, 500, dtype=torch.float64))
    assert got[0, 0].tolist() == pytest.approx([math.log(1e-6) * math.sqrt(64)] * 6)
    assert got[0, 1:].abs().max() < 1e-10


def test_clips_are_worked_on_a_few_at_a_time_without_a_difference(monkeypatch):
    clips = torch.from_numpy(sound(clips=5))
    whole = mfcc(clips)
    monkeypatch.setattr(module, "CLIPS_AT_ONCE", 2)
    torch.testing.assert_close(mfcc(clips), whole)


def test_a_clip_does_not_depend_on_its_neighbours():
    clips = torch.from_numpy(sound(clips=3))
    torch.testing.assert_close(mfcc(clips)[1:2], mfcc(clips[1:2]))


def test_triangles_have_height_one_and_share_out_every_frequency_between_their_tops():
    shares = mel_triangles()
    assert shares.shape == (64, 101)
    assert ((shares >= 0) & (shares <= 1)).all()
    tops = [700 * (10 ** (m * mel(8_000) / 65 / 2595) - 1) for m in (1, 64)]
    between = [f for f in range(101) if tops[0] <= 80 * f <= tops[1]]
    torch.testing.assert_close(
        shares.sum(0)[between], torch.ones(len(between), dtype=torch.float64)
    )


def test_the_triangles_that_hold_no_frequency_are_empty_as_published():
    empty = (mel_triangles().sum(1) == 0).nonzero().flatten().tolist()
    assert empty == [m for m in range(64) if not any(triangle(m, 80.0 * f) for f in range(101))]
    assert empty


def test_cosines_are_those_of_scipy():
    values = np.random.default_rng(1).normal(size=64)
    expected = dct(values, type=2, norm="ortho")[:20]
    np.testing.assert_allclose(cosines().numpy() @ values, expected, atol=1e-12)
