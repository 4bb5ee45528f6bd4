"""Answers that are kept are those that are scored, whatever there is room for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from ckconv_sweep.config.data import Description, Kind
from ckconv_sweep.config.model import ARCHITECTURES
from ckconv_sweep.data.given import Given, Group, of_split
from ckconv_sweep.data.task import IGNORED, Split
from ckconv_sweep.errors import OutOfMemory
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training import prediction
from ckconv_sweep.training.evaluation import evaluate
from ckconv_sweep.training.prediction import all_answers, answers, probabilities, rows, scores
from ckconv_sweep.training.seeding import generator
from ckconv_sweep.training.vectorized import Vectorized

from .tiny import make_trial

STEPS, SEQUENCES = 12, 530  # three batches
OUTPUTS: dict[Kind, int] = {
    "classification": 3,
    "binary": 1,
    "per_step": 3,
    "regression": 1,
    "text": 4,
}


def a_task(kind: Kind) -> tuple[SequenceModel, Split]:
    """A model with drawn weights, and sequences with drawn targets."""
    rng = generator(1, "init")
    outputs = OUTPUTS[kind]
    channels = outputs if kind == "text" else 2
    readout = {"text": "tied"}.get(kind, "every_step" if kind == "per_step" else "last")
    config = make_trial(model={"hidden_channels": 4}).model
    described = Description(
        name="drawn", kind=kind, in_channels=channels, length=STEPS, outputs=outputs
    )
    model = make_model(config.model_copy(update={"readout": readout}), described, rng)
    classes = torch.randint(0, max(2, outputs), (SEQUENCES, STEPS), generator=rng)
    inputs = torch.randn(SEQUENCES, channels, STEPS, generator=rng)
    if kind == "text":
        inputs = torch.randint(0, outputs, (SEQUENCES, STEPS), generator=rng)
    targets = {
        "classification": classes[:, 0],
        "binary": classes[:, 0].float(),
        "regression": inputs[..., 0].sum(-1).float() if kind != "text" else classes[:, 0],
    }.get(kind, classes)
    if kind in ("per_step", "text"):
        targets[:, :4] = IGNORED
    return model, Split(inputs, targets)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_scores_are_those_of_evaluate_to_the_last_bit(kind: Kind) -> None:
    model, split = a_task(kind)
    given = of_split(split)
    assert scores(given, all_answers(model, given), kind) == evaluate(model, split, kind)


def test_steps_with_times_are_answered_as_evaluate_does() -> None:
    model, split = a_task("classification")
    times = torch.rand(SEQUENCES, STEPS, generator=generator(3, "init")).cumsum(1)
    given = of_split(Split(split.inputs[:300], split.targets[:300], times[:300]))
    expected = evaluate(model, given.groups[0].split, "classification")
    assert scores(given, all_answers(model, given), "classification") == expected
    assert expected != evaluate(model, split.first(300), "classification")


def limited(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> list[int]:
    """A device with room for so many sequences; the sizes that it was asked for."""
    asked: list[int] = []
    call = Vectorized.__call__

    def with_room(self: Vectorized, inputs: torch.Tensor, *others: Any, **named: Any) -> Any:
        asked.append(inputs.shape[1])
        if inputs.shape[1] > most:
            raise error
        return call(self, inputs, *others, **named)

    monkeypatch.setattr(Vectorized, "__call__", with_room)
    return asked


ERRORS = [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError(
    "[enforce fail] DefaultCPUAllocator: can't allocate memory")]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("most", [100, 1])
def test_a_batch_without_room_is_split_and_every_answer_is_the_same(
    error: Exception, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, split = a_task("per_step")
    undisturbed, said = answers(model, split), list[str]()
    asked = limited(monkeypatch, most, error)
    found = answers(model, split, said.append)
    assert found.shape == undisturbed.shape
    torch.testing.assert_close(found, undisturbed, rtol=1e-5, atol=1e-6)
    first = asked[: asked.index(next(size for size in asked if size <= most)) + 1]
    assert first[:2] == [256, 128]
    assert max(asked[len(first) - 1 :]) <= most  # it does not try the large ones again
    assert sum(size for size in asked if size <= most) == SEQUENCES
    assert len(said) == len(first) - 1


def test_the_same_small_batches_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = a_task("classification")
    with monkeypatch.context() as patched:
        limited(patched, 64, ERRORS[0])
        found = answers(model, split)
    monkeypatch.setattr(prediction, "batch_size", lambda split: 64)
    assert torch.equal(found, answers(model, split))


def test_no_room_for_one_sequence_is_told_and_another_error_is_none_of_these(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, split = a_task("binary")
    with monkeypatch.context() as patched:
        limited(patched, 0, ERRORS[0])
        with pytest.raises(OutOfMemory):
            answers(model, split)
    limited(monkeypatch, 0, RuntimeError("a mistake"))
    with pytest.raises(RuntimeError, match="a mistake"):
        answers(model, split)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_answers_sequences_of_another_length(name: str) -> None:
    trial = make_trial(architecture={"name": name, "hidden_channels": 4})
    described = Description(name="drawn", in_channels=2, length=STEPS, outputs=3)
    model = make_model(trial.model, described, generator(1, "init"))
    for steps in (1, 2, STEPS - 1, STEPS + 1, 3 * STEPS):
        inputs = torch.randn(5, 2, steps, generator=generator(2, "init"))
        found = answers(model, Split(inputs, torch.zeros(5)))
        assert found.shape == (5, 3)
        assert found.isfinite().all()


def test_rows_of_every_step_are_those_that_are_scored() -> None:
    model, split = a_task("per_step")
    given = of_split(split)
    (answered,) = found = all_answers(model, given)
    kept = rows(given, found, "per_step", ["a", "b", "c"])
    assert kept.steps is not None
    assert kept.targets is not None
    assert len(kept.sequences) == SEQUENCES * (STEPS - 4)
    for row in range(0, len(kept.sequences), 997):
        n, t = int(kept.sequences[row]), int(kept.steps[row])
        assert t >= 4
        assert kept.targets[row] == split.targets[n, t]
        powers = np.exp(answered[n, :, t].double().numpy())
        np.testing.assert_allclose(kept.values[row], powers / powers.sum(), rtol=1e-6)
    unlabelled = rows(Given(given.groups, labelled=False), found, "per_step", ["a", "b", "c"])
    assert unlabelled.targets is None
    assert len(unlabelled.sequences) == SEQUENCES * STEPS


def test_rows_are_in_the_order_of_the_file_whatever_the_lengths() -> None:
    model, split = a_task("classification")
    short = Split(split.inputs[:3, :, :5], split.targets[:3])
    long = Split(split.inputs[3:5], split.targets[3:5])
    given = Given([Group(np.array([0, 2, 4]), short), Group(np.array([1, 3]), long)], True)
    found = all_answers(model, given)
    kept = rows(given, found, "classification", ["a", "b", "c"])
    assert kept.sequences.tolist() == [0, 1, 2, 3, 4]
    expected = [split.targets[n] for n in (0, 3, 1, 4, 2)]
    assert kept.targets is not None
    assert kept.targets.tolist() == [float(one) for one in expected]
    right = sum(name == "abc"[int(t)] for name, t in zip(kept.predicted, expected, strict=True))
    assert scores(given, found, "classification")["accuracy"] == right / 5


def test_probabilities_are_the_softmax_and_the_sigmoid() -> None:
    (softmax,) = probabilities(torch.tensor([[0.0, math.log(3.0)]]), "classification").tolist()
    assert softmax == pytest.approx([0.25, 0.75])
    (yes_or_no,) = probabilities(torch.tensor([math.log(3.0)]), "binary").tolist()
    assert yes_or_no == pytest.approx([0.25, 0.75])
    assert probabilities(torch.tensor([1.5]), "regression").tolist() == [1.5]
