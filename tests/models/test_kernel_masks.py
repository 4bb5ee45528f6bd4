from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.model import MASKS, CKCNNConfig, GaussianMask, MLPConfig, NoMask
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.models.convolution import causal_conv, centred_conv
from ckconv_sweep.models.kernel_masks import Gaussian, Unmasked


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", MASKS)
def test_every_mask_keeps_the_shape_and_leaves_the_present_as_it_is(
    name: str, causal: bool
) -> None:
    present = 1.0 if causal else 0.0
    values_NP = MASKS.maker(name)(MASKS[name](), causal)(
        torch.ones(3, 4), torch.tensor([present, 0.9, 0.5, -1.0])
    )
    assert values_NP.shape == (3, 4)
    assert values_NP[:, 0].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("causal", "middle"), [(True, 1.0), (False, 0.0)])
@pytest.mark.parametrize("crop_below", [0.0, 0.1, 0.7])
def test_the_gaussian_is_the_formula_written_out_and_zero_where_it_is_cropped(
    crop_below: float, causal: bool, middle: float
) -> None:
    width, positions = 0.3, [1.0, 0.8, 0.5, 0.2, 0.0, -0.3, -1.0]
    mask = Gaussian(GaussianMask(width=width, crop_below=crop_below), causal)
    got_NP = mask(torch.full((1, 7), 2.0), torch.tensor(positions))
    expected = [math.exp(-0.5 * (p - middle) ** 2 / (width**2 + 1e-8)) for p in positions]
    expected = [2.0 * m if m >= crop_below else 0.0 for m in expected]
    assert got_NP[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_width_of_zero_leaves_the_present_only_and_no_nan() -> None:
    mask = Gaussian(GaussianMask(), True)
    with torch.no_grad():
        mask.width.zero_()
    got_NP = mask(torch.ones(1, 3), torch.tensor([1.0, 0.5, -1.0]))
    got_NP.sum().backward()
    assert got_NP.tolist() == [[1.0, 0.0, 0.0]]
    assert torch.isfinite(mask.width.grad)


def test_only_the_width_is_learned_at_the_rate_of_the_settings() -> None:
    mask = Gaussian(GaussianMask(width=0.2, learning_rate_factor=0.1), True)
    assert {name: p.item() for name, p in mask.named_parameters()} == pytest.approx({"width": 0.2})
    assert mask.learning_rate_factors() == {"width": 0.1}
    assert Gaussian(GaussianMask(), True).learning_rate_factors() == {}
    assert Unmasked(NoMask(), True).learning_rate_factors() == {}


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("separable", [True, False])
def test_a_cropped_kernel_convolves_like_one_that_is_cut(
    separable: bool, causal: bool, rng: Generator
) -> None:
    config = CKCNNConfig(
        causal=causal, separable=separable, mask=GaussianMask(width=0.2), kernel=MLPConfig()
    )
    conv = CKConv(config, 2, 2, 40, 0, rng).double()
    kernel: Tensor = conv.kernel(40)
    kept = (kernel != 0).flatten(0, -2).any(0).nonzero().flatten().tolist()
    assert kept == list(range(kept[0], kept[-1] + 1))
    assert 3 < len(kept) < kernel.shape[-1] - 3
    cut = kernel[..., kept[0] : kept[-1] + 1]
    x_BCT = torch.randn(3, 2, 40, generator=rng, dtype=torch.float64)
    convolve = causal_conv if causal else centred_conv
    torch.testing.assert_close(convolve(x_BCT, kernel), convolve(x_BCT, cut))
