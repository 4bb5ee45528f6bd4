from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.trial import Kernel, Model
from ckconv_sweep.models.ckcnn import CKCNN

MakeModel = Callable[..., CKCNN]
REFERENCE = Path(__file__).parents[1] / "reference" / "small_ckcnn.npz"


class SeededMasks:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[int, ...], float]] = []

    def __call__(self, place: int, shape: tuple[int, ...], rate: float) -> Tensor:
        self.asked.append((place, shape, rate))
        # Of numpy, because torch.func.vmap lets nobody draw inside it.
        draws = np.random.default_rng(place).random(shape, dtype=np.float32)
        return torch.from_numpy(draws >= rate) / (1.0 - rate)


@pytest.fixture
def reference() -> Iterator[dict[str, Tensor]]:
    with np.load(REFERENCE, allow_pickle=False) as arrays:
        yield {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture
def reference_model(reference: dict[str, Tensor], make_model: MakeModel) -> CKCNN:
    model = make_model(kernel__omega_0=7.5).double()
    model.load_state_dict(
        {k.removeprefix("state/"): v for k, v in reference.items() if k.startswith("state/")}
    )
    return model


@pytest.mark.parametrize("length", [31, 32])
def test_block_and_network_agree_with_the_formula_written_out(
    length: int, reference: dict[str, Tensor], reference_model: CKCNN
) -> None:
    def agree(got: Tensor, name: str) -> None:
        torch.testing.assert_close(got, reference[f"{length}/{name}"], rtol=1e-10, atol=1e-10)

    x_BCT, first = reference[f"{length}/x"], reference_model.blocks[0]
    with torch.no_grad():
        agree(first.conv1.kernel(length), "kernel")
        agree(first(x_BCT)[0], "block")
        agree(reference_model(x_BCT), "logits")
        agree(reference_model.forward_with_penalty(x_BCT)[1], "penalty")


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("in_channels", [1, 4])
def test_every_dropout_place_is_asked_once_in_order(
    blocks: int, in_channels: int, make_config: Callable[..., Model], rng: Generator
) -> None:
    config = make_config(blocks=blocks, dropout=0.25, input_dropout=0.5)
    masks = SeededMasks()
    CKCNN(config, in_channels, 3, rng)(torch.ones(2, in_channels, 7), masks)
    assert masks.asked == [(0, (2, in_channels, 7), 0.5)] + [
        (place, (2, 4, 7), 0.25) for place in range(1, 2 * blocks + 1)
    ]


@pytest.mark.parametrize(
    ("changes", "places"),
    [({"dropout": 0.1}, [1, 2, 3, 4]), ({"input_dropout": 0.1}, [0]), ({}, [])],
)
def test_a_place_with_rate_zero_is_never_asked(
    changes: dict[str, Any], places: list[int], make_model: MakeModel
) -> None:
    masks = SeededMasks()
    make_model(**changes)(torch.ones(2, 2, 7), masks)
    assert [place for place, _, _ in masks.asked] == places


def test_masks_multiply_after_each_relu(make_model: MakeModel) -> None:
    block = make_model(dropout=0.5).blocks[0]
    masks = SeededMasks()
    x_BCT = torch.randn(2, 2, 7, generator=torch.Generator().manual_seed(3))
    shape = (2, 4, 7)
    h_BDT = torch.relu(block.norm1(block.conv1(x_BCT))) * masks(1, shape, 0.5)
    h_BDT = torch.relu(block.norm2(block.conv2(h_BDT))) * masks(2, shape, 0.5)
    torch.testing.assert_close(block(x_BCT, masks)[0], torch.relu(h_BDT + block.shortcut(x_BCT)))


def test_masks_change_the_logits_and_no_masks_mean_evaluation(make_model: MakeModel) -> None:
    model = make_model(dropout=0.5, input_dropout=0.5)
    x_BCT = torch.randn(2, 2, 7, generator=torch.Generator().manual_seed(3))
    assert torch.equal(model.train()(x_BCT), model.eval()(x_BCT))
    assert torch.equal(model(x_BCT, SeededMasks()), model(x_BCT, SeededMasks()))
    assert not torch.allclose(model(x_BCT, SeededMasks()), model(x_BCT))


def test_the_penalty_is_the_sum_over_all_convolutions(make_model: MakeModel) -> None:
    model = make_model()
    x_BCT = torch.randn(2, 2, 7, generator=torch.Generator().manual_seed(3))
    logits_BK, penalty = model.forward_with_penalty(x_BCT)
    convs = [conv for block in model.blocks for conv in (block.conv1, block.conv2)]
    assert penalty.shape == ()
    torch.testing.assert_close(penalty, sum(conv.penalty(conv.kernel(7)) for conv in convs))
    assert torch.equal(logits_BK, model(x_BCT))


def test_building_and_running_leave_the_global_random_state_alone(make_model: MakeModel) -> None:
    before = torch.get_rng_state()
    for activation in ("sine", "relu"):
        make_model(kernel__activation=activation, dropout=0.5)(torch.ones(2, 2, 7)).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_seed_gives_the_same_model_whatever_the_global_random_state(
    make_model: MakeModel,
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = make_model(seed=5).state_dict()
        torch.manual_seed(2)
        second = make_model(seed=5).state_dict()
    other = make_model(seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["readout.weight"], other["readout.weight"])


@pytest.mark.parametrize("activation", ["sine", "relu"])
@pytest.mark.parametrize("in_channels", [1, 4])
def test_every_parameter_is_set_from_the_generator_and_none_without_it(
    activation: str, in_channels: int, make_config: Callable[..., Model], rng: Generator
) -> None:
    config = make_config(kernel__activation=activation)
    for parameter in CKCNN(config, in_channels, 3, rng).parameters():
        assert torch.isfinite(parameter).all()
    for name, parameter in CKCNN(config, in_channels, 3, None).named_parameters():
        assert "norm" in name or torch.isnan(parameter).all()


def test_the_readout_starts_small_and_the_shortcut_as_in_pytorch(rng: Generator) -> None:
    model = CKCNN(Model(hidden_channels=64), 16, 50, rng)
    assert model.readout.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert model.readout.bias.abs().max() == 0.0
    shortcut = model.blocks[0].shortcut
    assert 0.2 < shortcut.weight.abs().max() <= 0.25  # 1 / sqrt(16)
    assert shortcut.weight.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.1)
    assert 0.15 < shortcut.bias.abs().max() <= 0.25


def test_a_forward_pass_changes_nothing_and_two_lengths_do_not_disturb_each_other(
    make_model: MakeModel,
) -> None:
    model = make_model(kernel__activation="relu", kernel__norm="batch")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    short_BCT, long_BCT = torch.ones(2, 2, 9), torch.ones(2, 2, 16)
    first = model(short_BCT, SeededMasks())
    model(long_BCT)
    assert torch.equal(model(short_BCT, SeededMasks()), first)
    assert torch.equal(
        model(long_BCT), make_model(kernel__activation="relu", kernel__norm="batch")(long_BCT)
    )
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(buffers[name], value) for name, value in model.named_buffers())


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_shortest_sequences_give_finite_logits(length: int, make_model: MakeModel) -> None:
    assert torch.isfinite(make_model()(torch.ones(2, 2, length))).all()


