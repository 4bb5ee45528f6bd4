"""Checkpoints that are rarer than epochs: what comes after one is trained again, and the record of
it stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from ckconv_sweep.config.history import Epoch, best
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.training import checkpoint, member
from ckconv_sweep.training.member import Member
from ckconv_sweep.training.pack import Pack

from .test_loop import executed
from .tiny import equal_weights, in_hex, make_task, make_trial

pytestmark = pytest.mark.fault("driver-sigkill")

TASK = make_task(noise=1.5)
EPOCHS = 6


@pytest.fixture
def trial() -> Trial:
    return make_trial(
        model={"dropout": 0.2},
        optimizer={"name": "adam", "learning_rate": 0.05},
        schedule={"name": "plateau", "patience": 0, "factor": 0.5},
        training={"epochs": EPOCHS},
        metric={"name": "val/loss", "mode": "min"},
    )


def epochs_of(made: Member) -> Iterator[Epoch]:
    pack = Pack(TASK)
    pack.join(made)
    while made.end is None:
        pack.epoch()
        yield made.keep()


def opened(trial: Trial, folder: Path, recorded: Sequence[Epoch], **others: Any) -> Member:
    options: dict[str, Any] = {"checkpoint_seconds": 3600.0} | others
    return Member.open(trial, TASK, folder=folder, recorded=recorded, **options)


Whole = tuple[Member, list[Epoch], list[dict[str, Tensor]]]


@pytest.fixture
def whole(trial: Trial) -> Whole:
    """A trial that was never interrupted: its epochs, and the weights after each."""
    made = Member.open(trial, TASK)
    pairs = [(epoch, made._state_dict(made.rows)) for epoch in epochs_of(made)]
    return made, [epoch for epoch, _ in pairs], [weights for _, weights in pairs]


def kept_weights(folder: Path) -> dict[str, Tensor]:
    path = checkpoint.best(folder)
    assert path is not None
    weights: dict[str, Tensor] = checkpoint.load(path)["best_weights"]
    return weights


def test_less_than_a_second_and_an_epoch_passes_between_two_checkpoints(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(member.time, "monotonic", lambda: now)
    made = opened(trial, tmp_path, (), checkpoint_seconds=1.0)
    pack = Pack(TASK)
    pack.join(made)
    saved = []
    for seconds in (0.3, 0.3, 0.3, 2.0, 0.4, 0.1):
        pack.epoch()
        now += seconds
        saved.append(bool(made.keep().checkpoint))
    assert saved == [False, False, True, True, False, False]
    assert [number for number, _ in checkpoint.checkpoints(tmp_path)] == [4, 3]
    assert executed(tmp_path) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("killed_after", range(1, EPOCHS + 1))
def test_recorded_epochs_without_a_checkpoint_are_trained_again_bit_for_bit(
    killed_after: int, trial: Trial, whole: Whole, tmp_path: Path
) -> None:
    recorded = []
    for epoch in epochs_of(opened(trial, tmp_path, ())):
        recorded.append(epoch)
        if epoch.number == killed_after:
            break
    assert checkpoint.checkpoints(tmp_path) == []

    warnings: list[str] = []
    again = opened(trial, tmp_path, recorded, warn=warnings.append)
    told = list(epochs_of(again))
    again.finish()
    assert warnings == []
    assert in_hex(told) == in_hex(whole[1])
    assert told[:killed_after] == recorded
    assert executed(tmp_path) == [*range(1, killed_after + 1), *range(1, EPOCHS + 1)]
    chosen = best(told, trial.metric).number
    assert equal_weights(kept_weights(tmp_path), whole[2][chosen - 1])


@pytest.mark.parametrize("stopped", [False, True])
def test_where_an_epoch_differs_the_record_stays_and_its_weights_are_not_the_best(
    stopped: bool, trial: Trial, whole: Whole, tmp_path: Path
) -> None:
    first = best(whole[1], trial.metric)
    others = [epoch for epoch in whole[1] if epoch.number != first.number]
    second = best(others, trial.metric)
    # By the record the best epoch is the same one, with another value: a GPU's, say.
    loss = first.metrics["val/loss"]
    recorded = list(whole[1])
    recorded[first.number - 1] = replace(
        first, metrics={**first.metrics, "val/loss": loss * (1 - 1e-9)}
    )
    warnings: list[str] = []
    made = opened(trial, tmp_path, recorded, warn=warnings.append, checkpoint_seconds=0.0)
    if stopped:  # and what it knows of the difference comes back from the checkpoint
        for epoch in epochs_of(made):
            if epoch.number == first.number:
                break
        made = opened(trial, tmp_path, recorded, warn=warnings.append, checkpoint_seconds=0.0)
    list(epochs_of(made))
    made.finish()
    assert in_hex(made.history) == in_hex(recorded)
    (warning,) = warnings
    assert warning.startswith(f"epoch {first.number}, trained again, is not the recorded one: ")
    assert f"val/loss {loss!r}, recorded {loss * (1 - 1e-9)!r}; the record stays" in warning
    assert equal_weights(kept_weights(tmp_path), whole[2][second.number - 1])


def test_a_trial_of_which_no_epoch_is_as_recorded_keeps_no_weights(
    trial: Trial, whole: Whole, tmp_path: Path
) -> None:
    recorded = [replace(e, metrics={**e.metrics, "train/loss": 0.5}) for e in whole[1]]
    warnings: list[str] = []
    made = opened(trial, tmp_path, recorded, warn=warnings.append)
    list(epochs_of(made))
    made.finish()
    assert [epoch.metrics["train/loss"] for epoch in made.history] == [0.5] * EPOCHS
    assert len(warnings) == 1
    assert checkpoint.best(tmp_path) is None
