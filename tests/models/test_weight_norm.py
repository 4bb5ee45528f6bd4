from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.models.weight_norm import weight_norm


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(("shape", "dims"), [((4, 3), 1), ((4, 2, 3), 2), ((4, 1), 1)])
@pytest.mark.parametrize("members", [(), (3,)])
def test_the_weights_have_the_direction_of_one_and_the_length_of_the_other(
    members: tuple[int, ...], shape: tuple[int, ...], dims: int
) -> None:
    v = random(*members, *shape).requires_grad_()
    g = random(*members, shape[0], *[1] * dims, seed=1).requires_grad_()
    got = weight_norm(v, g, dims=dims)
    axes = tuple(range(-dims, 0))
    expected = g * v / v.square().sum(axes, keepdim=True).sqrt()
    torch.testing.assert_close(got, expected)
    # A part of a larger tensor: its rows do not lie one after another.
    of_weights = random(*got.shape[:-1], got.shape[-1] + 1, seed=2)[..., :-1]
    for a, b in zip(
        torch.autograd.grad(got, (v, g), of_weights),
        torch.autograd.grad(expected, (v, g), of_weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_direction_of_a_single_number_has_no_gradient() -> None:
    v, g = torch.tensor([[0.3], [-2.0]], requires_grad=True), torch.tensor([[1.0], [3.0]])
    weights = weight_norm(v, g)
    assert weights.tolist() == [[1.0], [-3.0]]
    weights.square().sum().backward()
    assert v.grad is not None
    assert v.grad.tolist() == [[0.0], [0.0]]
