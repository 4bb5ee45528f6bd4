from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.model import KernelConfig, MLPConfig
from ckconv_sweep.training.kernel_fitting import (
    TARGETS,
    Fit,
    compared,
    fit,
    positions,
    sampled_targets,
)

SINE = MLPConfig(omega_0=30.0)
RELU = MLPConfig(activation="relu")


def fitted(config: KernelConfig, targets: Tensor, seed: int = 0, steps: int = 5) -> Fit:
    rng = Generator().manual_seed(seed)
    return fit(config, targets, steps=steps, learning_rate=0.01, generator=rng)


@pytest.fixture(scope="module")
def targets() -> Tensor:
    return sampled_targets(60, Generator().manual_seed(0))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_siren_fits_a_chirp_that_a_relu_net_of_its_size_does_not(seed: int) -> None:
    chirp_1P = TARGETS["chirp"](positions(200), Generator())[None]
    sine, relu = (fitted(c, chirp_1P, seed, steps=400).errors_K.item() for c in (SINE, RELU))
    assert sine < 1e-4
    assert relu > 0.1


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(targets: Tensor) -> None:
    first, again, other = (fitted(SINE, targets, seed) for seed in (3, 3, 4))
    assert torch.equal(first.values_KP, again.values_KP)
    assert torch.equal(first.errors_K, again.errors_K)
    assert not torch.equal(first.values_KP, other.values_KP)
    assert torch.equal(targets, sampled_targets(60, Generator().manual_seed(0)))
    changed = (targets != sampled_targets(60, Generator().manual_seed(1))).any(1)
    assert [name for name, new in zip(TARGETS, changed, strict=True) if new] == ["noise"]


def test_fitting_touches_no_global_random_state(targets: Tensor) -> None:
    before = torch.get_rng_state()
    fitted(SINE, targets)
    assert torch.equal(before, torch.get_rng_state())


def test_the_error_is_in_variances_of_the_target(targets: Tensor) -> None:
    got = fitted(SINE, targets)
    for values_P, target_P, error in zip(
        got.values_KP.double(), targets.double(), got.errors_K.tolist(), strict=True
    ):
        expected = ((values_P - target_P) ** 2).mean() / ((target_P - target_P.mean()) ** 2).mean()
        assert error == pytest.approx(expected.item(), rel=1e-5)


def test_each_target_is_fitted_as_if_it_were_alone(targets: Tensor) -> None:
    together = fitted(SINE, targets[:2])
    other = torch.stack([targets[0], torch.zeros(60)])
    torch.testing.assert_close(fitted(SINE, other).values_KP[0], together.values_KP[0])
    assert not torch.equal(fitted(SINE, other).values_KP[1], together.values_KP[1])


@pytest.mark.parametrize("name", compared(8, [10.0]))
def test_every_net_of_the_comparison_comes_nearer_to_every_target(
    name: str, targets: Tensor
) -> None:
    config = compared(8, [10.0])[name]
    before, after = fitted(config, targets, steps=0), fitted(config, targets, steps=60)
    assert (after.errors_K < before.errors_K).all()


def test_a_learned_omega_0_takes_part_with_a_learning_rate_of_its_own(targets: Tensor) -> None:
    kinds = [
        MLPConfig(omega_0=5.0),
        MLPConfig(omega_0=5.0, learn_omega_0=True),
        MLPConfig(omega_0=5.0, learn_omega_0=True, omega_0_learning_rate_factor=100.0),
    ]
    fixed, learned, fast = (fitted(config, targets).values_KP for config in kinds)
    assert not torch.equal(fixed, learned)
    assert not torch.equal(learned, fast)


def test_targets_are_what_their_names_say() -> None:
    p = positions(201).double().tolist()
    got = dict(zip(TARGETS, sampled_targets(201, Generator()).tolist(), strict=True))
    assert p[0] == -1.0
    assert p[-1] == 1.0
    assert got["gaussian"][100] == 1.0
    assert got["gaussian"][120] == pytest.approx(np.exp(-0.5), rel=1e-4)
    assert got["step"] == [1.0 if x < 0 else -1.0 for x in p]
    falls = [i for i in range(200) if got["sawtooth"][i + 1] < got["sawtooth"][i]]
    assert len(falls) == 5
    crossings = np.flatnonzero(np.diff(np.sign(got["chirp"][1:])))
    assert (np.diff(crossings)[1:] <= np.diff(crossings)[:-1] + 1).all()  # ever faster
    assert len(crossings) >= 15
