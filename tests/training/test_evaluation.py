from __future__ import annotations

import pytest
import torch

from ckconv_sweep.data.task import Split
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training.evaluation import BATCH, evaluate

from .tiny import make_task, make_trial


@pytest.fixture
def model() -> SequenceModel:
    settings = make_trial(model={"dropout": 0.5, "input_dropout": 0.5}).model
    return make_model(settings, make_task().description, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [1, 10, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_loss_and_accuracy_are_those_of_the_formula_written_out(
    model: SequenceModel, size: int
) -> None:
    draw = torch.Generator().manual_seed(size)
    targets = torch.randint(2, (size,), generator=draw)
    inputs = torch.randn(size, 1, 6, generator=draw)
    with torch.no_grad():
        logits_BK = model(inputs).double()
    log_share = logits_BK[range(size), targets] - logits_BK.exp().sum(dim=1).log()
    scores = evaluate(model, Split(inputs, targets), "classification")
    assert scores["loss"] == pytest.approx(-log_share.mean().item(), rel=1e-6)
    right = sum(int(row.argmax()) == int(t) for row, t in zip(logits_BK, targets, strict=True))
    assert scores["accuracy"] == right / size


def test_evaluation_changes_nothing_of_the_model_and_keeps_no_gradient(
    model: SequenceModel,
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    split = make_task().validation
    assert evaluate(model, split, "classification") == evaluate(model, split, "classification")
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())
