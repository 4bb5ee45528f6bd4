"""The convolution of a CKConv, from the features of its kernel net instead of its sampled kernel.

A kernel is linear in few features, `kernel[d, c, s] = sum over h of weight[d, c, h] features[h, s]`
(the last feature is one, its weight the bias), and the Fourier transform is linear too. So only the
features are transformed, some 33 of them, not `D C` kernels; the kernel is made in frequency alone,
a part of the frequencies at a time, and made again in the backward pass. Nothing of the size
`(D, C, T)` is ever kept.

The transforms are those of `right_angle`, with its r. Backward: with D the transform of the
output's gradient g at the conjugate roots, the sum of `g y'` is `1/n sum over f of Re(D[f] Y'[f])`.
So with `Y[f] = X[f] K[f]` and `K[f] = H[f] W`

    gradient of x = Re(r FFT(D K^T)) / n,         gradient of W = Re(sum over f of H^T G) / n,
    gradient of features = Re(r FFT(G W^T)) / n,  G[f] = X[f]^T D[f].

Shapes: E members, B batch, C channels in, D channels out, T time, H features, n frequencies,
N kernels (D C, or C where each channel has its own).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from ckconv_sweep.config.trial import Precision
from ckconv_sweep.models.members import (
    applied,
    each,
    empty,
    groups,
    in_front,
    product,
)
from ckconv_sweep.models.precision import now, product_of_spectra
from ckconv_sweep.models.right_angle import (
    complex_of,
    frequencies,
    from_matrices,
    to_frequencies,
    to_matrices,
    to_time,
)

CHUNK_BYTES = {"cpu": 2 << 20}
"""Of the kernel's spectrum that are made at a time. On a CPU as many as its cache holds until they
are used: a layer of 30 channels takes 97 ms for 16 sequences of 4096 steps, forward and backward,
with 64 MiB 117; one of 100 channels 291 ms for 64 of 784, with 64 MiB 307 (one thread of an AMD
EPYC, Zen 5)."""
MOST_CHUNK_BYTES = 256 << 20
"""The same on other devices, for all members together."""


def _parts(members: int, size: int, values: int, like: Tensor) -> Iterator[tuple[slice, slice]]:
    """Which members and frequencies are multiplied at once, so many values being made for each
    frequency. How many frequencies does not depend on the number of members; several members have
    all of theirs."""
    each_bytes = complex_of(like.dtype).itemsize * values
    most = CHUNK_BYTES.get(like.device.type, MOST_CHUNK_BYTES)
    number = -(-each_bytes * size // most)
    step = -(-size // number)
    for group in groups(members, like, most // (each_bytes * size)):
        for first in range(0, size, step):
            yield group, slice(first, min(size, first + step))


def _made(batch: int, d: int, c: int, precision: Precision) -> int:
    """Values for each frequency: the kernel's, and where they are rounded copies of the spectra."""
    return max(d * c, batch * max(d, c)) if precision == "bfloat16" else d * c


def _matrices(spectrum_EfBC: Tensor) -> Tensor:
    """One matrix a frequency, of all members: `(E f, B, C)`."""
    return spectrum_EfBC.view(-1, *spectrum_EfBC.shape[2:])


def _with_offset(weight: Tensor, offset: Tensor) -> Tensor:
    """`(E, N, H + 1)`: the weight of a last feature that is one."""
    return torch.cat([in_front(weight, 2), in_front(offset, 1)[..., None]], dim=2)


def _with_one(features: Tensor) -> Tensor:
    """`(E, H + 1, K)`"""
    return functional.pad(in_front(features, 2), (0, 0, 0, 1), value=1.0)


def _planes(spectrum_EMn: Tensor) -> Tensor:
    """Real and imaginary parts apart, frequencies first, `(E, 2, n, M)`. A product of them with a
    real matrix is half the work of that of complex numbers."""
    return torch.view_as_real(spectrum_EMn).permute(0, 3, 2, 1).contiguous()


