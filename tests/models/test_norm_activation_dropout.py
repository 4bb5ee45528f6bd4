from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.models.norm_activation_dropout import norm_last, norm_relu_dropout

SHAPES = [(3, 4, 7, 1), (3, 4, 7, 4), (2, 6, 5, 3), (1, 1, 1, 1)]
"""Batch, channels, steps, groups."""
KINDS: dict[str, Callable[[tuple[int, ...]], tuple[int, ...] | None]] = {
    "nothing": lambda shape: None,
    "values": lambda shape: shape,
    "channels": lambda shape: (*shape[:-1], 1),
}
"""What is dropped: from the shape of the input to that of the factors."""

shapes = pytest.mark.parametrize(("batch", "channels", "time", "groups"), SHAPES)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


def factors_of(shape: tuple[int, ...], rate: float, seed: int = 5) -> Tensor:
    return (torch.rand(shape, generator=Generator().manual_seed(seed)) >= rate) / (1.0 - rate)


def gradients(y: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(y, inputs, random(*y.shape, seed=9, dtype=y.dtype)))


@shapes
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_norm_and_relu_and_dropout(
    kind: str, batch: int, channels: int, time: int, groups: int
) -> None:
    shape = (batch, channels, time)
    inputs = [random(*s, seed=n).requires_grad_() for n, s in enumerate([shape, shape[1:2]] * 1)]
    inputs.append(random(channels, seed=3).requires_grad_())
    dropped = KINDS[kind](shape)
    factors = None if dropped is None else factors_of(dropped, 0.4).double()
    got = norm_relu_dropout(*inputs, factors, groups=groups, eps=1e-5)
    z, weight, bias = inputs
    grouped = z.unflatten(1, (groups, -1))
    mean = grouped.mean((2, 3), keepdim=True)
    variance = (grouped - mean).square().mean((2, 3), keepdim=True)
    n = ((grouped - mean) / (variance + 1e-5).sqrt()).flatten(1, 2)
    expected = (weight[:, None] * n + bias[:, None]).relu()
    expected = expected if factors is None else expected * factors
    torch.testing.assert_close(got, expected)
    for a, b in zip(gradients(got, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(a, b)


@shapes
def test_the_last_step_is_that_of_the_whole_norm(
    batch: int, channels: int, time: int, groups: int
) -> None:
    z = random(batch, channels, time).requires_grad_()
    got = norm_last(z, groups=groups, eps=1e-5)
    expected = torch.group_norm(z, groups, eps=1e-5)[..., -1]
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(gradients(got, [z]), gradients(expected, [z]))


@shapes
def test_a_member_gives_the_bits_that_it_gives_alone(
    batch: int, channels: int, time: int, groups: int
) -> None:
    """One drops nothing, and gives what it gives without factors; one is not a number."""
    shape = (batch, channels, time)
    together = [
        random(4, *s, seed=n, dtype=torch.float32).requires_grad_()
        for n, s in enumerate([shape, (channels,), (channels,)])
    ]
    with torch.no_grad():
        together[0][3, 0, 0, 0] = float("nan")
    factors = torch.stack([factors_of(shape, rate) for rate in (0.3, 0.0, 0.8, 0.3)])
    weights = random(4, *shape, seed=9, dtype=torch.float32)
    y = norm_relu_dropout(*together, factors, groups=groups, eps=1e-12)
    of_all = torch.autograd.grad(y, together, weights)
    last = norm_last(together[0], groups=groups, eps=1e-12)
    of_last = torch.autograd.grad(last, together[0], weights[..., 0])[0]
    for member in range(3):
        own = [x[member].detach().clone().requires_grad_() for x in together]
        dropped = None if member == 1 else factors[member]
        alone = norm_relu_dropout(*own, dropped, groups=groups, eps=1e-12)
        assert torch.equal(alone, y[member])
        for a, b in zip(torch.autograd.grad(alone, own, weights[member]), of_all, strict=True):
            assert torch.equal(a, b[member])
        alone = norm_last(own[0], groups=groups, eps=1e-12)
        assert torch.equal(alone, last[member])
        (gradient,) = torch.autograd.grad(alone, own[0], weights[member, ..., 0])
        assert torch.equal(gradient, of_last[member])


def test_the_order_of_memory_does_not_matter() -> None:
    weight, bias = random(4, seed=1), random(4, seed=2)
    z = random(3, 7, 4).mT.requires_grad_()
    plain = z.detach().contiguous().requires_grad_()
    got, expected = (
        norm_relu_dropout(x, weight, bias, None, groups=2, eps=1e-5) for x in (z, plain)
    )
    assert torch.equal(got, expected)
    of_y = random(3, 7, 4, seed=4).mT
    assert torch.equal(
        torch.autograd.grad(got, z, of_y)[0],
        torch.autograd.grad(expected, plain, of_y.contiguous())[0],
    )
