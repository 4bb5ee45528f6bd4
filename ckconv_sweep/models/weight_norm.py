"""Weight normalisation (Salimans and Kingma 2016, arXiv:1602.07868): the direction of one parameter
and the length of another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ckconv_sweep.models.members import applied


class _WeightNorm(Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, g: Tensor, dims: int) -> Tensor:
        rows: Tensor
        rows, norms = torch.ops.aten._weight_norm_interface(_rows(v, dims), _column(g), 0)
        ctx.save_for_backward(v, g, norms)
        ctx.dims = dims
        return rows.view(v.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        v, g, norms = ctx.saved_tensors
        rows_v, rows_g = torch.ops.aten._weight_norm_interface_backward(
            _rows(grad, ctx.dims), _rows(v, ctx.dims), _column(g), norms, 0
        )
        return rows_v.view(v.shape), rows_g.view(g.shape), None


def _rows(tensor: Tensor, dims: int) -> Tensor:
    """All but the last `dims` axes as one, and these as another. Contiguous: the operation of
    PyTorch reads memory as if it were, and does not ask."""
    return tensor.reshape(-1, tensor.shape[-dims:].numel()).contiguous()


def _column(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, 1).contiguous()


def weight_norm(v: Tensor, g: Tensor, *, dims: int = 1) -> Tensor:
    """`g v / norm(v)`, the norm over the last `dims` axes. All may have the axis of members in
    front. `v` must not be zero."""
    if v.shape[-dims:].numel() == 1:
        # The direction of a single number is its sign, which does not change: its gradient is zero,
        # not the rounding of a difference that an optimiser could amplify.
        return g * torch.sign(v)
    return applied(_WeightNorm, v, g, dims)
