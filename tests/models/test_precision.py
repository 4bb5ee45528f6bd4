"""`training.precision`: what each lowers, how far, and what it leaves alone."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.trial import Precision
from ckconv_sweep.models import precision, spectral_convolution
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.models.convolution import causal_conv
from ckconv_sweep.models.members import product
from ckconv_sweep.models.precision import product_of_spectra, products_in
from ckconv_sweep.models.right_angle import frequencies, to_frequencies
from ckconv_sweep.models.spectral_convolution import spectral_conv

from .test_spectral_convolution import SHAPES, inputs_of, written_out

Operation = Callable[..., Tensor]

ROUNDED = 2 * 2**-8 + 2**-16
"""Most by which a product of two numbers, each rounded to 8 bits, is wrong, relative to itself."""


def spectra(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=Generator().manual_seed(seed))


def flags() -> list[str]:
    """How PyTorch multiplies float32 on NVIDIA GPUs: matrices, convolutions, recurrent nets."""
    cudnn: Any = torch.backends.cudnn
    backends = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]
    return [backend.fp32_precision for backend in backends]


@pytest.mark.parametrize("asked", get_args(Precision))
def test_tf32_is_off_in_the_context_and_afterwards_as_before(asked: Precision) -> None:
    cudnn: Any = torch.backends.cudnn
    with precision._in("tf32", cudnn.conv, cudnn.rnn):  # so that there is something to switch off
        before = flags()
        with pytest.raises(KeyError), products_in(asked):
            assert flags() == ["ieee"] * 3
            with products_in("float32"):
                assert precision.now() == "float32"
            assert flags() == ["ieee"] * 3
            assert precision.now() == asked
            raise KeyError
        assert flags() == before
        assert precision.now() == "float32"
        assert torch.backends.cudnn.allow_tf32  # the older words for it still can be read


def test_the_context_is_that_of_its_thread() -> None:
    heard: list[str] = []
    with products_in("bfloat16"):
        thread = threading.Thread(target=lambda: heard.append(precision.now()))
        thread.start()
        thread.join()
    assert heard == ["float32"]


def test_tf32_is_on_for_products_of_spectra_alone(
    make_model: Callable[..., CKCNN], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = torch.bmm, set[tuple[bool, str]]()

    def bmm(a: Tensor, b: Tensor, **more: Any) -> Tensor:
        seen.add((a.is_complex(), flags()[0]))
        return real(a, b, **more)

    monkeypatch.setattr(torch, "bmm", bmm)
    with products_in("tf32"):
        make_model(length=20)(torch.randn(3, 2, 20)).sum().backward()
    assert seen == {(True, "tf32"), (False, "ieee")}


def sampled(
    x_BCT: Tensor, weight: Tensor, offset: Tensor, features: Tensor, bias: Tensor
) -> Tensor:
    """`spectral_conv` by the kernel in time."""
    kernel = product(weight, features) + offset[..., None]
    kernel = torch.unflatten(kernel, -2, (-1, x_BCT.shape[-2]))
    return causal_conv(x_BCT, kernel) + bias[..., None, :, None]


both_paths = pytest.mark.parametrize("conv", [spectral_conv, sampled])


def results(conv: Operation, inputs: list[Tensor], asked: Precision, **more: Any) -> list[Tensor]:
    """The output, and gradients of all inputs for random gradients of the output."""
    with products_in(asked):
        y = conv(*inputs, **more)
        weights = torch.randn(y.shape, generator=Generator().manual_seed(9), dtype=torch.float64)
        return [y.detach(), *torch.autograd.grad(y, inputs, weights.to(y.dtype))]


@both_paths
def test_on_a_cpu_tf32_changes_no_bit(conv: Operation) -> None:
    inputs = inputs_of(30, 30, False, dtype=torch.float32)
    plain = results(conv, inputs, "float32")
    assert all(map(torch.equal, results(conv, inputs, "tf32"), plain))


@both_paths
def test_a_backward_pass_has_the_precision_of_its_forward_pass(conv: Operation) -> None:
    inputs = inputs_of(30, 30, False, dtype=torch.float32)
    expected = results(conv, inputs, "bfloat16")
    with products_in("bfloat16"):
        y = conv(*inputs)
    weights = torch.randn(y.shape, generator=Generator().manual_seed(9), dtype=torch.float64)
    got: list[Tensor] = []
    thread = threading.Thread(
        target=lambda: got.extend(torch.autograd.grad(y, inputs, weights.float()))
    )
    thread.start()
    thread.join()
    assert all(map(torch.equal, got, expected[1:]))


def test_a_product_in_bfloat16_is_wrong_by_its_rounding_and_no_more() -> None:
    a, b = spectra(6, 5, 40), spectra(6, 40, 7, seed=1)
    exact = a.to(torch.complex128) @ b.to(torch.complex128)
    parts = [torch.view_as_real(x).abs().double() for x in (a, b)]
    (a_real, a_imaginary), (b_real, b_imaginary) = (x.unbind(-1) for x in parts)
    real = a_real @ b_real + a_imaginary @ b_imaginary
    imaginary = a_real @ b_imaginary + a_imaginary @ b_real
    bound = (ROUNDED + 1e-5) * torch.stack([real, imaginary], dim=-1)
    wrong = torch.view_as_real(product_of_spectra(a, b, "bfloat16") - exact).abs()
    assert (wrong <= bound).all()
    assert wrong.norm() > 0.05 * bound.norm()
    single = torch.view_as_real(product_of_spectra(a, b, "float32") - exact).abs()
    assert (single <= 1e-5 * bound / ROUNDED).all()


def test_the_real_product_of_a_gpu_is_the_complex_one() -> None:
    a, b = spectra(6, 40, 5).mT, spectra(6, 40, 7, seed=1).conj()
    got = precision._rows(a).double() @ precision._blocks(b).double()
    expected = precision.rounded(a).to(torch.complex128) @ precision.rounded(b).to(torch.complex128)
    torch.testing.assert_close(got, torch.view_as_real(expected).flatten(-2))


@pytest.mark.parametrize(("time", "length", "ahead"), [s for s in SHAPES if s[0] > 2])
def test_in_bfloat16_output_and_gradients_are_wrong_within_a_bound(
    time: int, length: int, ahead: int
) -> None:
    """At each frequency `Y = X K` is wrong by at most `sqrt(2) ROUNDED |X| |K|`: its real and its
    imaginary part each by `ROUNDED |X| |K|`. So are the products of the backward pass. In time it
    is the inverse transform of that, whose norm is divided by `sqrt(n)`."""
    inputs = inputs_of(time, length, False)
    x, weight, offset, features, _ = (tensor.detach() for tensor in inputs)
    expected = results(written_out_dense, inputs, "float32", ahead=ahead)
    single = [tensor.detach().float().requires_grad_() for tensor in inputs]
    lowered = results(spectral_conv, single, "bfloat16", ahead=ahead)
    plain = results(spectral_conv, single, "float32", ahead=ahead)

    n, channels = frequencies(time + ahead), x.shape[1]
    gradient = torch.randn(
        expected[0].shape, generator=Generator().manual_seed(9), dtype=torch.float64
    )
    weight_NH = torch.cat([weight, offset[:, None]], dim=1)
    features = torch.cat([features, torch.ones_like(features[:1])])
    X_nBC = to_frequencies(x, n).movedim(-1, 0).abs()
    D_nBD = to_frequencies(gradient, n, first=ahead, conjugate=True).movedim(-1, 0).abs()
    H_nH = to_frequencies(features, n).mT
    K_nDC = (H_nH @ weight_NH.mT.to(H_nH.dtype)).unflatten(-1, (-1, channels)).abs()
    most = math.sqrt(2) * ROUNDED
    Y_nBD, dX_nBC = most * X_nBC @ K_nDC.mT, most * D_nBD @ K_nDC
    G_nN = (most * D_nBD.mT @ X_nBC).flatten(1)
    of_weights = (G_nN.mT @ H_nH.abs()).norm() / n
    bounds = [
        Y_nBD.norm() / math.sqrt(n),
        dX_nBC.norm() / math.sqrt(n),
        of_weights,
        of_weights,
        (G_nN @ weight_NH.abs()).norm() / math.sqrt(n),
    ]
    for got, before, exact, bound in zip(lowered, plain, expected, bounds, strict=False):
        wrong, wrong_before = (got - exact).norm(), (before - exact).norm()
        assert 30 * wrong_before < wrong < bound
    assert torch.equal(lowered[-1], plain[-1])  # of the bias


def written_out_dense(*inputs: Tensor, ahead: int) -> Tensor:
    return written_out(list(inputs), ahead, False)


def test_in_bfloat16_the_kernel_in_time_is_as_exact() -> None:
    inputs = inputs_of(30, 30, False)
    expected = results(written_out_dense, inputs, "float32", ahead=0)
    single = [tensor.detach().float().requires_grad_() for tensor in inputs]
    by_features = results(spectral_conv, single, "bfloat16")
    by_samples = results(sampled, single, "bfloat16")
    for features, samples, exact in zip(by_features, by_samples, expected[:-1], strict=False):
        wrong = (samples - exact).norm()
        assert 1e-4 * exact.norm() < wrong < 2 * (features - exact).norm()


@both_paths
@pytest.mark.parametrize("time", [16, 23, 30])
def test_in_bfloat16_a_member_gives_the_bits_that_it_gives_alone(
    conv: Operation, time: int
) -> None:
    together = inputs_of(time, time, False, (3,), dtype=torch.float32)
    with products_in("bfloat16"):
        y_E = conv(*together)
        gradients = torch.autograd.grad(y_E.square().sum(), together)
        for member in range(3):
            own = [x[member].detach().clone().requires_grad_() for x in together]
            y = conv(*own)
            assert torch.equal(y, y_E[member])
            alone = torch.autograd.grad(y.square().sum(), own)
            assert all(map(torch.equal, alone, [g[member] for g in gradients]))


def test_no_more_is_rounded_at_a_time_than_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    most, real, sizes = 1 << 14, precision.rounded, list[int]()

    def rounded(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.itemsize)
        return real(tensor)

    monkeypatch.setattr(precision, "rounded", rounded)
    monkeypatch.setattr(spectral_convolution, "CHUNK_BYTES", {"cpu": most})
    with products_in("bfloat16"):
        spectral_conv(*inputs_of(200, 200, False, dtype=torch.float32)).sum().backward()
    assert sizes
    assert max(sizes) <= most
