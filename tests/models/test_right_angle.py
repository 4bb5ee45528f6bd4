from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.models.right_angle import (
    frequencies,
    from_matrices,
    to_frequencies,
    to_matrices,
    to_time,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("time", [16, 23, 91, 784, 797, 16000])
def test_frequencies_have_small_factors_and_are_hardly_more_than_the_steps(time: int) -> None:
    size = frequencies(time)
    assert time <= size < 1.1 * time + 2
    for factor in (2, 3, 5, 7, 11, 13):
        while size % factor == 0:
            size //= factor
    assert size == 1
    assert frequencies(784) == 784
    assert frequencies(797) == 800


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize("first", [0, 2])
def test_the_transform_is_the_polynomial_at_the_roots(first: int, conjugate: bool) -> None:
    x_T, size = random(5), 8
    f = torch.arange(size, dtype=torch.float64)
    z = torch.exp(-1j * (torch.pi / 2 + 2 * torch.pi * f) / size)
    assert torch.allclose(z**size, torch.tensor(-1j).to(z))
    z = z.conj() if conjugate else z
    expected = sum(x * z ** (first + t) for t, x in enumerate(x_T.tolist()))
    got = to_frequencies(x_T, size, first=first, conjugate=conjugate)
    torch.testing.assert_close(got, expected)
    if conjugate:
        # The inverse of the backward pass takes products of two such transforms, unscaled.
        got = got.conj()
        torch.testing.assert_close(got, to_frequencies(x_T, size, first=first))
    back = to_time(got, 5, first=first)
    torch.testing.assert_close(back, x_T)


def test_the_transform_of_the_backward_pass_is_the_adjoint() -> None:
    """The sum of `Re(D X)` over the frequencies, over n, is that of `x to_time(D)`."""
    x_T, D_n = random(5), torch.complex(random(8, seed=1), random(8, seed=2))
    got = (x_T * to_time(D_n, 5, conjugate=True)).sum()
    torch.testing.assert_close(got, (D_n * to_frequencies(x_T, 8)).real.sum() / 8)


def test_matrices_are_the_transforms_in_another_order() -> None:
    x_EBCT = random(2, 3, 4, 5)
    X_EnBC = to_matrices(x_EBCT, 6)
    torch.testing.assert_close(X_EnBC, to_frequencies(x_EBCT, 6).movedim(-1, 1))
    bias_EC = random(2, 4, seed=1)
    back = from_matrices(X_EnBC, 5, bias_EC)
    assert back.is_contiguous()
    torch.testing.assert_close(back, x_EBCT + bias_EC[:, None, :, None])
