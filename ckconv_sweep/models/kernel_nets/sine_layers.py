"""The sine layers of a kernel net as one operation, with the derivatives written out.

With `a = omega_0 (W h + b)` and `h' = sin(a)` for each layer, and g the gradient of `h'`,

    e = omega_0 g cos(a),    gradient of b = sum of e over the positions,
    gradient of W = e h^T,   gradient of h = W^T e,    of omega_0 = sum of g cos(a) a / omega_0

A step of training spends as long on these small tensors as on calling PyTorch for them, and this
calls it half as often as autograd does.

Shapes: E members, H hidden channels, P positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ckconv_sweep.models.members import applied, each, in_front


class _SineLayers(Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, omega_0: Tensor, *layers: Tensor) -> Tensor:
        omega_E11 = in_front(omega_0, 0)[:, None, None]
        weights, biases = layers[::2], layers[1::2]
        h, arguments = positions.unsqueeze(-2), list[Tensor]()
        for weight, bias in zip(weights, biases, strict=True):
            weight_EHM = in_front(weight, 2)
            summed = weight_EHM * h if not arguments else each(torch.bmm, weight_EHM, h)
            a = summed.add_(in_front(bias, 1)[..., None]).mul_(omega_E11)
            h = torch.sin(a)
            arguments.append(a)
        ctx.layers = len(arguments)
        ctx.save_for_backward(positions, omega_0, *layers, *arguments)
        return h.view(*weights[0].shape[:-2], *h.shape[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        positions, omega_0, *rest = ctx.saved_tensors
        layers, arguments = rest[: 2 * ctx.layers], rest[2 * ctx.layers :]
        omega_E11 = in_front(omega_0, 0)[:, None, None]
        g, gradients, domega = in_front(grad, 2), list[Tensor](), None
        for number in reversed(range(ctx.layers)):
            weight, bias, a = layers[2 * number], layers[2 * number + 1], arguments[number]
            e = torch.cos(a).mul_(g)
            if ctx.needs_input_grad[1]:
                more = (e * a).sum(-1).sum(-1)
                domega = more if domega is None else domega + more
            e.mul_(omega_E11)
            gradients.append(e.sum(-1).view(bias.shape))
            if number > 0:
                dweight = each(torch.bmm, e, torch.sin(arguments[number - 1]).mT)
                g = each(torch.bmm, in_front(weight, 2).mT, e)
            else:
                dweight = (e * positions.unsqueeze(-2)).sum(-1)
            gradients.append(dweight.view(weight.shape))
        if domega is not None:
            domega = domega.view(omega_0.shape) / omega_0
        return None, domega, *reversed(gradients)


def sine_layers(positions: Tensor, omega_0: Tensor, *layers: Tensor) -> Tensor:
    """All may have the axis of members in front, the positions only if the others have it.

    Args:
        positions: `(P,)`; no gradient.
        omega_0: a scalar.
        layers: weight `(H, M)` and bias `(H,)` of each; M is 1 in the first.

    Returns:
        `(H, P)`
    """
    return applied(_SineLayers, positions, omega_0, *layers)
