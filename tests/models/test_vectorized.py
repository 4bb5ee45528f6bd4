"""Many models run as one: member e gives the bits that it gives alone, on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from thinned import each_second, first
from torch import Generator, Tensor

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import ARCHITECTURES, ModelConfig
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import describe
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.masks import Masks
from ckconv_sweep.models.sequence_model import EVENLY, Sampling, SequenceModel

from .masks import SeededMasks
from .test_architectures import SETTINGS, changed, described, with_dropout

TRIALS = sorted((Path(__file__).parents[2] / "trials").glob("*.yaml"))
E = 3

Result = dict[str, Tensor]
"""Answers, penalty, and the gradient of each parameter."""


class OfMembers:
    """Masks of each member; ones where a member's rate is zero."""

    def __init__(self, configs: Sequence[ModelConfig]) -> None:
        self.configs = configs

    def of(self, member: int) -> Masks:
        seeded, config = SeededMasks(), self.configs[member]

        def masks(place: int, shape: tuple[int, ...], rate: float) -> Tensor:
            if place < 1_000_000 and (config.input_dropout if place == 0 else config.dropout) == 0:
                return torch.ones(shape)
            return seeded(place + 100 * member, shape, rate)

        return masks

    def __call__(self, place: int, shape: tuple[int, ...], rate: float) -> Tensor:
        drawn = [self.of(member) for member in range(len(self.configs))]
        return torch.stack([masks(place, shape, rate) for masks in drawn])


def result(
    model: SequenceModel,
    parameters: dict[str, Tensor],
    buffers: dict[str, Tensor],
    *arguments: Any,
) -> Result:
    """Of a model with these parameters; with the axis of members where they have it."""

    class WithPenalty(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> tuple[Tensor, Tensor]:
            return self.model.forward_with_penalty(*arguments)

    leaves = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    named = {f"model.{name}": value for name, value in (leaves | buffers).items()}
    answers, penalty = torch.func.functional_call(WithPenalty(), named, ())
    total = answers.square().sum() + 1e-2 * penalty.sum()
    gradients = torch.autograd.grad(
        total, list(leaves.values()), materialize_grads=True, allow_unused=True
    )
    return {
        "answers": answers.detach(),
        "penalty": penalty.detach(),
        **dict(zip(leaves, gradients, strict=True)),
    }


def of_member(sampling: Sampling, member: int) -> Sampling:
    parts = sampling.times_BT, sampling.present_B1T
    return Sampling(sampling.rate, *(None if part is None else part[member] for part in parts))


def assert_each_is_as_alone(
    models: Sequence[SequenceModel],
    inputs_E: Tensor,
    masks: OfMembers | None = None,
    sampling: Sampling = EVENLY,
) -> None:
    parameters, buffers = torch.func.stack_module_state(list(models))
    skeleton = copy.deepcopy(models[0]).to("meta")
    together = result(skeleton, parameters, buffers, inputs_E, masks, sampling)
    for member, model in enumerate(models):
        own = dict(model.named_parameters()), dict(model.named_buffers())
        drawn = None if masks is None else masks.of(member)
        alone = result(model, *own, inputs_E[member], drawn, of_member(sampling, member))
        for name, value in alone.items():
            same = together[name][member].contiguous().view(torch.int32)
            assert torch.equal(value.contiguous().view(torch.int32), same), name


def models_of(configs: Sequence[ModelConfig], kind: Any, length: int) -> list[SequenceModel]:
    return [
        make_model(config, described(kind, length), Generator().manual_seed(seed))
        for seed, config in enumerate(configs)
    ]


def inputs_of(kind: str, length: int, batch: int, channels: int = 2, members: int = E) -> Tensor:
    rng = Generator().manual_seed(3)
    if kind == "text":
        return torch.randint(channels, (members, batch, length), generator=rng)
    return torch.randn(members, batch, channels, length, generator=rng)


VECTORIZING = {name: config for name, config in SETTINGS.items() if config.vectorizes}


def test_only_the_recurrent_networks_do_not_vectorize() -> None:
    alone = {name for name in ARCHITECTURES if not ARCHITECTURES[name].vectorizes}
    assert alone == {"gru", "lstm"}


@pytest.mark.parametrize(
    ("kind", "readout", "length"),
    first(
        2,
        [
            ("classification", "last", 9),
            ("text", "tied", 23),
            ("classification", "last", 23),
            ("text", "tied", 9),
        ],
    ),
)
@pytest.mark.parametrize("config", VECTORIZING.values(), ids=VECTORIZING)
def test_a_member_gives_the_bits_that_it_gives_alone(
    config: ModelConfig, kind: Any, readout: str, length: int
) -> None:
    config = changed(with_dropout(config), readout=readout)
    configs = [config, changed(config, dropout=0.0, input_dropout=0.0), config]
    models = models_of(configs, kind, length)
    inputs = inputs_of(kind, length, 3, 6 if kind == "text" else 2)
    assert_each_is_as_alone(models, inputs, OfMembers(configs))


@pytest.mark.parametrize(("length", "readout"), first(1, [(9, "last"), (23, "mean")]))
@pytest.mark.parametrize("config", VECTORIZING.values(), ids=VECTORIZING)
def test_a_member_at_other_times_and_rates_is_as_alone(
    config: ModelConfig, readout: str, length: int
) -> None:
    models = models_of([changed(config, readout=readout)] * E, "classification", length)
    inputs = inputs_of("classification", length, 2)
    for rate in (0.5, 2.0):
        assert_each_is_as_alone(models, inputs, sampling=Sampling(rate=rate))
    if config.resamples:
        times = torch.rand(E, 2, length, generator=Generator().manual_seed(4)).cumsum(-1)
        assert_each_is_as_alone(models, inputs, sampling=Sampling(times_BT=times))


def published(path: Path) -> tuple[Trial, Description]:
    trial = read_trial(str(path))
    if (name := trial.data.name) in ("uea", "arrays"):
        return trial, Description(name=name, in_channels=6, length=100, outputs=4)
    return trial, describe(trial.data)


@pytest.mark.parametrize("path", each_second(TRIALS), ids=lambda path: path.stem)
def test_a_published_trial_gives_the_bits_that_it_gives_alone(path: Path) -> None:
    """Long sequences are cut, to odd lengths where they are odd."""
    trial, description = published(path)
    if description.length > 200:
        description = replace(description, length=200 + description.length % 2)
    check(trial, description)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smnist_98k", "scifar10_1m", "speech_commands_raw_sr1"])
def test_a_published_trial_gives_them_at_its_own_length(name: str) -> None:
    check(*published(next(path for path in TRIALS if path.stem == name)))


def check(trial: Trial, description: Description) -> None:
    models = [
        make_model(trial.model, description, Generator().manual_seed(seed)) for seed in (0, 1)
    ]
    inputs = inputs_of(description.kind, description.length, 2, description.in_channels, 2)
    assert_each_is_as_alone(models, inputs, OfMembers([trial.model] * 2))
