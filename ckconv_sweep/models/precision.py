"""How precisely spectra are multiplied over channels: `training.precision`.

Only the products of spectra in dense convolutions by FFT are lowered: most of the arithmetic. The
kernel net stays in float32: it has little of it, and in bfloat16 would put five times as much wrong
into the gradients where omega_0 is 70 (docs/performance.md).

    float32    factors of 24 bits
    tf32       of 11 bits, sums in float32: by the tensor cores of NVIDIA GPUs since Ampere
    bfloat16   of 8 bits, sums in float32. On a GPU as one real product; elsewhere the rounded
               numbers are multiplied in float32, which is as exact and not faster

Shapes: F matrices; M, N, K rows, columns and what is summed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from ckconv_sweep.config.trial import Precision

_now: ContextVar[Precision] = ContextVar("precision", default="float32")
_MATMUL: Any = torch.backends.cuda.matmul
_CUDNN: Any = torch.backends.cudnn


def now() -> Precision:
    """That of the products which this thread makes. A backward pass has that of its forward pass,
    and may run in another thread: an autograd function keeps it."""
    return _now.get()


@contextmanager
def products_in(precision: Precision) -> Iterator[None]:
    """Whatever this thread computes in the context has this precision.

    TF32 is off meanwhile but where it is asked for: cuDNN would take it for convolutions by itself.
    PyTorch keeps that for the whole process: of two threads only one may be in such a context, and
    a generator must leave it before it yields.
    """
    token = _now.set(precision)
    try:
        with _in("ieee", _MATMUL, _CUDNN.conv, _CUDNN.rnn):
            yield
    finally:
        _now.reset(token)


@contextmanager
def _in(precision: str, *backends: Any) -> Iterator[None]:
    """How PyTorch multiplies float32 by these backends."""
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = precision
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value


def product_of_spectra(
    a_FMK: Tensor, b_FKN: Tensor, precision: Precision, *, out: Tensor | None = None
) -> Tensor:
    """The products of complex matrices, `(F, M, N)`, contiguous; `out` is where they are put."""
    if precision == "tf32":
        with _in("tf32", _MATMUL):
            return torch.bmm(a_FMK, b_FKN, out=out)
    if precision == "bfloat16":
        if a_FMK.device.type == "cuda":
            return _real_product(a_FMK, b_FKN, out)
        a_FMK, b_FKN = rounded(a_FMK), rounded(b_FKN)
    return torch.bmm(a_FMK, b_FKN, out=out)


def rounded(spectra: Tensor) -> Tensor:
    """Real and imaginary parts to the nearest bfloat16, in the precision that they had."""
    parts = torch.view_as_real(spectra.resolve_conj())
    return torch.view_as_complex(parts.to(torch.bfloat16).to(parts.dtype))


def _real_product(a_FMK: Tensor, b_FKN: Tensor, out: Tensor | None) -> Tensor:
    """With real and imaginary parts side by side,

    `[re a, im a] @ [[re b, im b], [-im b, re b]] = [re ab, im ab]`

    a complex product is a real one, of as many operations.
    """
    if out is None:
        out = a_FMK.new_empty(*a_FMK.shape[:2], b_FKN.shape[-1])
    parts = torch.view_as_real(out).flatten(-2)
    torch.bmm(_rows(a_FMK), _blocks(b_FKN), out_dtype=torch.float32, out=parts)
    return out


def _parts(spectra: Tensor) -> Tensor:
    parts = torch.view_as_real(spectra.resolve_conj())
    return parts.to(torch.bfloat16, memory_format=torch.contiguous_format)


def _rows(a_FMK: Tensor) -> Tensor:
    """`(F, M, 2 K)`."""
    return _parts(a_FMK).flatten(-2)


def _blocks(b_FKN: Tensor) -> Tensor:
    """`(F, 2 K, 2 N)`."""
    real, imaginary = (parts := _parts(b_FKN)).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1)
    return torch.stack([parts, turned], dim=2).flatten(3).flatten(1, 2)
