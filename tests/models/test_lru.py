from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.model import LRUConfig
from ckconv_sweep.models.lru import LinearRecurrence, LRUBlock

from .masks import SeededMasks


def recurrence(**changes: Any) -> LinearRecurrence:
    config = LRUConfig(**{"hidden_channels": 3, "state_channels": 5} | changes)
    return LinearRecurrence(config, torch.Generator().manual_seed(1))


def eigenvalues(module: LinearRecurrence) -> Tensor:
    return torch.exp(torch.complex(-module.nu_log.exp(), module.theta_log.exp())).detach()


def step_by_step(module: LinearRecurrence, x_BDT: Tensor) -> Tensor:
    lambda_N = eigenvalues(module)
    into_ND = torch.complex(module.input_real, module.input_imaginary)
    out_DN = torch.complex(module.output_real, module.output_imaginary)
    state_BN = torch.zeros(x_BDT.shape[0], len(lambda_N), dtype=torch.complex128)
    out = []
    for x_BD in x_BDT.unbind(-1):
        state_BN = lambda_N * state_BN + module.gamma_log.exp() * ((x_BD + 0j) @ into_ND.T)
        out.append((state_BN @ out_DN.T).real + module.skip * x_BD)
    return torch.stack(out, -1)


@pytest.mark.parametrize("length", [1, 2, 31, 200])
def test_all_steps_at_once_are_the_recurrence_step_by_step(length: int, rng: Generator) -> None:
    module = recurrence().double()
    x_BDT = torch.randn(2, 3, length, generator=rng).double()
    torch.testing.assert_close(module(x_BDT), step_by_step(module, x_BDT), rtol=1e-9, atol=1e-10)


def test_single_precision_is_good_enough_over_thousands_of_steps(rng: Generator) -> None:
    module = recurrence(radius_min=0.99)
    x_BDT = torch.randn(1, 3, 4000, generator=rng)
    single_BDT = module(x_BDT)
    expected_BDT = step_by_step(module.double(), x_BDT.double())
    error = (single_BDT - expected_BDT).abs().max() / expected_BDT.abs().max()
    assert error < 2e-4


def test_eigenvalues_start_evenly_over_the_ring_and_its_part() -> None:
    config = {"state_channels": 4000, "radius_min": 0.5, "radius_max": 0.8, "phase_max": 1.0}
    lambda_N = eigenvalues(recurrence(**config).double())
    squared_N, phase_N = lambda_N.abs().square(), lambda_N.angle()
    for values_N, low, high in [(squared_N, 0.25, 0.64), (phase_N, 0.0, 1.0)]:
        assert low <= values_N.min() < low + 0.01
        assert high - 0.01 < values_N.max() <= high
        assert values_N.mean().item() == pytest.approx((low + high) / 2, abs=0.02)


def test_states_start_with_the_variance_of_white_input(rng: Generator) -> None:
    module = recurrence(state_channels=200, hidden_channels=100).double()
    squared_N = eigenvalues(module).abs().square()
    gamma_N = module.gamma_log.exp().detach()
    torch.testing.assert_close(gamma_N.square(), 1 - squared_N, rtol=1e-5, atol=0)
    into_ND = torch.complex(module.input_real, module.input_imaginary)
    assert into_ND.abs().square().sum(1).mean().item() == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("changes", [{"phase_max": 0.0}, {"radius_min": 0.0, "radius_max": 1e-30}])
def test_no_phase_and_no_radius_give_finite_parameters_and_gradients(
    changes: dict[str, float], rng: Generator
) -> None:
    module = recurrence(**changes)
    module(torch.randn(2, 3, 9, generator=rng)).square().sum().backward()
    for parameter in module.parameters():
        assert torch.isfinite(parameter).all()
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_no_parameters_make_the_recurrence_grow() -> None:
    module = recurrence()
    with torch.no_grad():
        module.nu_log.copy_(torch.tensor([-50.0, -1.0, 0.0, 3.0, 50.0]))
    assert eigenvalues(module).abs().max() <= 1.0
    assert torch.isfinite(module(torch.ones(1, 3, 100))).all()


def test_a_block_is_the_formula_written_out(rng: Generator) -> None:
    config = LRUConfig(hidden_channels=3, state_channels=5, dropout=0.5)
    block = LRUBlock(config, 2, rng).double()
    x_BDT = torch.randn(2, 3, 9, generator=rng).double()
    masks = SeededMasks()
    centred_BDT = x_BDT - x_BDT.mean(1, keepdim=True)
    variance_B1T = centred_BDT.square().mean(1, keepdim=True)
    h_BDT = step_by_step(block.recurrence, centred_BDT / (variance_B1T + 1e-5).sqrt())
    h_BDT = 0.5 * h_BDT * (1.0 + torch.erf(h_BDT / math.sqrt(2.0)))
    h_BDT = h_BDT * masks(3, (2, 3, 9), 0.5)
    expected_BDT = x_BDT + block.pointwise(h_BDT)
    torch.testing.assert_close(block(x_BDT, masks), expected_BDT)
