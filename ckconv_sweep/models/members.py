"""Many models of one shape run as one: an axis E of members may stand before all others.

Parameters and buffers of a module then have one axis more, in front, and so have its input and its
output. Modules of `ckconv_sweep.models` take it as they take a single model: they count axes from
the last one. (`torch.vmap` would do this for any module, and doubles what each operation costs
beside its arithmetic.)

On a CPU member e gives the bits that it gives alone on the same CPU, whoever the others are. Most
elementwise operations, sums along an axis and FFTs do so by themselves. Others round differently
among others, and are made member by member, from aligned memory, or not used; on other devices all
members are computed at once. With torch 2.13 they are

- matrix products and convolutions: by the address of a matrix (mod 64 bytes) and by how many there
  are;
- with AVX2 and AVX-512: products of complex numbers, sigmoid, silu, softplus and the gradients of
  the last three, in which binary_cross_entropy_with_logits has its own; gelu and its gradient where
  memory is not contiguous. Values that do not fill a vector register are computed by other
  instructions, so it depends on whether the number of values is a multiple of 4 to 32;
- with every instruction set: pow with other exponents than -2, -1, -0.5, 0.5, 1, 2 and 3; gelu of a
  single value;
- inverse real FFTs where memory is not contiguous, and in float64 complex ones too;
- with several threads: real FFTs, and the sum of a whole tensor.

exp, log, log1p, sin, cos, tanh, erf, logsigmoid and rsqrt, their gradients, softmax, and norms over
groups and layers are safe with each instruction set (`tests/training/test_instruction_sets.py`;
seen on AMD's Zen 4 and 5 and on an emulated Intel Haswell).

Shapes: E members; M, N, K rows, columns and what is summed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ckconv_sweep.config.trial import Precision
from ckconv_sweep.models.precision import product_of_spectra

ALIGNMENT = 64
"""Bytes. Memory that PyTorch allocates on a CPU begins at a multiple of it."""


def one_by_one(tensor: Tensor) -> bool:
    """Whether products of the members are made one after another."""
    return tensor.device.type == "cpu"


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of it, such that it begins at an aligned address and its rows or its
    columns lie one after another."""
    if tensor.is_contiguous() or tensor.mT.is_contiguous():
        return tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone()
    return tensor.contiguous()


def each(operation: Callable[..., Tensor], *tensors_E: Tensor) -> Tensor:
    """The operation on all members, all tensors with the axis E. On a CPU it gets one at a time, by
    an axis of size 1."""
    members = len(tensors_E[0])
    if not one_by_one(tensors_E[0]):
        return operation(*tensors_E)
    if members == 1:
        return operation(*map(aligned, tensors_E))
    return torch.cat(
        [operation(*[aligned(t[e : e + 1]) for t in tensors_E]) for e in range(members)]
    )


def empty(members: int, *shape: int, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Memory for `(E, *shape)`, where each member begins at an aligned address."""
    values = math.prod(shape)
    if not one_by_one(like) or members == 1:
        return torch.empty((members, *shape), dtype=dtype, device=like.device)
    step = ALIGNMENT // dtype.itemsize
    apart = -(-values // step) * step
    rows = torch.empty((members, apart), dtype=dtype, device=like.device)
    return torch.unflatten(rows[:, :values], 1, shape)


def groups(members: int, like: Tensor, room: int) -> Iterator[slice]:
    """The members that are multiplied at once: one on a CPU, elsewhere up to `room`."""
    size = 1 if one_by_one(like) else max(1, room)
    for first in range(0, members, size):
        yield slice(first, min(members, first + size))


def applied(function: type[Function], *arguments: Any) -> Tensor:
    """`function.apply`, whose types PyTorch does not say."""
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


def in_front(tensor: Tensor, dims: int) -> Tensor:
    """`(..., *shape)` with `dims` axes of its own to `(E, *shape)`: E is 1 for a single model."""
    if tensor.dim() == dims + 1:
        return tensor
    return tensor.reshape(-1, *tensor.shape[tensor.dim() - dims :])


class _Product(Function):
    """`product`, with the axes of each factor that are no members."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, precision: Precision, *dims: int) -> Tensor:
        ctx.save_for_backward(a, b)
        ctx.precision, ctx.dims = precision, dims
        a_dims, b_dims = dims
        out_E = _both(in_front(a, a_dims), in_front(b, b_dims), precision)
        return out_E.reshape(*a.shape[: a.dim() - a_dims], *out_E.shape[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (a, b), (a_dims, b_dims) = ctx.saved_tensors, ctx.dims
        a_E, b_E = in_front(a, a_dims), in_front(b, b_dims)
        grad_E = in_front(grad, max(a_dims, b_dims))
        grad_a = grad_b = None
        if ctx.needs_input_grad[0]:
            grad_a = _summed(_both(grad_E, b_E.mH, ctx.precision), a_E).reshape(a.shape)
        if ctx.needs_input_grad[1]:
            grad_b = _summed(_both(a_E.mH, grad_E, ctx.precision), b_E).reshape(b.shape)
        return grad_a, grad_b, None, None, None


def _both(a_E: Tensor, b_E: Tensor, precision: Precision) -> Tensor:
    if precision != "float32":
        return each(partial(_of_spectra, precision), a_E, b_E)
    return each(torch.bmm if a_E.dim() == b_E.dim() == 3 else _batches, a_E, b_E)


def _batches(a_E: Tensor, b_E: Tensor) -> Tensor:
    """A single matrix of each member may meet many."""
    while a_E.dim() < b_E.dim():
        a_E = a_E.unsqueeze(1)
    while b_E.dim() < a_E.dim():
        b_E = b_E.unsqueeze(1)
    return torch.matmul(a_E, b_E)


def _of_spectra(precision: Precision, a_EFMK: Tensor, b_EFKN: Tensor) -> Tensor:
    y_FMN = product_of_spectra(a_EFMK.flatten(0, 1), b_EFKN.flatten(0, 1), precision)
    return torch.unflatten(y_FMN, 0, a_EFMK.shape[:2])


def _summed(grad_E: Tensor, like_E: Tensor) -> Tensor:
    more = grad_E.dim() - like_E.dim()
    return grad_E.sum(tuple(range(1, 1 + more))) if more > 0 else grad_E


def product(
    a: Tensor, b: Tensor, *, a_dims: int = 2, b_dims: int = 2, precision: Precision = "float32"
) -> Tensor:
    """The matrix product over the last two axes, for each member.

    Args:
        a: `(..., M, K)`.
        b: `(..., K, N)`.
        a_dims: axes of `a` that are no members: 2, or more for a batch of matrices.
        b_dims: of `b`. Where the factors differ in it the one with 2 stands for the whole batch.
        precision: lower only where both are batches of complex matrices.
    """
    return applied(_Product, a, b, precision, a_dims, b_dims)
