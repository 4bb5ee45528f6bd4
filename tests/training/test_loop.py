from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ckconv_sweep.config.history import Epoch, best
from ckconv_sweep.errors import CannotWrite, NonFiniteLoss
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.training import checkpoint, optimizers, pack
from ckconv_sweep.training.evaluation import evaluate
from ckconv_sweep.training.loop import train
from ckconv_sweep.training.seeding import generator

from .tiny import equal, in_hex, make_task, make_trial, run

FAST = {"name": "adam", "learning_rate": 0.05}
DROPOUT = {"dropout": 0.3, "input_dropout": 0.2}


def executed(folder: Path) -> list[int]:
    lines = (folder / "ledger.jsonl").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines]


def test_an_easy_task_is_learned() -> None:
    task = make_task(noise=0.2)
    trial = make_trial(optimizer=FAST, training={"epochs": 12})
    model, epochs = run(trial, task=task)
    losses = [epoch.metrics["train/loss"] for epoch in epochs]
    assert losses[-1] < 0.25 * losses[0]
    assert evaluate(model, task.validation, "classification")["accuracy"] == 1.0


def test_the_same_seed_gives_the_same_run_to_the_last_bit_and_another_seed_another() -> None:
    trial = make_trial(model=DROPOUT, optimizer=FAST)
    (one, first), (two, second) = run(trial), run(trial)
    assert in_hex(first) == in_hex(second)
    assert equal(one, two)
    other = make_trial(model=DROPOUT, optimizer=FAST, training={"seed": 4})
    assert in_hex(run(other)[1]) != in_hex(first)


def test_a_folder_changes_nothing_of_the_numbers(tmp_path: Path) -> None:
    trial = make_trial(model=DROPOUT)
    (alone, epochs), (kept, again) = run(trial), run(trial, tmp_path)
    assert in_hex(epochs) == in_hex(again)
    assert equal(alone, kept)


def test_each_epoch_is_reported_once_in_order_with_all_its_metrics(tmp_path: Path) -> None:
    before = time.time_ns() // 1_000_000
    epochs = run(make_trial(), tmp_path)[1]
    after = time.time_ns() // 1_000_000
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert set(epochs[0].metrics) == {
        "train/loss",
        "train/accuracy",
        "val/loss",
        "val/accuracy",
        "train/learning_rate",
        "time/epoch_seconds",
    }
    stamps = [epoch.timestamp_ms for epoch in epochs]
    assert [before, *stamps, after] == sorted([before, *stamps, after])


def test_an_epoch_is_safe_on_disk_before_it_is_reported(tmp_path: Path) -> None:
    def report(epoch: Epoch) -> None:
        state, _ = checkpoint.newest(tmp_path)
        assert state is not None
        assert len(state["history"]) == epoch.number
        assert (tmp_path / epoch.checkpoint).exists()
        assert executed(tmp_path)[-1] == epoch.number

    train(make_trial(), make_task(), report, folder=tmp_path)


def test_without_a_folder_no_checkpoint_is_named() -> None:
    assert {epoch.checkpoint for epoch in run(make_trial())[1]} == {""}


def test_the_ledger_has_a_line_for_each_epoch_executed(tmp_path: Path) -> None:
    run(make_trial(), tmp_path)
    run(make_trial(), tmp_path)  # there is nothing left to do
    assert executed(tmp_path) == [1, 2, 3]


def test_the_folder_is_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "trials" / "0001"
    run(make_trial(), folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "metric",
    [
        {"name": "val/loss", "mode": "min"},
        {"name": "train/accuracy", "mode": "max"},
        {"name": "val/loss", "mode": "min", "at": "last"},
    ],
)
def test_the_model_returned_has_the_weights_of_the_epoch_that_counts(
    metric: dict[str, Any], tmp_path: Path
) -> None:
    task = make_task(noise=2.0)
    sgd = {"name": "sgd", "learning_rate": 1.0}  # it rises and falls
    trial = make_trial(metric=metric, optimizer=sgd, training={"epochs": 6})
    model, epochs = run(trial, tmp_path, task)
    judged = best(epochs, trial.metric)
    assert (judged.number == 6) == (metric.get("at") == "last")
    scores = evaluate(model, task.validation, "classification")
    assert scores["loss"] == judged.metrics["val/loss"]
    assert scores["accuracy"] == judged.metrics["val/accuracy"]
    path = checkpoint.best(tmp_path)
    assert path is not None
    kept = checkpoint.load(path)["best_weights"]
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())


def test_early_stopping_ends_the_run() -> None:
    frozen = {"name": "sgd", "learning_rate": 1e-12}
    trial = make_trial(optimizer=frozen, training={"epochs": 9, "early_stopping_epochs": 2})
    assert [epoch.number for epoch in run(trial)[1]] == [1, 2, 3]


def test_the_learning_rate_reported_is_the_one_used() -> None:
    schedule = {"name": "multistep", "milestones": [1], "factor": 0.5}
    epochs = run(make_trial(schedule=schedule, optimizer=FAST))[1]
    assert [epoch.metrics["train/learning_rate"] for epoch in epochs] == [0.05, 0.025, 0.025]


