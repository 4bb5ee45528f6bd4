"""Kernels as a trained model samples them, and what is between the samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import CKCNNConfig, GRUConfig, MLPConfig, ModelConfig, TCNConfig
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.models.kernel_nets.linear import WeightNormLinear
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training.learnt_kernels import learnt_kernels
from ckconv_sweep.training.seeding import generator

STEPS = 48
DATA = Description(name="waves", in_channels=2, length=STEPS, outputs=3)


def model_of(config: ModelConfig) -> SequenceModel:
    return make_model(config, DATA, generator(0, "init"))


def ckcnn(**settings: Any) -> SequenceModel:
    return model_of(CKCNNConfig(hidden_channels=4, blocks=1, **settings))


def first_conv(model: SequenceModel) -> CKConv:
    return next(module for module in model.modules() if isinstance(module, CKConv))


def as_a_sine(conv: CKConv, radians: float) -> None:
    """Make every kernel `sin(radians p)` of the position p, by the weights of a SIREN with a single
    sine layer."""
    hidden, last = conv.kernel_net.layers
    assert isinstance(hidden, WeightNormLinear)
    assert isinstance(last, WeightNormLinear)
    with torch.no_grad():
        hidden.set_weight(torch.full_like(hidden.weight(), radians / conv.kernel_net.omega_0))
        hidden.bias.zero_()
        last.set_weight(torch.full_like(last.weight(), 1 / last.in_channels))
        last.bias.zero_()


def sine_model(radians: float, **settings: Any) -> SequenceModel:
    kernel = MLPConfig(hidden_channels=4, layers=2, omega_0=20.0)
    model = ckcnn(kernel=kernel, **settings)
    as_a_sine(first_conv(model), radians)
    return model


@pytest.mark.parametrize("cycles", [2, 5, 11])
def test_a_sine_kernel_has_the_frequency_that_a_plain_fourier_transform_finds(cycles: int) -> None:
    """`radians / (2 pi)` cycles per unit of position, of which the T samples span two, are
    `radians / (pi (T - 1))` cycles per step."""
    radians = math.pi * (STEPS - 1) * cycles / STEPS
    kernel = learnt_kernels(sine_model(radians))[0]
    one = kernel.values_DCK[0, 0].astype(np.float64)
    np.testing.assert_allclose(one, np.sin(radians * np.linspace(1, -1, STEPS)), atol=1e-5)
    plain = np.abs(np.fft.rfft(one))
    assert plain[cycles] == plain.max()
    assert plain[cycles] > 100 * plain[[c for c in range(20) if c != cycles]].max()
    assert kernel.spectrum.frequency_below(0.5) == pytest.approx(cycles / STEPS, abs=0.6 / STEPS)
    assert kernel.first_frequencies is not None
    assert kernel.first_frequencies == pytest.approx(np.full(4, cycles / STEPS), rel=1e-5)
    assert kernel.beyond is not None
    assert kernel.beyond < 0.001


def test_the_rate_carries_a_quarter_of_the_steps_as_cycles_a_unit_and_no_more() -> None:
    """Nyquist's 0.5 cycles a step are `(T - 1) / 4` cycles per unit of position."""
    nyquist = 2 * math.pi * (STEPS - 1) / 4
    below, above = (learnt_kernels(sine_model(nyquist * part))[0] for part in (0.8, 1.2))
    assert below.beyond is not None
    assert above.beyond is not None
    assert below.beyond < 0.02
    assert above.beyond > 0.98
    # What is above is seen as what it is not: 0.6 cycles a step as 0.4.
    for kernel in (below, above):
        assert kernel.spectrum.frequency_below(0.5) == pytest.approx(0.4, abs=0.02)
    assert above.finer is not None
    assert above.finer.frequency_below(0.5) == pytest.approx(0.6, abs=0.02)


def test_the_reach_as_a_share_of_the_kernel_counts_both_sides_of_a_centred_one() -> None:
    causal, centred = (learnt_kernels(ckcnn(causal=causal))[0] for causal in (True, False))
    assert centred.lags_K.tolist() == list(range(-STEPS // 2, STEPS // 2 + 1))
    assert [centred.share_within(d) for d in (STEPS // 2, 12, 0)] == [1.0, 25 / 49, 1 / 49]
    assert [causal.share_within(d) for d in (STEPS - 1, 12, 0)] == [1.0, 13 / 48, 1 / 48]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"separable": True},
        {"causal": False},
        {"mask": {"name": "gaussian", "width": 0.2}},
        {"kernel": {"name": "random_fourier", "hidden_channels": 4}},
        {"kernel": {"name": "magnet", "hidden_channels": 4}},
        {"kernel": {"activation": "relu"}},
    ],
)
def test_every_kind_is_sampled_as_the_model_uses_it(settings: dict[str, Any]) -> None:
    model = model_of(CKCNNConfig.model_validate({"hidden_channels": 4, "blocks": 1, **settings}))
    kernels = learnt_kernels(model)
    convs = {n: m for n, m in model.named_modules() if isinstance(m, CKConv)}
    assert [kernel.layer for kernel in kernels] == list(convs)
    for kernel in kernels:
        used = convs[kernel.layer].kernel(STEPS).detach().numpy()
        wanted = used[:, None] if kernel.separable else used
        np.testing.assert_array_equal(kernel.values_DCK, wanted)
        assert kernel.separable == bool(settings.get("separable"))
        lags = range(STEPS) if settings.get("causal", True) else range(-STEPS // 2, STEPS // 2 + 1)
        assert kernel.lags_K.tolist() == list(lags)
        assert kernel.beyond is not None
        assert (kernel.first_frequencies is not None) == (
            "mask" not in settings and "kernel" not in settings
        )


def test_a_mask_is_part_of_how_far_a_kernel_reaches() -> None:
    near, far = (
        learnt_kernels(ckcnn(mask={"name": "gaussian", "width": width}))[0] for width in (0.05, 2.0)
    )
    assert near.reach(0.99) < 8 < far.reach(0.95)


def test_a_tcn_has_the_taps_of_its_convolutions_with_zeros_between() -> None:
    kernels = learnt_kernels(model_of(TCNConfig(hidden_channels=4, blocks=2, kernel_size=3)))
    assert [len(kernel.lags_K) for kernel in kernels] == [3, 3, 5, 5]
    last = kernels[-1]
    assert np.count_nonzero(last.values_DCK[0, 0]) == 3
    assert last.values_DCK[..., 1::2].any() == np.False_
    assert (last.beyond, last.first_frequencies, last.positions_K) == (None, None, None)


def test_a_model_without_kernels_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no kernels") as refused:
        learnt_kernels(model_of(GRUConfig(hidden_channels=4)))
    assert refused.value.hint == "ckcnn and tcn have"


def test_the_largest_kernels_come_first() -> None:
    kernel = learnt_kernels(ckcnn())[1]
    norms = [float(np.linalg.norm(kernel.values_DCK[pair])) for pair in kernel.largest(16)]
    assert norms == sorted(norms, reverse=True)
    assert len(norms) == kernel.pairs == 16
    assert norms[0] == pytest.approx(np.linalg.norm(kernel.values_DCK, axis=-1).max())
    assert kernel.largest(2) == kernel.largest(16)[:2]
