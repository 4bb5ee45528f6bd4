"""Spectra and reaches, checked against plain sums and a plain Fourier transform."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ckconv_sweep.training.spectra import reach, spectrum, within


def test_amplitudes_and_energies_are_the_plain_sums_of_the_mirrored_values() -> None:
    values = np.random.default_rng(0).normal(size=(3, 7))
    found = spectrum([values[:1], values[1:]])
    steps = 7
    assert found.frequencies_F.tolist() == [j / (2 * steps) for j in range(steps)]
    for j in range(1, steps):
        sums = [
            sum(row[t] * math.cos(math.pi * j * (2 * t + 1) / (2 * steps)) for t in range(steps))
            for row in values
        ]
        assert found.amplitudes_F[j] == pytest.approx(np.mean(np.abs(sums)) * 2 / steps)
        assert found.energies_F[j] == pytest.approx(np.sum(np.square(sums)) * 2 / steps)
    assert found.amplitudes_F[0] == pytest.approx(np.abs(values.mean(1)).mean())
    assert found.energy == pytest.approx(((values - values.mean(1, keepdims=True)) ** 2).sum())


@pytest.mark.parametrize("phase", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("cycles", [3, 17, 40])
def test_a_whole_number_of_cycles_is_where_a_plain_fourier_transform_has_it(
    cycles: int, phase: float
) -> None:
    steps = 128
    wave = 0.7 * np.cos(2 * np.pi * cycles * np.arange(steps) / steps + phase)
    plain = np.abs(np.fft.rfft(wave)) ** 2 / (steps / 2)
    assert plain.argmax() == cycles
    found = spectrum([wave])
    assert found.frequency_below(0.5) == pytest.approx(plain.argmax() / steps, abs=1.01 / steps)
    assert found.energy == pytest.approx(plain.sum())
    assert found.share_above((cycles + 4) / steps) < 0.05
    assert found.share_above((cycles - 4) / steps) > 0.95


def test_a_cosine_that_its_mirror_image_goes_on_with_has_its_amplitude() -> None:
    found = spectrum([0.7 * np.cos(2 * np.pi * 17 * (np.arange(128) + 0.5) / 128)])
    assert found.amplitudes_F[34] == pytest.approx(0.7)
    assert found.amplitudes_F.sum() == pytest.approx(0.7)


def test_the_jump_between_the_ends_of_a_slope_is_not_taken_for_high_frequencies() -> None:
    slope = np.linspace(-1.0, 1.0, 100)
    plain = np.abs(np.fft.rfft(slope)[1:]) ** 2
    assert plain[9:].sum() / plain.sum() > 0.05  # more than 10 cycles
    assert spectrum([slope]).share_above(0.1) < 0.0001


def test_shares_and_frequencies_answer_each_other_and_nothing_has_none() -> None:
    found = spectrum([np.random.default_rng(1).normal(size=(5, 64))])
    for share in (0.1, 0.5, 0.95, 1.0):
        frequency = found.frequency_below(share)
        assert found.share_above(frequency) <= 1 - share + 1e-9
        assert found.share_above(frequency - 1 / 128) > 1 - share - 1e-9
    flat = spectrum([np.full((2, 9), 3.0)])
    assert (flat.frequency_below(0.95), flat.share_above(0.0)) == (0.0, 0.0)
    assert flat.amplitudes_F[0] == pytest.approx(3.0)
    with_gaps = np.array([1.0, np.nan, -1.0, np.nan])
    assert spectrum([with_gaps]).energy == spectrum([np.array([1.0, 0.0, -1.0, 0.0])]).energy


def test_rescaled_frequencies_are_those_of_a_longer_step() -> None:
    fine = spectrum([np.cos(2 * np.pi * 0.05 * np.arange(400))]).rescaled(8)
    assert fine.frequency_below(0.5) == pytest.approx(0.4, abs=0.02)


def test_the_reach_is_the_smallest_distance_within_which_the_share_lies() -> None:
    values = np.array([[3.0, 0.0, 1.0, 0.0], [0.0, 2.0, 0.0, 1.0]])  # squares 9, 4, 1, 1
    lags = np.array([0.0, 1.0, 2.0, 3.0])
    distances, shares = within(values, lags)
    assert distances.tolist() == [0, 1, 2, 3]
    assert shares.tolist() == pytest.approx([9 / 15, 13 / 15, 14 / 15, 1.0])
    for share, wanted in ((0.5, 0), (9 / 15, 0), (0.61, 1), (0.9, 2), (0.95, 3), (1.0, 3)):
        assert reach(values, lags, share) == wanted
    centred = np.array([2.0, 1.0, 0.0, -1.0, -2.0])
    assert reach(np.array([1.0, 0.0, 3.0, 0.0, 1.0]), centred, 0.9) == 2
    assert reach(np.array([0.1, 1.0, 3.0, 1.0, 0.1]), centred, 0.9) == 1
    assert reach(np.zeros(5), centred, 0.95) == 0