class _Dense(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        offset: Tensor,
        features: Tensor,
        bias: Tensor | None,
        ahead: int,
    ) -> Tensor:
        x_EBCT = in_front(x, 3)
        weight_ENH, features_EHK = _with_offset(weight, offset), _with_one(features)
        members, batch, c, time = x_EBCT.shape
        d, size = weight_ENH.shape[1] // c, frequencies(time + ahead)
        X_EnBC = to_matrices(x_EBCT, size)
        H_E2nH = _planes(to_frequencies(features_EHK, size))
        Y_EnBD = empty(members, size, batch, d, like=x, dtype=X_EnBC.dtype)
        ctx.precision = precision = now()
        for m, f in _parts(members, size, _made(batch, d, c, precision), x):
            K = _kernels(H_E2nH[m, :, f], weight_ENH[m]).view(-1, d, c)
            X_, Y_ = _matrices(X_EnBC[m, f]), _matrices(Y_EnBD[m, f])
            product_of_spectra(X_, K.mT, precision, out=Y_)
        bias_ED = None if bias is None else in_front(bias, 1)
        y_EBDT = from_matrices(Y_EnBD, time, bias_ED, first=ahead)
        ctx.save_for_backward(X_EnBC, H_E2nH, weight, offset)
        ctx.time, ctx.kernel_time, ctx.ahead = time, features.shape[-1], ahead
        return y_EBDT.view(*x.shape[:-2], d, time)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        X_EnBC, H_E2nH, weight, offset = ctx.saved_tensors
        weight_ENH = _with_offset(weight, offset)
        members, size, batch, c = X_EnBC.shape
        d = weight_ENH.shape[1] // c
        D_EnBD = to_matrices(in_front(grad, 3), size, first=ctx.ahead, conjugate=True)
        dX_EnBC, dH_E2nH = None, torch.empty_like(H_E2nH)
        if ctx.needs_input_grad[0]:
            dX_EnBC = empty(members, size, batch, c, like=grad, dtype=X_EnBC.dtype)
        dweight_ENH = torch.zeros_like(weight_ENH)
        for m, f in _parts(members, size, _made(batch, d, c, ctx.precision), grad):
            W_, H_ = weight_ENH[m], H_E2nH[m, :, f]
            X_, D_ = _matrices(X_EnBC[m, f]), _matrices(D_EnBD[m, f])
            if dX_EnBC is not None:
                product_of_spectra(
                    D_,
                    _kernels(H_, W_).view(-1, d, c),
                    ctx.precision,
                    out=_matrices(dX_EnBC[m, f]),
                )
            G_fDC = product_of_spectra(D_.mT, X_, ctx.precision)
            G_ = torch.view_as_real(G_fDC.view(len(W_), -1, d * c)).movedim(-1, 1).contiguous()
            dH_E2nH[m, :, f] = _times(G_, W_).view_as(H_)
            dweight_ENH[m] += each(_of_weight, G_, H_)
            del G_fDC, G_
        del D_EnBD, D_  # before the inverse transforms, which take as much again
        dH_EHn = torch.view_as_complex(dH_E2nH.permute(0, 3, 2, 1).contiguous())
        dfeatures = to_time(dH_EHn[:, :-1], ctx.kernel_time, conjugate=True)
        dx = None
        if dX_EnBC is not None:
            dx_EBCT = from_matrices(dX_EnBC, ctx.time, conjugate=True)
            dx = dx_EBCT.view(*grad.shape[:-2], c, ctx.time)
        dweight_ENH.div_(size)
        return (
            dx,
            dweight_ENH[..., :-1].reshape(weight.shape),
            dweight_ENH[..., -1].reshape(offset.shape),
            dfeatures.reshape(*weight.shape[:-2], *dfeatures.shape[1:]),
            grad.sum((-3, -1)) if ctx.needs_input_grad[4] else None,
            None,
        )


def _times(planes_E2fM: Tensor, real_EMN: Tensor) -> Tensor:
    """Planes times a real matrix, `(E, 2 f, N)`."""
    return each(torch.bmm, planes_E2fM.flatten(1, 2), real_EMN)


def _kernels(H_E2fH: Tensor, weight_ENH: Tensor) -> Tensor:
    """The spectrum of the kernels at some frequencies, `(E, f, N)`."""
    real, imaginary = _times(H_E2fH, weight_ENH.mT).chunk(2, dim=1)
    return torch.complex(real, imaginary)


def _of_weight(G_E2fN: Tensor, H_E2fH: Tensor) -> Tensor:
    """The real part of G^T H, `(E, N, H)`."""
    real, imaginary = G_E2fN.mT.unbind(1)
    H_real, H_imaginary = H_E2fH.unbind(1)
    return torch.baddbmm(torch.bmm(real, H_real), imaginary, H_imaginary, alpha=-1.0)


