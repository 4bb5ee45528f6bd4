from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.models import members
from ckconv_sweep.models.members import ALIGNMENT, aligned, empty, product


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


FACTORS = [((3, 4), (4, 5)), ((3, 4), (6, 4, 5)), ((6, 3, 4), (6, 4, 5)), ((6, 3, 4), (4, 5))]


@pytest.mark.parametrize(("left", "right"), FACTORS)
@pytest.mark.parametrize("leading", [(), (2,)])
@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_product_and_its_gradients_are_those_of_matmul(
    one_by_one: bool,
    leading: tuple[int, ...],
    left: tuple[int, ...],
    right: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(members, "one_by_one", lambda tensor: one_by_one)
    a = random(*leading, *left).requires_grad_()
    b = random(*leading, *right, seed=1).requires_grad_()
    got = product(a, b, a_dims=len(left), b_dims=len(right))
    expected = torch.stack([x @ y for x, y in zip(a, b, strict=True)]) if leading else a @ b
    torch.testing.assert_close(got, expected)
    for x, y in zip(
        torch.autograd.grad(got.square().sum(), (a, b)),
        torch.autograd.grad(expected.square().sum(), (a, b)),
        strict=True,
    ):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize(
    "sizes", [(10, 182, 1), (7, 33, 16), (3, 100, 7), (16, 30, 1), (5, 64, 182)]
)
def test_a_product_is_rounded_as_alone(sizes: tuple[int, int, int]) -> None:
    """Sizes at which a batched product of MKL was seen to round otherwise."""
    m, k, n = sizes
    a, b = random(5, m, k, dtype=torch.float32), random(5, k, n, seed=1, dtype=torch.float32)
    together = product(a, b)
    for member in range(5):
        assert torch.equal(product(a[member].clone(), b[member].clone()), together[member])
        for_columns = product(b.mT, a.mT)[member]
        assert torch.equal(product(b[member].clone().mT, a[member].clone().mT), for_columns)


def test_aligned_memory_begins_where_it_should() -> None:
    values = torch.arange(100.0)
    for tensor in (values[1:41].view(8, 5), values[1:41].view(8, 5).mT, values[:40].view(8, 5)):
        got = aligned(tensor)
        assert got.data_ptr() % ALIGNMENT == 0
        assert torch.equal(got, tensor)
        assert got.stride() == tensor.stride()
    assert aligned(values) is values
    sparse = values.view(4, 5, 5)[..., 0]
    assert aligned(sparse).is_contiguous()


@pytest.mark.parametrize("count", [1, 3])
def test_each_member_of_empty_memory_begins_where_it_should(count: int) -> None:
    out = empty(count, 3, 5, like=torch.empty(0), dtype=torch.complex64)
    assert out.shape == (count, 3, 5)
    for member in out:
        assert member.is_contiguous()
        assert member.data_ptr() % ALIGNMENT == 0
