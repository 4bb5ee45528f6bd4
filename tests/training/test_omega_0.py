"""What is said of an omega_0: by which data, which rate, and which initial values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ckconv_sweep.config.model import CKCNNConfig, GaussianMask, MLPConfig
from ckconv_sweep.training.learnt_kernels import learnt_kernels
from ckconv_sweep.training.omega_0 import BAND, Advice, advice, new_kernels, searched
from ckconv_sweep.training.spectra import Array, Spectrum, spectrum

from .test_learnt_kernels import STEPS, model_of

PUBLISHED = MLPConfig()
SIREN = MLPConfig(initialization="siren")


def waves(frequency: float, steps: int = STEPS) -> Array:
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, size=(20, 2, 1))
    return np.sin(2 * np.pi * frequency * np.arange(steps) + phases)


def told(omega_0: float, data: Spectrum | None, **settings: Any) -> Advice | None:
    kernel = MLPConfig(omega_0=omega_0)
    config = CKCNNConfig(hidden_channels=4, blocks=1, kernel=kernel, **settings)
    model = model_of(config)
    return advice(model, config, learnt_kernels(model), data)


def test_the_same_omega_0_is_too_low_for_fast_data_and_fits_slow_ones() -> None:
    slow, fast = spectrum([waves(0.03)]), spectrum([waves(0.3)])
    for omega_0, data, verdict in (
        (5.0, fast, "too low"),
        (5.0, slow, "fits"),
        (12.0, fast, "fits"),
        (200.0, fast, "too high"),
        (200.0, slow, "too high"),
        (5.0, None, "no data"),
        (200.0, None, "too high"),
    ):
        said = told(omega_0, data)
        assert said is not None
        assert said.verdict == verdict, (omega_0, verdict)
        assert said.omega_0 == pytest.approx(omega_0)


def test_what_is_searched_is_between_too_low_and_too_high() -> None:
    data = spectrum([waves(0.2)])
    low, high = searched(PUBLISHED, STEPS, data)
    assert low is not None
    for omega_0, verdict in ((0.6 * low, "too low"), (1.5 * high, "too high")):
        said = told(omega_0, data)
        assert said is not None
        assert (said.verdict, said.low, said.high) == (verdict, low, high)
    middle = told((low * high) ** 0.5, data)
    assert middle is not None
    assert middle.verdict == "fits"
    assert searched(PUBLISHED, STEPS, None) == (None, high)


def test_the_band_of_new_kernels_rises_with_the_square_of_omega_0_or_with_itself() -> None:
    """The published code's second layer has weights that do not depend on omega_0, the paper's are
    divided by it."""

    def band(config: MLPConfig, omega_0: float) -> float:
        return new_kernels(config, omega_0, 512).frequency_below(BAND)

    assert band(PUBLISHED, 32.0) / band(PUBLISHED, 16.0) == pytest.approx(4.0, rel=0.15)
    assert band(SIREN, 128.0) / band(SIREN, 64.0) == pytest.approx(2.0, rel=0.15)


def test_four_times_the_steps_carry_twice_the_omega_0_of_the_published_code() -> None:
    _, short = searched(PUBLISHED, 64, None)
    _, long = searched(PUBLISHED, 256, None)
    assert long / short == pytest.approx(2.0, rel=0.15)


def test_nothing_is_said_of_other_kernels_than_a_siren_s() -> None:
    for settings in (
        {"mask": GaussianMask()},
        {"kernel": MLPConfig(activation="relu")},
    ):
        config = CKCNNConfig.model_validate({"hidden_channels": 4, "blocks": 1, **settings})
        model = model_of(config)
        assert advice(model, config, learnt_kernels(model), None) is None
