from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.model import (
    INITIALIZATIONS,
    KERNEL_ACTIVATIONS,
    KERNEL_NORMS,
    MLPConfig,
)
from ckconv_sweep.models.kernel_nets.mlp import MLP

PAIRS = [(a, n) for a in KERNEL_ACTIVATIONS for n in KERNEL_NORMS if a != "sine" or n == "none"]

SCALAR = {
    "sine": lambda z, omega_0: math.sin(omega_0 * z),
    "relu": lambda z, omega_0: max(z, 0.0),
    "leaky_relu": lambda z, omega_0: z if z > 0 else 0.01 * z,
    "swish": lambda z, omega_0: z / (1.0 + math.exp(-z)),
}


def standardized(rows: list[list[float]], norm: str, g: list[float], b: list[float]) -> list:
    if norm == "none":
        return rows
    out = []
    for row, scale, shift in zip(rows, g, b, strict=True):
        values = row if norm == "batch" else [v for r in rows for v in r]
        eps = 1e-5 if norm == "batch" else 1e-12
        mean = sum(values) / len(values)
        std = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + eps)
        out.append([(v - mean) / std * scale + shift for v in row])
    return out


def written_out(net: MLP, config: MLPConfig, positions: list[float]) -> list[list[float]]:
    rows = [positions]
    for number, layer in enumerate(net.layers):
        g, v, bias = layer.weight_g.tolist(), layer.weight_v.tolist(), layer.bias.tolist()
        sums = []
        for n in range(len(bias)):
            length = math.sqrt(sum(x * x for x in v[n]))
            weights = [g[n][0] * x / length for x in v[n]]
            sums.append(
                [
                    bias[n] + sum(w * row[t] for w, row in zip(weights, rows, strict=True))
                    for t in range(len(positions))
                ]
            )
        if number == len(net.layers) - 1:
            return sums
        norm = net.norms[number]
        scale, shift = (
            ([], []) if config.norm == "none" else (norm.weight.tolist(), norm.bias.tolist())
        )
        sums = standardized(sums, config.norm, scale, shift)
        rows = [[SCALAR[config.activation](z, config.omega_0) for z in row] for row in sums]
    raise AssertionError


@pytest.mark.parametrize("layers", [2, 3, 5])
@pytest.mark.parametrize(("activation", "norm"), PAIRS)
def test_the_kernel_is_the_formula_written_out(
    activation: str, norm: str, layers: int, rng: Generator
) -> None:
    config = MLPConfig(
        hidden_channels=4, layers=layers, activation=activation, norm=norm, omega_0=6.5
    )
    net = MLP(config, 6, rng).double()
    with torch.no_grad():
        for parameter in net.parameters():  # away from the special values of the start
            parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.3)
    positions = [-1.0, -0.5, 0.1, 0.7, 1.0]
    expected = torch.tensor(written_out(net, config, positions), dtype=torch.float64)
    got = net(torch.tensor(positions, dtype=torch.float64))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("activation", "norm"), PAIRS)
def test_every_activation_and_norm_trains_a_step_with_finite_gradients(
    activation: str, norm: str, rng: Generator
) -> None:
    net = MLP(MLPConfig(hidden_channels=5, activation=activation, norm=norm), 4, rng)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    positions_P, target_NP = torch.linspace(-1, 1, 11), torch.randn(4, 11, generator=rng)
    losses = []
    for _ in range(10):
        loss = (net(positions_P) - target_NP).square().mean()
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def effective_weights(net: MLP) -> list[Tensor]:
    return [layer.weight().detach() for layer in net.layers]


@pytest.mark.parametrize(("activation", "norm"), PAIRS)
@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_weights_start_within_their_bounds_and_fill_them(
    initialization: str, activation: str, norm: str, rng: Generator
) -> None:
    if initialization == "siren" and activation != "sine":
        return
    config = MLPConfig(
        activation=activation, norm=norm, initialization=initialization, omega_0=31.0
    )
    net = MLP(config, 300, rng)
    later = 32**-0.5 if initialization == "authors_effective" else math.sqrt(6 / 32) / 31.0
    for weight, bound in zip(effective_weights(net), [1.0, later, later], strict=True):
        assert 0.9 * bound < weight.abs().max() <= bound * (1 + 1e-6)
        assert weight.abs().mean() == pytest.approx(bound / 2, rel=0.25)


def test_biases_of_sine_layers_start_uniform_between_minus_one_and_one(rng: Generator) -> None:
    for layer in MLP(MLPConfig(), 300, rng).layers:
        assert layer.bias.min() < -0.8
        assert layer.bias.max() > 0.8
        assert layer.bias.abs().max() <= 1.0


def test_biases_of_other_layers_start_as_published() -> None:
    net = MLP(MLPConfig(activation="relu", layers=4), 7, Generator().manual_seed(3))
    first, second, third, last = (layer.bias.detach() for layer in net.layers)
    again = Generator().manual_seed(3)
    for layer in net.layers:
        torch.empty(layer.weight_v.shape).uniform_(generator=again)
    lost_1_H = torch.empty(32).normal_(0.0, 0.01, generator=again)
    lost_2_HH = torch.empty(32, 32).normal_(0.0, 0.01, generator=again)
    positions_H = torch.linspace(-1.0, 1.0, 32)
    step = positions_H[1] - positions_H[0]
    torch.testing.assert_close(first, -positions_H * lost_1_H)
    response_H = (positions_H + step) * lost_1_H + first
    torch.testing.assert_close(second, -lost_2_HH @ response_H, rtol=1e-4, atol=1e-8)
    assert third.abs().max() == last.abs().max() == 0.0


def test_published_start_gives_kernels_of_deviation_seven_tenths_whatever_omega_0() -> None:
    for omega_0 in (10.0, 31.0, 100.0):
        net = MLP(MLPConfig(omega_0=omega_0), 900, torch.Generator().manual_seed(1))
        with torch.no_grad():
            assert 0.65 < net(torch.linspace(-1, 1, 784)).std() < 0.8


def test_a_direction_of_length_zero_gives_no_nan(rng: Generator) -> None:
    net = MLP(MLPConfig(hidden_channels=2), 2, rng)
    with torch.no_grad():
        net.layers[0].weight_v.zero_()
    values_NP = net(torch.linspace(-1, 1, 5))
    values_NP.sum().backward()
    assert torch.isfinite(values_NP).all()
    assert torch.isfinite(net.layers[0].weight_v.grad).all()
