from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.models import right_angle, spectral_convolution
from ckconv_sweep.models.spectral_convolution import kernel_norm, spectral_conv

from .largest import Largest

SHAPES = [  # steps, samples of the kernel, lags ahead
    (16, 16, 0),
    (23, 23, 0),
    (30, 17, 0),
    (17, 33, 16),
    (20, 19, 9),
    (1, 1, 0),
    (2, 1, 0),
]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


def inputs_of(
    time: int, length: int, depthwise: bool, members: tuple[int, ...] = (), **more: Any
) -> list[Tensor]:
    """Input, weight, offset, features, and where it is dense a bias."""
    shapes: list[tuple[int, ...]] = [(3, 2, time), (2 if depthwise else 10, 4)]
    shapes += [shapes[1][:1], (4, length)] + [(5,)] * (not depthwise)
    return [
        random(*members, *shape, seed=seed, **more).requires_grad_()
        for seed, shape in enumerate(shapes)
    ]


def written_out(inputs: list[Tensor], ahead: int, depthwise: bool) -> Tensor:
    x_BCT, weight_NH, offset_N, features_HK, *bias = inputs
    kernel_NK = weight_NH @ features_HK + offset_N[:, None]
    channels, length = x_BCT.shape[1], features_HK.shape[-1]
    kernel_DCK = torch.diag_embed(kernel_NK.T).movedim(0, -1) if depthwise else kernel_NK
    kernel_DCK = kernel_DCK.reshape(-1, channels, length)
    steps = range(x_BCT.shape[-1])
    y_BDT = torch.stack(
        [
            sum(  # type: ignore[misc]
                (
                    x_BCT[..., s] @ kernel_DCK[..., t - s + ahead].T
                    for s in steps
                    if 0 <= t - s + ahead < length
                ),
                x_BCT.new_zeros(len(x_BCT), len(kernel_DCK)),
            )
            for t in steps
        ],
        dim=-1,
    )
    return y_BDT + bias[0][:, None] if bias else y_BDT


kinds = pytest.mark.parametrize("depthwise", [False, True], ids=["dense", "depthwise"])
shapes = pytest.mark.parametrize(("time", "length", "ahead"), SHAPES)


@kinds
@shapes
def test_output_and_gradients_are_those_of_the_sum_written_out(
    time: int, length: int, ahead: int, depthwise: bool
) -> None:
    inputs = inputs_of(time, length, depthwise)
    got = spectral_conv(*inputs, ahead=ahead, depthwise=depthwise)
    expected = written_out(inputs, ahead, depthwise)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    weights = random(*got.shape, seed=9)
    for of_got, of_expected in zip(
        torch.autograd.grad(got, inputs, weights),
        torch.autograd.grad(expected, inputs, weights),
        strict=True,
    ):
        torch.testing.assert_close(of_got, of_expected, rtol=1e-10, atol=1e-10)


@kinds
def test_in_single_precision_it_is_as_exact_as_an_fft(depthwise: bool) -> None:
    inputs = inputs_of(300, 300, depthwise)
    got = spectral_conv(*[x.float() for x in inputs], depthwise=depthwise)
    expected = spectral_conv(*inputs, depthwise=depthwise)
    assert (got - expected).norm() < 2e-6 * expected.norm()


@kinds
@pytest.mark.parametrize(
    ("module", "limit", "small"),
    [
        (spectral_convolution, "CHUNK_BYTES", {"cpu": 7 * 160}),
        (right_angle, "PIECE_BYTES", 30 * 16),
    ],
    ids=["frequencies", "sequences"],
)
def test_parts_of_frequencies_and_of_sequences_make_no_difference(
    module: Any, limit: str, small: Any, depthwise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(30, 30, depthwise)

    def results() -> list[Tensor]:
        y = spectral_conv(*inputs, depthwise=depthwise)
        return [y, *torch.autograd.grad(y.square().sum(), inputs)]

    whole = results()
    monkeypatch.setattr(module, limit, small)
    for part, one in zip(results(), whole, strict=True):
        torch.testing.assert_close(part, one, rtol=1e-12, atol=1e-12)


@kinds
@shapes
@pytest.mark.parametrize("spoiled", [False, True])
def test_a_member_gives_the_bits_that_it_gives_alone(
    spoiled: bool, time: int, length: int, ahead: int, depthwise: bool
) -> None:
    together = inputs_of(time, length, depthwise, (3,), dtype=torch.float32)
    if spoiled:
        with torch.no_grad():
            together[1][0, 0, 0] = float("nan")
    y_E = spectral_conv(*together, ahead=ahead, depthwise=depthwise)
    gradients = torch.autograd.grad(y_E.square().sum(), together)
    for member in (1, 2) if spoiled else range(3):
        own = [x[member].detach().clone().requires_grad_() for x in together]
        y = spectral_conv(*own, ahead=ahead, depthwise=depthwise)
        assert torch.equal(y, y_E[member])
        for alone, among in zip(torch.autograd.grad(y.square().sum(), own), gradients, strict=True):
            assert torch.equal(alone, among[member])


@kinds
def test_without_a_gradient_of_the_input_none_is_made(depthwise: bool) -> None:
    x, *others = inputs_of(20, 20, depthwise)
    y = spectral_conv(x.detach(), *others, depthwise=depthwise)
    y.square().sum().backward()
    assert all(other.grad is not None for other in others)


def test_no_kernel_is_ever_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of all frequencies, and not in time."""
    monkeypatch.setattr(spectral_convolution, "CHUNK_BYTES", {"cpu": 1 << 14})
    channels, time = 40, 64
    shapes = [(1, channels, time), (channels**2, 3), (channels**2,), (3, time)]
    inputs = [random(*s, dtype=torch.float32).requires_grad_() for s in shapes]
    with Largest() as largest:
        spectral_conv(*inputs).sum().backward()
    assert largest.nbytes // 8 < channels * channels * time / 8


def test_the_norm_of_the_kernel_is_that_of_its_samples() -> None:
    _, weight, offset, features, _ = inputs_of(9, 9, False, (2,))
    norms = kernel_norm(weight, offset, features)
    kernel = weight @ features + offset[..., None]
    torch.testing.assert_close(norms, torch.linalg.vector_norm(kernel, dim=(1, 2)))
    inputs = weight, offset, features
    for got, expected in zip(
        torch.autograd.grad(norms.sum(), inputs),
        torch.autograd.grad(torch.linalg.vector_norm(kernel, dim=(1, 2)).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_a_kernel_of_zeros_has_the_norm_zero_and_a_finite_gradient() -> None:
    weight, offset = torch.zeros(4, 3, requires_grad=True), torch.zeros(4)
    norm = kernel_norm(weight, offset, random(3, 5, dtype=torch.float32))
    norm.backward()
    assert norm < 1e-15
    assert weight.grad is not None
    assert weight.grad.abs().max() == 0.0