class _Depthwise(Function):
    """Nothing is summed over channels: products are elementwise, and need no other layout."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, offset: Tensor, features: Tensor, ahead: int
    ) -> Tensor:
        weight_ECH, features_EHK = _with_offset(weight, offset), _with_one(features)
        size = frequencies(x.shape[-1] + ahead)
        X_EBCn = to_frequencies(in_front(x, 3), size)
        H_E2nH = _planes(to_frequencies(features_EHK, size))
        Y_EBCn = each(torch.mul, X_EBCn, _kernels(H_E2nH, weight_ECH).mT[:, None])
        ctx.save_for_backward(X_EBCn, H_E2nH, weight, offset)
        ctx.time, ctx.kernel_time, ctx.ahead = x.shape[-1], features.shape[-1], ahead
        return to_time(Y_EBCn, x.shape[-1], first=ahead).contiguous().view(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        X_EBCn, H_E2nH, weight, offset = ctx.saved_tensors
        weight_ECH = _with_offset(weight, offset)
        size, dx = X_EBCn.shape[-1], None
        D_EBCn = to_frequencies(in_front(grad, 3), size, first=ctx.ahead, conjugate=True)
        if ctx.needs_input_grad[0]:
            dX_EBCn = each(torch.mul, D_EBCn, _kernels(H_E2nH, weight_ECH).mT[:, None])
            dx = to_time(dX_EBCn, ctx.time, conjugate=True).contiguous().view(grad.shape)
        G_E2nC = _planes(each(torch.mul, X_EBCn, D_EBCn).sum(1))
        dH_E2nH = _times(G_E2nC, weight_ECH).view_as(H_E2nH)
        dH_EHn = torch.view_as_complex(dH_E2nH.permute(0, 3, 2, 1).contiguous())
        dfeatures = to_time(dH_EHn[:, :-1], ctx.kernel_time, conjugate=True)
        dweight_ECH = each(_of_weight, G_E2nC, H_E2nH).div_(size)
        return (
            dx,
            dweight_ECH[..., :-1].reshape(weight.shape),
            dweight_ECH[..., -1].reshape(offset.shape),
            dfeatures.reshape(*weight.shape[:-2], *dfeatures.shape[1:]),
            None,
        )


def spectral_conv(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    features: Tensor,
    bias: Tensor | None = None,
    *,
    ahead: int = 0,
    depthwise: bool = False,
) -> Tensor:
    """`convolution.causal_conv` or `centred_conv` with the kernel `weight @ features + offset`.

    All may have the axis of members in front.

    Args:
        x: input, `(B, C, T)`, float32 or float64.
        weight: `(D C, H)`, input channels fastest; depthwise `(C, H)`.
        offset: of each kernel, `(D C,)` or `(C,)`.
        features: in lag order, `(H, K)`; K is at most T, and where lags are ahead at most
            `2 ahead + 1`.
        bias: added to each output channel, `(D,)`; not where it is depthwise.
        ahead: how many of the first lags are in the future, less than T.
        depthwise: whether each channel has its own kernel and sees no other.

    Returns:
        `(B, D, T)`; D is C where it is depthwise.
    """
    kernel = weight, offset, features
    if depthwise:
        return applied(_Depthwise, x, *kernel, ahead)
    return applied(_Dense, x, *kernel, bias, ahead)


def kernel_norm(weight: Tensor, offset: Tensor, features: Tensor) -> Tensor:
    """The L2 norm of the kernel `weight @ features + offset` without the kernel: a scalar, `(...)`.

    With W and h extended by the offset and a feature that is one, the squares of `W h` summed over
    the steps are the trace of `W (h h^T) W^T`: a Gram matrix of some 33 by 33.

    Args as of `spectral_conv`.
    """
    weight = torch.cat([weight, offset[..., None]], dim=-1)
    features = functional.pad(features, (0, 0, 0, 1), value=1.0)
    squares = product(weight, product(features, features.mT)) * weight
    # The root has no gradient at zero.
    return squares.sum(-1).sum(-1).clamp_min(torch.finfo(weight.dtype).tiny).sqrt()
