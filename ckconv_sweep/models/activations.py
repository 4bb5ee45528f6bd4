"""The activations of hidden channels, by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from ckconv_sweep.models.members import applied


class _Gelu(Function):
    """With all memory contiguous: see `members.py`."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        h = h.contiguous()
        ctx.save_for_backward(h)
        return functional.gelu(h)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (h,) = ctx.saved_tensors
        gradient: Tensor = torch.ops.aten.gelu_backward(grad.contiguous(), h)
        return gradient


def gelu(h: Tensor) -> Tensor:
    """`torch.nn.functional.gelu`."""
    return applied(_Gelu, h)
