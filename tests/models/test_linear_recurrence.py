"""A linear recurrence is a convolution with an exponential kernel, and a kernel net can be it.

This is the argument of Romero et al. 2022 (CKConv, arXiv:2102.02611), sec. 3, that a convolution
with a kernel as long as its input can do what a linear recurrent network does: with h(-1) = 0,

    h(t) = W h(t-1) + U x(t) = sum over s <= t of W^s U x(t-s)

is the causal convolution of x with psi(s) = W^s U.
"""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.model import KernelConfig, MagnetConfig, MLPConfig, RandomFourierConfig
from ckconv_sweep.models.convolution import causal_conv
from ckconv_sweep.training.kernel_fitting import fit

TIME = 120


def recurrence(radius: float, channels: int = 3, inputs: int = 2) -> tuple[Tensor, Tensor]:
    """W with that largest modulus of its eigenvalues, and U."""
    rng = Generator().manual_seed(5)
    W = torch.randn(channels, channels, generator=rng, dtype=torch.float64)
    W *= radius / torch.linalg.eigvals(W).abs().max()
    return W, torch.randn(channels, inputs, generator=rng, dtype=torch.float64)


def recurrent(W: Tensor, U: Tensor, x_CT: Tensor) -> Tensor:
    """The states `(D, T)`, step by step."""
    h_D, states = torch.zeros(len(W), dtype=torch.float64), []
    for t in range(x_CT.shape[1]):
        h_D = W @ h_D + U @ x_CT[:, t]
        states.append(h_D)
    return torch.stack(states, dim=1)


def exponential_kernel(W: Tensor, U: Tensor) -> Tensor:
    """W^s U at every lag s, `(D, C, T)`."""
    kernel, power = [], torch.eye(len(W), dtype=torch.float64)
    for _ in range(TIME):
        kernel.append(power @ U)
        power = power @ W
    return torch.stack(kernel, dim=2)


@pytest.fixture
def inputs(rng: Generator) -> Tensor:
    return torch.randn(2, TIME, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("radius", [0.5, 0.95, 1.0, 1.02])
def test_a_linear_recurrence_is_a_convolution_with_an_exponential_kernel(
    radius: float, inputs: Tensor
) -> None:
    W, U = recurrence(radius)
    states_DT = recurrent(W, U, inputs)
    written_out_DT = torch.zeros_like(states_DT)
    kernel_DCT = exponential_kernel(W, U)
    for t in range(TIME):
        for s in range(t + 1):
            written_out_DT[:, t] += kernel_DCT[:, :, s] @ inputs[:, t - s]
    torch.testing.assert_close(written_out_DT, states_DT, rtol=1e-10, atol=1e-10)
    convolved_DT = causal_conv(inputs[None], kernel_DCT)[0]
    torch.testing.assert_close(convolved_DT, states_DT, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "config",
    [MLPConfig(omega_0=30.0), MagnetConfig(omega_0=10.0), RandomFourierConfig(omega_0=10.0)],
    ids=lambda config: config.name,
)
def test_a_kernel_net_can_be_the_kernel_of_a_linear_recurrence(
    config: KernelConfig, inputs: Tensor, rng: Generator
) -> None:
    W, U = recurrence(0.95)
    kernel_DCT = exponential_kernel(W, U)
    targets_KP = kernel_DCT.reshape(6, TIME).flip(1).float()  # the present is at position +1
    got = fit(config, targets_KP, steps=500, learning_rate=0.01, generator=rng)
    assert got.errors_K.max() < 1e-4
    states_DT = recurrent(W, U, inputs)
    fitted_DCT = got.values_KP.flip(1).reshape(kernel_DCT.shape)
    convolved_DT = causal_conv(inputs[None], fitted_DCT.double())[0]
    assert (convolved_DT - states_DT).norm() < 0.01 * states_DT.norm()
