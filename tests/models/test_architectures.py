"""What every architecture must do, whatever its settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.data import Description, Kind
from ckconv_sweep.config.model import (
    ACTIVATIONS,
    ARCHITECTURES,
    BLOCKS,
    DROPOUTS,
    KERNEL_NETS,
    MASKS,
    NORMS,
    CKCNNConfig,
    GaussianMask,
    GRUConfig,
    LRUConfig,
    LSTMConfig,
    MLPConfig,
    ModelConfig,
    TCNConfig,
)
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.parameters import count_parameters
from ckconv_sweep.models.sequence_model import Sampling, SequenceModel

from .masks import SeededMasks


def ckcnn(**changes: Any) -> CKCNNConfig:
    kernel = {"kernel": MLPConfig(hidden_channels=5, omega_0=7.5)}
    return CKCNNConfig(**{"hidden_channels": 4, **kernel, **changes})


def learned(**changes: Any) -> MLPConfig:
    return MLPConfig(hidden_channels=5, learn_omega_0=True, **changes)


WIDE: dict[str, dict[str, Any]] = {"gaussian": {"width": 0.5}}
"""So that a kernel sees more of these short sequences than the present."""
SETTINGS: dict[str, ModelConfig] = {
    **{name: row(hidden_channels=4) for name, row in ARCHITECTURES.items()},
    **{f"block-{name}": ckcnn(block=name, norm="channel") for name in BLOCKS},
    **{f"norm-{name}": ckcnn(norm=name) for name in NORMS},
    **{f"activation-{name}": ckcnn(activation=name, norm="channel") for name in ACTIVATIONS},
    **{f"dropout-{name}": ckcnn(dropout_kind=name, blocks=1) for name in DROPOUTS},
    **{
        f"mask-{name}": ckcnn(mask=row(**WIDE.get(name, {})), norm="none")
        for name, row in MASKS.items()
    },
    **{
        f"kernel-{name}": ckcnn(kernel=row(hidden_channels=6), norm="channel")
        for name, row in KERNEL_NETS.items()
    },
    "ckcnn-1-block": ckcnn(blocks=1, norm="none"),
    "ckcnn-3-blocks": ckcnn(blocks=3, bias=False),
    "ckcnn-s4": ckcnn(block="s4", norm="channel", activation="gelu", dropout_kind="channel"),
    "ckcnn-separable": ckcnn(separable=True, norm="none"),
    "ckcnn-centred": ckcnn(causal=False),
    "ckcnn-centred-separable": ckcnn(causal=False, separable=True, block="s4"),
    "ckcnn-gaussian-centred": ckcnn(mask=GaussianMask(width=0.5), causal=False),
    "ckcnn-learned-omega": ckcnn(kernel=learned(normalize_variance=True)),
    "ckcnn-relu-kernel": ckcnn(
        kernel=MLPConfig(hidden_channels=5, activation="relu", norm="batch"), norm="channel"
    ),
    "ckcnn-legacy-odd-fft": ckcnn(legacy_odd_fft=True),
    "tcn-wide": TCNConfig(hidden_channels=2, blocks=70, kernel_size=2),
    "gru-2-layers": GRUConfig(hidden_channels=2, layers=2),
    "lstm-3-layers": LSTMConfig(hidden_channels=4, layers=3),
    "lru-real": LRUConfig(hidden_channels=2, state_channels=3, phase_max=0.0, blocks=3),
}
"""Settings that stand for all: every row of every table, and what is a path of its own."""

every_setting = pytest.mark.parametrize("config", SETTINGS.values(), ids=SETTINGS)

ANSWERS: list[tuple[Kind, str, tuple[int, ...]]] = [
    ("classification", "last", (2, 3)),
    ("classification", "mean", (2, 3)),
    ("binary", "last", (2,)),
    ("binary", "mean", (2,)),
    ("regression", "last", (2,)),
    ("regression", "mean", (2,)),
    ("per_step", "every_step", (2, 3, 9)),
    ("text", "every_step", (2, 6, 9)),
    ("text", "tied", (2, 6, 9)),
]
"""What is asked, the readout, and the shape of the answers to 2 sequences of 9 steps."""


def changed(config: ModelConfig, **changes: Any) -> ModelConfig:
    return type(config)(**dict(config) | changes)


def described(kind: Kind = "classification", length: int = 9) -> Description:
    channels, outputs = {"text": (6, 6), "binary": (2, 1), "regression": (2, 1)}.get(kind, (2, 3))
    return Description(name="x", kind=kind, in_channels=channels, length=length, outputs=outputs)


def made(config: ModelConfig, seed: int = 1, kind: Kind = "classification") -> SequenceModel:
    return make_model(config, described(kind), Generator().manual_seed(seed))


def sequences(kind: Kind = "classification", length: int = 9, batch: int = 2) -> Tensor:
    rng = Generator().manual_seed(3)
    if kind == "text":
        return torch.randint(6, (batch, length), generator=rng)
    return torch.randn(batch, 2, length, generator=rng)


def with_dropout(config: ModelConfig) -> ModelConfig:
    rates = {"dropout": 0.5, "input_dropout": 0.25}
    return changed(config, **rates | ({"weight_dropout": 0.125} if config.name == "ckcnn" else {}))


@every_setting
@pytest.mark.parametrize(("kind", "readout", "shape"), ANSWERS)
def test_the_answers_have_the_shape_of_what_is_asked(
    kind: Kind, readout: str, shape: tuple[int, ...], config: ModelConfig
) -> None:
    model = made(changed(config, readout=readout), kind=kind)
    answers, penalty = model.forward_with_penalty(sequences(kind))
    assert answers.shape == shape
    assert torch.isfinite(answers).all()
    assert penalty.shape == ()
    assert (penalty > 0.0) == (config.name == "ckcnn")


@every_setting
def test_a_step_sees_the_steps_before_it_and_the_future_only_where_the_settings_say_so(
    config: ModelConfig,
) -> None:
    looks_ahead = config.to_be_causal is not None
    model = made(changed(config, readout="every_step"), kind="per_step").double()
    x_BCT = sequences().double().requires_grad_()
    model(x_BCT)[:, 0, 4].sum().backward()
    assert x_BCT.grad is not None
    steps_T = x_BCT.grad.abs().amax((0, 1))
    assert steps_T[3] > 1e-12
    assert steps_T[4] > 1e-12
    assert (steps_T[5:].max() > 1e-12) == looks_ahead


@every_setting
def test_a_sequence_does_not_depend_on_the_others_of_its_batch(config: ModelConfig) -> None:
    model, x_BCT = made(config).double(), sequences(batch=3).double()
    alone = torch.cat([model(x_BCT[b : b + 1]) for b in range(3)])
    torch.testing.assert_close(model(x_BCT), alone)


@every_setting
def test_the_weights_follow_from_the_seed_alone(config: ModelConfig) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = made(config, seed=5).state_dict()
        torch.manual_seed(2)
        second = made(config, seed=5).state_dict()
    other = made(config, seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["readout.weight"], other["readout.weight"])
    drawn = [name for name, value in first.items() if value.unique().numel() > 1]
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


@every_setting
def test_building_and_running_leave_the_global_random_state_alone(config: ModelConfig) -> None:
    before = torch.get_rng_state()
    model = made(with_dropout(config))
    model(sequences(), SeededMasks()).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


@every_setting
@pytest.mark.parametrize("kind", ["classification", "text"])
def test_every_parameter_is_set_and_gets_a_finite_gradient(config: ModelConfig, kind: Kind) -> None:
    model = made(changed(config, readout="every_step" if kind == "text" else "mean"), kind=kind)
    answers, penalty = model.forward_with_penalty(sequences(kind))
    (answers.square().sum() + penalty).backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter).all(), name
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@every_setting
def test_without_a_generator_what_would_be_drawn_is_unset(config: ModelConfig) -> None:
    model = make_model(config, described(), None)
    drawn = {name for name, value in made(config).named_parameters() if value.unique().numel() > 1}
    unset = {name for name, value in model.named_parameters() if torch.isnan(value).all()}
    assert drawn <= unset


@every_setting
def test_a_forward_pass_changes_nothing_and_two_lengths_do_not_disturb_each_other(
    config: ModelConfig,
) -> None:
    model = made(with_dropout(config))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    short_BCT, long_BCT = sequences(length=7), sequences(length=16)
    first = model(short_BCT, SeededMasks())
    model(long_BCT)
    assert torch.equal(model(short_BCT, SeededMasks()), first)
    assert torch.equal(model.eval()(long_BCT), made(config)(long_BCT))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(buffers[name], value) for name, value in model.named_buffers())


@every_setting
@pytest.mark.parametrize("length", [1, 2, 3, 8, 10, 40])
def test_sequences_of_another_length_than_in_training_can_be_read(
    length: int, config: ModelConfig
) -> None:
    assert torch.isfinite(made(config)(sequences(length=length))).all()


@every_setting
@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_sequences_of_another_sampling_rate_can_be_read(rate: float, config: ModelConfig) -> None:
    model, x_BCT = made(config), sequences(length=round(9 / rate))
    answers = model(x_BCT, None, Sampling(rate=rate))
    assert torch.isfinite(answers).all()
    if not config.resamples:
        assert torch.equal(answers, model(x_BCT))


@every_setting
def test_times_of_steps_are_read_or_refused(config: ModelConfig) -> None:
    sampling = Sampling(times_BT=torch.arange(9.0).expand(2, 9))
    if config.resamples:
        assert torch.isfinite(made(config)(sequences(), None, sampling)).all()
    else:
        with pytest.raises(ConfigError, match="cannot use time stamps"):
            made(config)(sequences(), None, sampling)


@every_setting
def test_masks_are_asked_for_once_a_place_and_only_where_the_rate_is_not_zero(
    config: ModelConfig,
) -> None:
    for rates in ({}, {"dropout": 0.5}, {"input_dropout": 0.5}, {"weight_dropout": 0.5}):
        if set(rates) <= set(type(config).model_fields):
            masks = SeededMasks()
            made(changed(config, **rates))(sequences(), masks)
            places = [place for place, _, _ in masks.asked]
            assert len(set(places)) == len(places)
            assert all(rate == 0.5 for _, _, rate in masks.asked)
            one_layer = getattr(config, "layers", 2) == 1 and "dropout" in rates
            assert bool(places) == (bool(rates) and not one_layer)


@every_setting
def test_masks_change_the_answers_and_no_masks_mean_evaluation(config: ModelConfig) -> None:
    model, x_BCT = made(with_dropout(config)), sequences()
    assert torch.equal(model.train()(x_BCT), model.eval()(x_BCT))
    model.train()
    assert torch.equal(model(x_BCT, SeededMasks()), model(x_BCT, SeededMasks()))
    assert not torch.allclose(model(x_BCT, SeededMasks()), model(x_BCT))


@every_setting
@pytest.mark.parametrize("kind", ["classification", "text"])
def test_the_count_is_that_of_the_model_itself(kind: Kind, config: ModelConfig) -> None:
    config = changed(config, readout="tied" if kind == "text" else "last")
    model = made(config, kind=kind)
    assert count_parameters(config, described(kind)) == sum(p.numel() for p in model.parameters())


@every_setting
@pytest.mark.parametrize("kind", ["classification", "text"])
def test_a_state_makes_another_model_the_same(kind: Kind, config: ModelConfig) -> None:
    config = changed(config, readout="tied" if kind == "text" else "last")
    model, other = made(config, kind=kind), make_model(config, described(kind), None)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(sequences(kind)), model(sequences(kind)))


@every_setting
def test_learning_rate_factors_are_those_of_parameters(config: ModelConfig) -> None:
    model = made(config)
    assert set(model.learning_rate_factors()) <= {name for name, _ in model.named_parameters()}
