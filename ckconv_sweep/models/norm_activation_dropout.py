"""Norm over time, ReLU and dropout as one, and the norm at the last step alone.

With the mean m of a group of channels over all steps, and `r = 1 / sqrt(variance + eps)`,

    n = (z - m) r,    y = relu(weight n + bias) * factors

and, with g the gradient of `weight n + bias`, which is that of y where y > 0 and else zero,

    gradient of z = r (weight g - mean(weight g) - n mean(weight g n))

with means over the group. Neither the values between z and y nor the dropout factors are saved: y
says which values were positive and kept, and all kept ones have one factor.

Shapes: E members, B batch, C channels, T time, G groups of channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ckconv_sweep.models.members import applied, in_front


def _per_channel(values: Tensor) -> Tensor:
    """`(..., C)` to what meets `(E, B, C, T)`."""
    return in_front(values, 1)[:, None, :, None]


class _NormReluDropout(Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        weight: Tensor,
        bias: Tensor,
        factors: Tensor | None,
        groups: int,
        eps: float,
    ) -> Tensor:
        z_EBCT = in_front(z, 3).contiguous()
        members, batch, channels, time = z_EBCT.shape
        rows = members * batch
        n, mean, r = torch.native_group_norm(
            z_EBCT.view(rows, channels, time), None, None, rows, channels, time, groups, eps
        )
        y_EBCT = n.view(z_EBCT.shape).mul_(_per_channel(weight)).add_(_per_channel(bias)).relu_()
        kept_E1 = None
        if factors is not None:
            factors_EBCT = in_front(factors, 3)
            y_EBCT *= factors_EBCT
            kept_E1 = factors_EBCT.amax((1, 2, 3)).view(-1, 1)
        stats = (members, batch, groups, 1)
        ctx.save_for_backward(z_EBCT, y_EBCT, weight, mean.view(stats), r.view(stats), kept_E1)
        return y_EBCT.view(z.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        z_EBCT, y_EBCT, weight, mean_EBG1, r_EBG1, kept_E1 = ctx.saved_tensors
        groups = r_EBG1.shape[2]
        weight_E1C = in_front(weight, 1)[:, None]
        grad_EBCT = in_front(grad, 3).contiguous()
        g_EBCT = torch.ops.aten.threshold_backward(grad_EBCT, y_EBCT, 0)
        # Sums over the steps: of g, and of g n = g (z - m) r.
        g_EBC = g_EBCT.sum(-1)
        gz_EBGC = _grouped((g_EBCT * z_EBCT).sum(-1), groups)
        gn_EBC = (gz_EBGC - _grouped(g_EBC, groups) * mean_EBG1).mul_(r_EBG1).flatten(2)
        dweight_EC, dbias_EC = gn_EBC.sum(1), g_EBC.sum(1)
        if kept_E1 is not None:
            dweight_EC, dbias_EC = dweight_EC * kept_E1, dbias_EC * kept_E1
            weight_E1C = weight_E1C * kept_E1[..., None]
        per_group = z_EBCT.shape[2] // groups * z_EBCT.shape[3]
        mean_g = _grouped(g_EBC * weight_E1C, groups).sum(-1, keepdim=True) / per_group
        mean_gn = _grouped(gn_EBC * weight_E1C, groups).sum(-1, keepdim=True) / per_group
        # r (weight g - mean_g - (z - m) r mean_gn), as a polynomial in g and z.
        of_g = (_grouped(weight_E1C, groups) * r_EBG1).flatten(2)[..., None]
        of_z = -(r_EBG1 * r_EBG1 * mean_gn)
        constant = -(r_EBG1 * mean_g) - of_z * mean_EBG1
        z_EBGCT = torch.unflatten(z_EBCT, 2, (groups, -1))
        dz = torch.unflatten(g_EBCT.mul_(of_g), 2, (groups, -1))
        dz.addcmul_(z_EBGCT, of_z[..., None]).add_(constant[..., None])
        return (
            dz.view(grad.shape),
            dweight_EC.view(weight.shape),
            dbias_EC.view(weight.shape),
            None,
            None,
            None,
        )


def _grouped(values_EBC: Tensor, groups: int) -> Tensor:
    return torch.unflatten(values_EBC, 2, (groups, -1))


def norm_relu_dropout(
    z: Tensor,
    weight: Tensor,
    bias: Tensor,
    factors: Tensor | None,
    *,
    groups: int,
    eps: float,
) -> Tensor:
    """`relu(group_norm(z) weight + bias) * factors`. All may have the axis of members in front.

    Args:
        z: `(B, C, T)`.
        weight: of each channel, `(C,)`.
        bias: of each channel, `(C,)`.
        factors: of the dropout, `(B, C, T)` or `(B, C, 1)`: 0 or one number above it.
        groups: of channels, which share mean and variance; a divisor of C.
        eps: added to the variance.
    """
    return applied(_NormReluDropout, z, weight, bias, factors, groups, eps)


class _NormLast(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, groups: int, eps: float) -> Tensor:
        z_GS = torch.unflatten(z, -2, (groups, -1)).flatten(-2)
        mean_G1 = z_GS.mean(-1, keepdim=True)
        variance_G1 = (z_GS - mean_G1).square_().mean(-1, keepdim=True)
        r_G1 = (variance_G1 + eps).rsqrt_()
        n_GC = (torch.unflatten(z[..., -1], -1, (groups, -1)) - mean_G1) * r_G1
        ctx.save_for_backward(z, n_GC, mean_G1, r_G1)
        return n_GC.flatten(-2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        z, n_GC, mean_G1, r_G1 = ctx.saved_tensors
        groups = mean_G1.shape[-2]
        z_GS = torch.unflatten(z, -2, (groups, -1)).flatten(-2)
        g_GC = torch.unflatten(grad, -1, (groups, -1))
        mean_g = g_GC.sum(-1, keepdim=True) / z_GS.shape[-1]
        mean_gn = (g_GC * n_GC).sum(-1, keepdim=True) / z_GS.shape[-1]
        of_z = -(r_G1 * r_G1 * mean_gn)
        constant = -(r_G1 * mean_g) - of_z * mean_G1
        dz = torch.addcmul(constant, z_GS, of_z).view(z.shape)
        dz[..., -1] += (g_GC * r_G1).flatten(-2)
        return dz, None, None


def norm_last(z: Tensor, *, groups: int, eps: float) -> Tensor:
    """The last step of `group_norm(z)`, without weight and bias: `(..., C, T)` to `(..., C)`. The
    gradient is that of all steps: their mean and variance are in it."""
    return applied(_NormLast, z, groups, eps)