def test_a_sequence_does_not_depend_on_the_others_of_its_batch(make_model: MakeModel) -> None:
    model = make_model()
    x_BCT = torch.randn(3, 2, 13, generator=torch.Generator().manual_seed(3))
    alone = torch.cat([model(x_BCT[b : b + 1]) for b in range(3)])
    torch.testing.assert_close(model(x_BCT), alone)


@pytest.mark.parametrize(
    ("activation", "norm"), [("sine", "none"), ("swish", "layer"), ("relu", "batch")]
)
def test_stacked_models_give_each_model_its_own_logits_and_gradients(
    activation: str, norm: str, make_model: MakeModel
) -> None:
    kernel = {"kernel__activation": activation, "kernel__norm": norm}
    models = [
        make_model(seed=seed, kernel__omega_0=omega_0, dropout=0.3, **kernel).double()
        for seed, omega_0 in [(1, 7.5), (2, 12.25)]
    ]
    x_EBCT = torch.randn(2, 3, 2, 11, generator=torch.Generator().manual_seed(3)).double()
    skeleton = copy.deepcopy(models[0]).to("meta")

    def loss(params: Any, buffers: Any, x_BCT: Tensor) -> tuple[Tensor, Tensor]:
        model = torch.func.functional_call
        logits_BK = model(skeleton, (params, buffers), (x_BCT, SeededMasks()))
        return logits_BK.square().sum(), logits_BK

    params, buffers = torch.func.stack_module_state(models)
    gradients, logits_EBK = torch.func.vmap(torch.func.grad(loss, has_aux=True))(
        params, buffers, x_EBCT
    )
    for member, model in enumerate(models):
        alone_BK = model(x_EBCT[member], SeededMasks())
        torch.testing.assert_close(logits_EBK[member], alone_BK)
        alone_BK.square().sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(
                gradients[name][member], parameter.grad, rtol=1e-7, atol=1e-9
            )


def test_the_penalty_can_be_stacked_too(make_model: MakeModel) -> None:
    models = [make_model(seed=seed) for seed in (1, 2)]
    x_BCT = torch.ones(2, 2, 9)

    class Penalty(torch.nn.Module):
        def __init__(self, model: CKCNN) -> None:
            super().__init__()
            self.model = model

        def forward(self, x_BCT: Tensor) -> Tensor:
            return self.model.forward_with_penalty(x_BCT)[1]

    wrapped = [Penalty(model) for model in models]
    params, buffers = torch.func.stack_module_state(wrapped)
    stacked_E = torch.func.vmap(
        lambda p, b: torch.func.functional_call(wrapped[0], (p, b), (x_BCT,))
    )(params, buffers)
    alone = torch.stack([model(x_BCT) for model in wrapped])
    torch.testing.assert_close(stacked_E, alone)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("length", [97, 128])
def test_a_gpu_gives_the_logits_and_gradients_of_the_cpu(length: int) -> None:
    config = Model(hidden_channels=8, kernel=Kernel(omega_0=20.0))
    x_BCT = torch.randn(4, 3, length, generator=torch.Generator().manual_seed(3)).double()
    results = {}
    for device in ("cpu", "cuda"):
        model = CKCNN(config, 3, 5, torch.Generator().manual_seed(0)).double().to(device)
        logits_BK, penalty = model.forward_with_penalty(x_BCT.to(device))
        (logits_BK.square().sum() + penalty).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        results[device] = [logits_BK.detach(), *gradients]
    for cpu, cuda in zip(results["cpu"], results["cuda"], strict=True):
        torch.testing.assert_close(cuda.cpu(), cpu, rtol=1e-8, atol=1e-8)