def test_the_training_metrics_are_means_over_sequences_not_over_batches() -> None:
    frozen = {"name": "sgd", "learning_rate": 1e-30}
    task = make_task()
    model, epochs = run(make_trial(optimizer=frozen, training={"epochs": 1}), task=task)
    scores = evaluate(model, task.train, "classification")  # 22 sequences in batches of 8, 8 and 6
    assert epochs[0].metrics["train/loss"] == pytest.approx(scores["loss"], rel=1e-6)
    assert epochs[0].metrics["train/accuracy"] == scores["accuracy"]


def gradients(monkeypatch: pytest.MonkeyPatch, **training: Any) -> torch.Tensor:
    """The gradient with which the first step is made, in the order of the parameters."""
    seen: list[torch.Tensor] = []
    real = optimizers.SGD.update

    def update(step: optimizers.Step) -> None:
        seen.append(step.gradients_EP[0].clone())
        real(step)

    monkeypatch.setattr(optimizers.SGD, "update", staticmethod(update))
    sgd = {"name": "sgd", "learning_rate": 0.1}
    run(make_trial(optimizer=sgd, training={"epochs": 1, "batch_size": 22, **training}))
    monkeypatch.undo()
    return seen[0]


def test_the_kernel_penalty_is_the_sum_of_the_norms_of_kernels_and_biases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, punished = gradients(monkeypatch), gradients(monkeypatch, kernel_penalty=0.25)
    trial, task = make_trial(), make_task()
    model = make_model(trial.model, task.description, generator(trial.training.seed, "init"))
    penalty = torch.zeros(())
    for block in model.blocks:
        for conv in (block.conv1, block.conv2):
            penalty = penalty + conv.kernel(task.description.length).norm() + conv.bias.norm()
    rises = torch.autograd.grad(
        penalty, list(model.parameters()), allow_unused=True, materialize_grads=True
    )
    expected = plain + 0.25 * torch.cat([rise.flatten() for rise in rises])
    torch.testing.assert_close(punished, expected, rtol=1e-5, atol=1e-6)
    assert punished.norm().item() != pytest.approx(plain.norm().item(), rel=1e-3)


def test_the_penalty_is_no_part_of_the_loss_reported() -> None:
    frozen = {"name": "sgd", "learning_rate": 1e-30}
    plain = run(make_trial(optimizer=frozen))[1]
    punished = run(make_trial(optimizer=frozen, training={"kernel_penalty": 10.0}))[1]
    assert in_hex(plain) == in_hex(punished)


def test_clipping_bounds_the_norm_of_the_gradient_and_keeps_its_direction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = gradients(monkeypatch)
    bound = free.norm().item() / 3
    clipped = gradients(monkeypatch, clip_norm=bound)
    assert clipped.norm().item() == pytest.approx(bound, rel=1e-4)
    torch.testing.assert_close(clipped * 3, free, rtol=1e-3, atol=1e-6)
    assert torch.equal(gradients(monkeypatch, clip_norm=6 * bound), free)


@pytest.mark.parametrize("learning_rate", [1e10, 1e30])
def test_a_loss_that_is_not_finite_is_raised_not_reported(
    learning_rate: float, tmp_path: Path
) -> None:
    epochs: list[Epoch] = []
    trial = make_trial(optimizer={"name": "sgd", "learning_rate": learning_rate})
    with pytest.raises(NonFiniteLoss, match=r"(train|val)/loss became (nan|inf) in epoch 1"):
        train(trial, make_task(), epochs.append, folder=tmp_path)
    assert epochs == []
    assert list(tmp_path.iterdir()) == []


def test_the_epochs_before_a_loss_that_is_not_finite_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        pack, "learning_rate", lambda trial, history: 0.01 if len(history) < 2 else 1e30
    )
    epochs: list[Epoch] = []
    with pytest.raises(NonFiniteLoss, match="in epoch 3"):
        train(make_trial(), make_task(), epochs.append, folder=tmp_path)
    assert [epoch.number for epoch in epochs] == [1, 2]
    state, _ = checkpoint.newest(tmp_path)
    assert state is not None
    assert len(state["history"]) == 2
    assert all(value.isfinite().all() for value in state["model"].values())


class HandedOut(Exception):
    """What a guard raises."""


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_a_guard_that_raises_stops_the_run_before_anything_is_written(
    calls: int, tmp_path: Path
) -> None:
    left = iter(range(calls))
    written: list[set[Path]] = []

    def guard() -> None:
        written.append(set(tmp_path.iterdir()))
        if next(left, None) is None:
            raise HandedOut

    epochs: list[Epoch] = []
    with pytest.raises(HandedOut):
        train(make_trial(), make_task(), epochs.append, folder=tmp_path, guard=guard)
    assert len(epochs) == calls
    assert set(tmp_path.iterdir()) == written[-1]
    assert checkpoint.best(tmp_path) is None


def test_a_disk_that_is_full_ends_the_run_and_the_run_goes_on_when_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(make_trial())[1]
    real: Callable[..., str] = checkpoint.save
    epochs: list[Epoch] = []

    def full(folder: Path, epoch: int, *state: Any) -> str:
        if epoch == 2:
            raise CannotWrite("a checkpoint cannot be written", where=str(folder))
        return real(folder, epoch, *state)

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(CannotWrite):
        train(make_trial(), make_task(), epochs.append, folder=tmp_path)
    monkeypatch.undo()
    assert [epoch.number for epoch in epochs] == [1]
    assert in_hex(run(make_trial(), tmp_path)[1]) == in_hex(whole)
    assert executed(tmp_path) == [1, 2, 2, 3]
