from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training.vectorized import Layout, Vectorized

from .tiny import make_task, make_trial

TASK = make_task()
TRIAL = make_trial(model={"kernel": {"hidden_channels": 3, "learn_omega_0": False}})


def models(number: int) -> list[SequenceModel]:
    seeds = (torch.Generator().manual_seed(seed) for seed in range(number))
    return [make_model(TRIAL.model, TASK.description, seed) for seed in seeds]


def rows(several: list[SequenceModel]) -> tuple[Tensor, Tensor]:
    """Weights and buffers."""
    weights = [Layout(named := dict(m.named_parameters())).row(named) for m in several]
    buffers = [Layout(named := dict(m.named_buffers())).row(named) for m in several]
    return torch.cat(weights), torch.cat(buffers)


def test_a_layout_puts_tensors_in_a_row_and_finds_them_again() -> None:
    named = {"a": torch.rand(2, 3), "b": torch.tensor(5.0), "c": torch.rand(1)}
    layout = Layout(named)
    row = layout.row(named)
    assert row.shape == (1, 8)
    assert all(torch.equal(layout.named(row)[name], value) for name, value in named.items())
    row.zero_()
    assert named["b"] == 5.0
    assert torch.equal(layout.factors({"b": 3.0})[0], torch.tensor([1.0] * 6 + [3.0, 1.0]))
    assert Layout({}).row({}).shape == (1, 0)
    with pytest.raises(KeyError):
        layout.row({"a": named["a"], "b": named["b"]})


def test_answers_penalties_and_gradients_are_those_of_each_model_called_by_itself() -> None:
    several = models(3)
    weights, buffers = rows(several)
    vectorized = Vectorized(models(1)[0])
    vectorized.put(weights, buffers, trained=True)
    inputs = torch.stack([TASK.train.inputs[first : first + 4] for first in (0, 5, 9)])
    answers, penalties = vectorized(inputs, penalized=True)
    assert penalties is not None
    gradients = vectorized.gradients(answers.square().sum() + penalties.sum())
    for e, model in enumerate(several):
        answer, penalty = model.forward_with_penalty(inputs[e])
        (answer.square().sum() + penalty).backward()
        torch.testing.assert_close(answers[e], answer)
        torch.testing.assert_close(penalties[e], penalty)
        plain = torch.cat([p.grad.flatten() for p in model.parameters()])
        torch.testing.assert_close(gradients[e], plain)


def test_rows_that_are_changed_in_place_are_the_weights_of_the_next_call() -> None:
    weights, buffers = rows(models(2))
    vectorized = Vectorized(models(1)[0])
    vectorized.put(weights, buffers, trained=False)
    before, penalty = vectorized(TASK.train.inputs[None, :4].expand(2, -1, -1, -1))
    assert penalty is None
    weights[0] = weights[1]
    after, _ = vectorized(TASK.train.inputs[None, :4].expand(2, -1, -1, -1))
    assert torch.equal(after[0], after[1])
    assert torch.equal(after[1], before[1])
    assert not torch.equal(before[0], before[1])


def test_the_model_whose_code_is_run_keeps_its_own_weights_also_when_it_fails() -> None:
    (model,) = models(1)
    own = {name: id(parameter) for name, parameter in model.named_parameters()}
    vectorized = Vectorized(model)
    vectorized.put(*rows(models(2)), trained=True)
    vectorized(TASK.train.inputs[None, :4].expand(2, -1, -1, -1))
    with pytest.raises((RuntimeError, ValueError)):
        vectorized(torch.zeros(2, 4, 5, 6))
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == own
