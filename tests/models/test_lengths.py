"""Sequences of different lengths in one batch: each is answered as if it were there alone, whatever
stands after its end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.model import ModelConfig
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.sequence_model import Sampling, SequenceModel, present

from .test_architectures import SETTINGS, changed, described
from .test_vectorized import VECTORIZING, E, assert_each_is_as_alone, inputs_of, models_of

LENGTHS = torch.tensor([11, 4, 7, 1])
T = 11
OTHERWISE = {"ckcnn-relu-kernel", "ckcnn-legacy-odd-fft"}
"""Whose kernel net takes statistics over all positions, and so gives shorter sequences another
kernel; and the published fault, which depends on the number of steps."""
EXACT = {name: config for name, config in SETTINGS.items() if name not in OTHERWISE}


def model_of(config: ModelConfig, readout: str) -> SequenceModel:
    made = make_model(
        changed(config, readout=readout),
        described("classification", T),
        Generator().manual_seed(1),
    )
    for parameter in made.parameters():  # a kernel of zeros, or a bias of zeros, would hide much
        torch.nn.init.normal_(parameter, 0.0, 0.3, generator=Generator().manual_seed(2))
    return made


def sequences() -> Tensor:
    return torch.randn(len(LENGTHS), 2, T, generator=Generator().manual_seed(3))


@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("config", EXACT.values(), ids=EXACT)
def test_a_sequence_is_answered_as_it_is_alone_whatever_comes_after_its_end(
    config: ModelConfig, readout: str
) -> None:
    model, inputs = model_of(config, readout), sequences()
    together = model(inputs, None, Sampling(present_B1T=present(LENGTHS, inputs)))
    for i, length in enumerate(LENGTHS.tolist()):
        alone = model(inputs[i : i + 1, :, :length])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_a_sequence_with_times_is_answered_as_it_is_alone(causal: bool) -> None:
    model, inputs = model_of(changed(SETTINGS["ckcnn"], causal=causal), "mean"), sequences()
    gaps = torch.rand(len(LENGTHS), T, generator=Generator().manual_seed(4))
    sampling = Sampling(times_BT=gaps.cumsum(-1), present_B1T=present(LENGTHS, inputs))
    together = model(inputs, None, sampling)
    for i, length in enumerate(LENGTHS.tolist()):
        own = Sampling(times_BT=gaps[i : i + 1, :length].cumsum(-1))
        alone = model(inputs[i : i + 1, :, :length], None, own)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ckcnn", "ckcnn-centred", "norm-instance", "tcn", "gru"])
def test_no_gradient_comes_from_what_is_after_the_end(name: str) -> None:
    model, inputs = model_of(SETTINGS[name], "mean"), sequences().requires_grad_()
    there = present(LENGTHS, inputs)
    model(inputs, None, Sampling(present_B1T=there)).square().sum().backward()
    assert inputs.grad is not None
    assert (inputs.grad * (1 - there)).abs().max() < 1e-7 * inputs.grad.abs().max()


def test_sequences_of_full_length_are_answered_as_without_lengths() -> None:
    inputs, whole = sequences(), torch.full_like(LENGTHS, T)
    for name in ("ckcnn", "ckcnn-centred", "norm-instance", "block-s4"):
        model = model_of(SETTINGS[name], "last")
        found = model(inputs, None, Sampling(present_B1T=present(whole, inputs)))
        torch.testing.assert_close(found, model(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", VECTORIZING.values(), ids=VECTORIZING)
def test_a_member_with_lengths_gives_the_bits_that_it_gives_alone(config: Any) -> None:
    models = models_of([changed(config, readout="mean")] * E, "classification", 9)
    inputs = inputs_of("classification", 9, 2)
    lengths = torch.tensor([[9, 4], [1, 6], [5, 2]])
    assert_each_is_as_alone(models, inputs, sampling=Sampling(present_B1T=present(lengths, inputs)))
