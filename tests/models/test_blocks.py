from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.model import ACTIVATIONS, BLOCKS, DROPOUTS, NORMS, CKCNNConfig
from ckconv_sweep.models.blocks import Block
from ckconv_sweep.models.masks import Masks

from .masks import SeededMasks

MakeConfig = Callable[..., CKCNNConfig]

ACTIVATION: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda h: h.clamp_min(0.0),
    "gelu": lambda h: 0.5 * h * (1.0 + torch.erf(h / math.sqrt(2.0))),
}


def normalized(norm: str, x_BCT: Tensor) -> Tensor:
    dims = {"layer": (1, 2), "instance": (2,), "channel": (1,)}
    eps = {"layer": 1e-12, "instance": 1e-5, "channel": 1e-5}
    if norm == "none":
        return x_BCT
    centred_BCT = x_BCT - x_BCT.mean(dims[norm], keepdim=True)
    variance_BCT = centred_BCT.square().mean(dims[norm], keepdim=True)
    return centred_BCT / (variance_BCT + eps[norm]).sqrt()


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_is_the_formula_written_out_then_scale_and_shift(norm: str, rng: Generator) -> None:
    module = NORMS.maker(norm)(3).double()
    x_BCT = 5.0 + torch.randn(2, 3, 7, generator=rng).double()
    torch.testing.assert_close(module(x_BCT), normalized(norm, x_BCT))
    if norm != "none":
        scale_C, shift_C = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([0.0, 1.0, -3.0])
        module.load_state_dict({"weight": scale_C, "bias": shift_C})
        expected_BCT = scale_C[:, None] * normalized(norm, x_BCT) + shift_C[:, None]
        torch.testing.assert_close(module(x_BCT), expected_BCT)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 1), (1, 1, 4), (2, 3, 4)])
def test_a_norm_of_a_single_or_constant_value_is_finite_and_so_is_its_gradient(
    norm: str, shape: tuple[int, int, int]
) -> None:
    x_BCT = torch.ones(shape).requires_grad_()
    y_BCT = NORMS.maker(norm)(shape[1])(x_BCT)
    y_BCT.square().sum().backward()
    assert x_BCT.grad is not None
    assert torch.isfinite(y_BCT).all()
    assert torch.isfinite(x_BCT.grad).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_sees_the_future_unless_its_row_says_that_it_is_causal(
    norm: str, rng: Generator
) -> None:
    x_BCT = torch.randn(1, 3, 7, generator=rng).double().requires_grad_()
    NORMS.maker(norm)(3).double()(x_BCT)[0, 0, 2].backward()
    assert x_BCT.grad is not None
    assert (x_BCT.grad[..., 3:].abs().max() == 0.0) == NORMS[norm].causal


def residual(block: Block, x_BCT: Tensor, norm: str, activation: str, masks: Masks) -> Tensor:
    act, shape = ACTIVATION[activation], (2, 4, 9)
    h_BDT = act(normalized(norm, block.conv1(x_BCT))) * masks(3, shape, 0.5)
    h_BDT = act(normalized(norm, block.conv2(h_BDT))) * masks(4, shape, 0.5)
    return act(h_BDT + block.shortcut(x_BCT))


def preactivation(block: Block, x_BCT: Tensor, norm: str, activation: str, masks: Masks) -> Tensor:
    act, shape = ACTIVATION[activation], (2, 4, 9)
    h_BDT = block.conv1(act(normalized(norm, x_BCT))) * masks(3, shape, 0.5)
    h_BDT = block.conv2(act(normalized(norm, h_BDT))) * masks(4, shape, 0.5)
    return h_BDT + x_BCT


def s4(block: Block, x_BCT: Tensor, norm: str, activation: str, masks: Masks) -> Tensor:
    act = ACTIVATION[activation]
    h_BDT = act(block.conv1(normalized(norm, x_BCT))) * masks(3, (2, 4, 9), 0.5)
    weight_DC, bias_D = block.pointwise.weight, block.pointwise.bias
    h_BDT = torch.einsum("dc,bct->bdt", weight_DC, h_BDT) + bias_D[:, None]
    return act(h_BDT) + x_BCT


FORMULAS = {"residual": residual, "preactivation": preactivation, "s4": s4}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_the_formula_written_out(
    name: str, norm: str, activation: str, make_config: MakeConfig, rng: Generator
) -> None:
    config = make_config(block=name, norm=norm, activation=activation, dropout=0.5)
    in_channels = 4 if BLOCKS.maker(name).needs_hidden_channels else 2
    block = BLOCKS.maker(name)(config, in_channels, 9, 1, rng).double()
    x_BCT = torch.randn(2, in_channels, 9, generator=rng).double()
    expected_BDT = FORMULAS[name](block, x_BCT, norm, activation, SeededMasks())
    torch.testing.assert_close(block(x_BCT, SeededMasks())[0], expected_BDT)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_penalty_is_that_of_the_blocks_convolutions(
    name: str, make_config: MakeConfig, rng: Generator
) -> None:
    block = BLOCKS.maker(name)(make_config(block=name), 4, 9, 0, rng)
    penalty = block(torch.randn(2, 4, 9, generator=rng))[1]()
    convs = [module for name, module in block.named_children() if name.startswith("conv")]
    assert len(convs) == (1 if name == "s4" else 2)
    expected = sum(conv.convolved(torch.ones(2, 4, 9))[1]() for conv in convs)
    torch.testing.assert_close(penalty, expected)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_channel_is_dropped_at_all_steps_or_at_none(
    name: str, make_config: MakeConfig, rng: Generator
) -> None:
    config = make_config(block=name, dropout=0.5, dropout_kind="channel")
    masks = SeededMasks()
    BLOCKS.maker(name)(config, 4, 9, 2, rng)(torch.ones(2, 4, 9), masks)
    places = [5] if name == "s4" else [5, 6]
    assert masks.asked == [(place, (2, 4, 1), 0.5) for place in places]


@pytest.mark.parametrize("kind", DROPOUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", BLOCKS)
def test_the_last_step_alone_is_that_of_the_whole_output(
    name: str, norm: str, activation: str, kind: str, make_config: MakeConfig, rng: Generator
) -> None:
    config = make_config(
        block=name, norm=norm, activation=activation, dropout=0.5, dropout_kind=kind
    )
    block = BLOCKS.maker(name)(config, 4, 9, 1, rng).double()
    x_BCT = torch.randn(2, 4, 9, generator=rng).double().requires_grad_()
    seeded = SeededMasks()

    def masks(place: int, shape: tuple[int, ...], rate: float) -> Tensor:
        return seeded(place, (*shape[:2], 9), rate)[..., -shape[2] :]

    whole_BDT, last_BD1 = block(x_BCT, masks)[0], block(x_BCT, masks, last=True)[0]
    torch.testing.assert_close(last_BD1, whole_BDT[..., -1:])
    inputs = (x_BCT, *block.parameters())
    for of_whole, of_last in zip(
        torch.autograd.grad(whole_BDT[..., -1].square().sum(), inputs),
        torch.autograd.grad(last_BD1.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(of_last, of_whole)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_nothing_is_dropped_without_masks_or_at_a_rate_of_zero(
    rate: float, make_config: MakeConfig, rng: Generator
) -> None:
    block = BLOCKS.maker("residual")(make_config(dropout=rate), 4, 9, 1, rng)
    x_BCT = torch.randn(2, 4, 9, generator=rng)
    masks = SeededMasks()
    dropped = not torch.equal(block(x_BCT, masks)[0], block(x_BCT)[0])
    assert dropped == bool(masks.asked) == (rate > 0.0)
