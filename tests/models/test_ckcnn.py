from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import CKCNNConfig, GaussianMask, MLPConfig
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.models.sequence_model import Pointwise, Sampling

from .masks import SeededMasks

MakeConfig = Callable[..., CKCNNConfig]
MakeDescription = Callable[..., Description]
MakeModel = Callable[..., CKCNN]
REFERENCE = Path(__file__).parents[1] / "reference" / "small_ckcnn.npz"


@pytest.fixture
def reference() -> Iterator[dict[str, Tensor]]:
    with np.load(REFERENCE, allow_pickle=False) as arrays:
        yield {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.mark.parametrize("length", [31, 32])
def test_block_and_network_agree_with_the_formula_written_out(
    length: int, reference: dict[str, Tensor], make_model: MakeModel
) -> None:
    def agree(got: Tensor, name: str) -> None:
        torch.testing.assert_close(got, reference[f"{length}/{name}"], rtol=1e-10, atol=1e-10)

    model = make_model(length=length, kernel__omega_0=7.5).double()
    model.load_state_dict(
        {k.removeprefix("state/"): v for k, v in reference.items() if k.startswith("state/")}
    )
    x_BCT, first = reference[f"{length}/x"], model.blocks[0]
    with torch.no_grad():
        agree(first.conv1.kernel(length), "kernel")
        agree(first(x_BCT)[0], "block")
        agree(model(x_BCT), "logits")
        agree(model.forward_with_penalty(x_BCT)[1], "penalty")


def test_the_order_of_the_draws_is_blocks_then_readout(
    make_config: MakeConfig, make_description: MakeDescription
) -> None:
    """Another order would give every seed other weights."""
    names = [name for name, _ in CKCNN(make_config(), make_description(), None).named_parameters()]
    assert list(
        dict.fromkeys(".".join(name.split(".")[:3]) for name in names if "norm" not in name)
    ) == [
        "blocks.0.conv1",
        "blocks.0.conv2",
        "blocks.0.shortcut",
        "blocks.1.conv1",
        "blocks.1.conv2",
        "readout.weight",
        "readout.bias",
    ]


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("in_channels", [1, 4])
def test_every_dropout_place_is_asked_once_and_values_of_the_blocks_in_order(
    blocks: int,
    in_channels: int,
    make_config: MakeConfig,
    make_description: MakeDescription,
    rng: Generator,
) -> None:
    config = make_config(blocks=blocks, dropout=0.25, input_dropout=0.5, weight_dropout=0.125)
    masks = SeededMasks()
    description = make_description(in_channels=in_channels)
    CKCNN(config, description, rng)(torch.ones(2, in_channels, 9), masks)
    kernels = [asked for asked in masks.asked if asked[0] >= 1_000_000]
    assert kernels == [
        (1_000_000 + n, (4, in_channels if n == 0 else 4, 9), 0.125) for n in range(2 * blocks)
    ]
    assert [asked for asked in masks.asked if asked not in kernels] == [
        (0, (2, in_channels, 9), 0.5)
    ] + [
        # The last one drops from the last step alone: the readout sees no other.
        (place, (2, 4, 1 if place == 2 * blocks else 9), 0.25)
        for place in range(1, 2 * blocks + 1)
    ]


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({"dropout": 0.1}, [1, 2, 3, 4]),
        ({"input_dropout": 0.1}, [0]),
        ({"weight_dropout": 0.1}, [1_000_000, 1_000_001, 1_000_002, 1_000_003]),
        ({}, []),
    ],
)
def test_a_place_with_rate_zero_is_never_asked(
    changes: dict[str, Any], places: list[int], make_model: MakeModel
) -> None:
    masks = SeededMasks()
    make_model(**changes)(torch.ones(2, 2, 7), masks)
    assert [place for place, _, _ in masks.asked] == places


def test_the_penalty_is_the_sum_over_all_convolutions(make_model: MakeModel) -> None:
    model = make_model()
    x_BCT = torch.randn(2, 2, 9, generator=torch.Generator().manual_seed(3))
    logits_BK, penalty = model.forward_with_penalty(x_BCT)
    convs = [conv for block in model.blocks for conv in (block.conv1, block.conv2)]
    norms = [torch.linalg.vector_norm(v) for conv in convs for v in (conv.kernel(9), conv.bias)]
    assert penalty.shape == ()
    torch.testing.assert_close(penalty, torch.stack(norms).sum())
    assert torch.equal(logits_BK, model(x_BCT))


