from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.models.kernel_nets.sine_layers import sine_layers

WIDTHS = [(3, 1), (4, 3), (2, 4)]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=dtype)


def made(layers: int, members: tuple[int, ...] = (), **more: torch.dtype) -> list[Tensor]:
    shapes = [shape for width in WIDTHS[:layers] for shape in (width, width[:1])]
    tensors = [random(*members, **more)] + [
        random(*members, *shape, seed=seed, **more) for seed, shape in enumerate(shapes)
    ]
    return [tensor.requires_grad_() for tensor in tensors]


def written_out(positions: Tensor, omega_0: Tensor, *layers: Tensor) -> Tensor:
    h = positions[..., None, :]
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        h = torch.sin(omega_0[..., None, None] * (weight @ h + bias[..., None]))
    return h


@pytest.mark.parametrize("members", [(), (2,)])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_features_and_gradients_are_those_of_the_formula(
    layers: int, members: tuple[int, ...]
) -> None:
    inputs = made(layers, members)
    for positions in (random(5, seed=8), random(*members, 5, seed=8)):
        got, expected = sine_layers(positions, *inputs), written_out(positions, *inputs)
        torch.testing.assert_close(got, expected)
        weights = random(*got.shape, seed=9)
        for a, b in zip(
            torch.autograd.grad(got, inputs, weights),
            torch.autograd.grad(expected, inputs, weights),
            strict=True,
        ):
            torch.testing.assert_close(a, b)


def test_a_member_gives_the_bits_that_it_gives_alone() -> None:
    together, positions = made(3, (3,), dtype=torch.float32), torch.linspace(1.0, -1.0, 29)
    with torch.no_grad():
        together[1][0] = float("nan")
    h_E = sine_layers(positions, *together)
    gradients = torch.autograd.grad(h_E.square().sum(), together)
    for member in (1, 2):
        own = [x[member].detach().clone().requires_grad_() for x in together]
        h = sine_layers(positions, *own)
        assert torch.equal(h, h_E[member])
        for a, b in zip(torch.autograd.grad(h.square().sum(), own), gradients, strict=True):
            assert torch.equal(a, b[member])