def test_the_sampling_reaches_every_convolution(make_model: MakeModel) -> None:
    model = make_model(length=12).double()
    x_BCT = torch.randn(2, 2, 6, generator=torch.Generator().manual_seed(3)).double()
    sampling = Sampling(rate=2.0)
    h_BDT = x_BCT
    for block in model.blocks:
        h_BDT, _ = block(h_BDT, None, sampling)
    expected_BK = h_BDT[..., -1] @ model.readout.weight.T + model.readout.bias
    torch.testing.assert_close(model(x_BCT, None, sampling), expected_BK)
    assert not torch.allclose(model(x_BCT, None, sampling), model(x_BCT))


@pytest.mark.parametrize("block", ["preactivation", "s4"])
def test_a_block_that_begins_with_a_norm_never_sees_the_raw_channels(
    block: str, make_config: MakeConfig, make_description: MakeDescription, rng: Generator
) -> None:
    """A norm over the channels of a step leaves nothing of a single one."""
    config = make_config(block=block, norm="channel")
    model = CKCNN(config, make_description(in_channels=1), rng)
    assert isinstance(model.encoder, Pointwise)
    x_BCT = torch.randn(2, 1, 9, generator=rng)
    assert not torch.allclose(model(x_BCT), model(2.0 * x_BCT))


def test_learning_rate_factors_stand_under_the_full_names(make_model: MakeModel) -> None:
    model = make_model(
        blocks=1,
        mask=GaussianMask(learning_rate_factor=0.1),
        kernel__learn_omega_0=True,
        kernel__omega_0_learning_rate_factor=0.5,
    )
    assert model.learning_rate_factors() == {
        "blocks.0.conv1.kernel_net.omega_0": 0.5,
        "blocks.0.conv1.mask.width": 0.1,
        "blocks.0.conv2.kernel_net.omega_0": 0.5,
        "blocks.0.conv2.mask.width": 0.1,
    }
    assert make_model().learning_rate_factors() == {}


@pytest.mark.parametrize("activation", ["sine", "relu"])
@pytest.mark.parametrize("in_channels", [1, 4])
def test_every_parameter_is_set_from_the_generator_and_none_without_it(
    activation: str,
    in_channels: int,
    make_config: MakeConfig,
    make_description: MakeDescription,
    rng: Generator,
) -> None:
    config = make_config(kernel__activation=activation)
    description = make_description(in_channels=in_channels)
    for parameter in CKCNN(config, description, rng).parameters():
        assert torch.isfinite(parameter).all()
    for name, parameter in CKCNN(config, description, None).named_parameters():
        assert "norm" in name or torch.isnan(parameter).all()


def test_the_readout_starts_small_and_the_shortcut_as_in_pytorch(
    make_description: MakeDescription, rng: Generator
) -> None:
    description = make_description(in_channels=16, outputs=50)
    model = CKCNN(CKCNNConfig(hidden_channels=64), description, rng)
    assert model.readout.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert model.readout.bias.abs().max() == 0.0
    shortcut = model.blocks[0].shortcut
    assert 0.2 < shortcut.weight.abs().max() <= 0.25  # 1 / sqrt(16)
    assert shortcut.weight.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.1)
    assert 0.15 < shortcut.bias.abs().max() <= 0.25


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("length", [97, 128])
def test_a_gpu_gives_the_logits_and_gradients_of_the_cpu(
    length: int, make_description: MakeDescription
) -> None:
    config = CKCNNConfig(hidden_channels=8, kernel=MLPConfig(omega_0=20.0))
    description = make_description(in_channels=3, outputs=5, length=length)
    x_BCT = torch.randn(4, 3, length, generator=torch.Generator().manual_seed(3)).double()
    results = {}
    for device in ("cpu", "cuda"):
        model = CKCNN(config, description, torch.Generator().manual_seed(0)).double().to(device)
        logits_BK, penalty = model.forward_with_penalty(x_BCT.to(device))
        (logits_BK.square().sum() + penalty).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        results[device] = [logits_BK.detach(), *gradients]
    for cpu, cuda in zip(results["cpu"], results["cuda"], strict=True):
        torch.testing.assert_close(cuda.cpu(), cpu, rtol=1e-8, atol=1e-8)
