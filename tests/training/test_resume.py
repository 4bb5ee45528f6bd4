"""Interrupted and resumed is uninterrupted, bit for bit."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.optimization import OPTIMIZERS
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError, DamagedData
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training.loop import train

from .test_loop import executed
from .tiny import equal, in_child, in_hex, make_task, make_trial, run

TASK = make_task(noise=1.5)

SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {"learning_rate": 0.05},
    "adamw": {"learning_rate": 0.05, "weight_decay": 0.1},
    "sgd": {"learning_rate": 0.3, "momentum": 0.9, "weight_decay": 1e-3},
    "rmsprop": {"learning_rate": 0.02, "momentum": 0.5},
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "plateau": {"name": "plateau", "patience": 0, "factor": 0.5},
    "cosine": {"name": "cosine", "warmup_epochs": 2},
    "multistep": {"name": "multistep", "milestones": [2, 4]},
}


def everything(optimizer: str, schedule: str = "plateau") -> Trial:
    """A trial in which all that could be forgotten matters."""
    return make_trial(
        model={"dropout": 0.2, "input_dropout": 0.1},
        optimizer={"name": optimizer, **SETTINGS[optimizer]},
        schedule=SCHEDULES[schedule],
        training={
            "epochs": 6,
            "kernel_penalty": 0.01,
            "clip_norm": 1.0,
            "early_stopping_epochs": 4,
        },
        metric={"name": "val/loss", "mode": "min"},
    )


class Interrupted(Exception):
    """What an interruption raises in the reporter."""


def cut(trial: Trial, folder: Path, after: int) -> list[Epoch]:
    """Train until the report of an epoch, which is still heard; the epochs that were reported."""
    heard: list[Epoch] = []

    def report(epoch: Epoch) -> None:
        heard.append(epoch)
        if epoch.number == after:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(trial, TASK, report, folder=folder)
    return heard


Whole = tuple[SequenceModel, list[Epoch]]


@pytest.fixture(scope="module")
def uninterrupted() -> dict[Trial, Whole]:
    return {}


def whole_run(trial: Trial, known: dict[str, Whole]) -> Whole:
    key = trial.model_dump_json()
    if key not in known:
        known[key] = run(trial, task=TASK)
    return known[key]


def differences(whole: Whole, resumed: Whole) -> Iterator[str]:
    if in_hex(whole[1]) != in_hex(resumed[1]):
        yield "metrics"
    if not equal(whole[0], resumed[0]):
        yield "weights"


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [(name, "plateau") for name in OPTIMIZERS] + [("adam", "cosine"), ("adam", "multistep")],
)
def test_a_run_cut_at_any_epoch_goes_on_bit_for_bit(
    optimizer: str, schedule: str, uninterrupted: dict[str, Whole], tmp_path: Path
) -> None:
    trial = everything(optimizer, schedule)
    whole = whole_run(trial, uninterrupted)
    last = len(whole[1])
    assert last >= 3
    for after in range(1, last + 1):
        folder = tmp_path / str(after)
        heard = cut(trial, folder, after)
        resumed = run(trial, folder, TASK)
        assert list(differences(whole, resumed)) == []
        assert executed(folder) == list(range(1, last + 1))
        told_again = [(e.number, dict(e.metrics), e.timestamp_ms) for e in resumed[1][:after]]
        assert told_again == [(e.number, dict(e.metrics), e.timestamp_ms) for e in heard]


def test_the_trials_that_are_cut_use_all_that_could_be_forgotten(
    uninterrupted: dict[str, Whole],
) -> None:
    plateau = [everything(name) for name in OPTIMIZERS]
    histories = [whole_run(trial, uninterrupted)[1] for trial in plateau]
    assert any(len({e.metrics["train/learning_rate"] for e in h}) > 1 for h in histories)
    assert any(3 <= len(h) < 6 for h in histories)  # early stopping
    assert any(min(h, key=lambda e: e.metrics["val/loss"]) != h[-1] for h in histories)


@pytest.mark.parametrize("cuts", [(1, 2), (2, 2), (2, 3), (1, 1, 2, 3)])
def test_a_run_cut_several_times_goes_on_bit_for_bit(
    cuts: tuple[int, ...], uninterrupted: dict[str, Whole], tmp_path: Path
) -> None:
    trial = everything("adam")
    for after in cuts:
        cut(trial, tmp_path, after)
    resumed = run(trial, tmp_path, TASK)
    assert list(differences(whole_run(trial, uninterrupted), resumed)) == []
    assert executed(tmp_path) == list(range(1, len(resumed[1]) + 1))


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_epoch_that_was_saved_but_not_reported_is_reported_not_trained_again(
    after: int, uninterrupted: dict[str, Whole], tmp_path: Path
) -> None:
    trial = everything("adam")
    heard: list[Epoch] = []

    def killed() -> None:
        def report(epoch: Epoch) -> None:
            if epoch.number == after:
                os.kill(os.getpid(), signal.SIGKILL)

        train(trial, TASK, report, folder=tmp_path)

    assert in_child(killed) == -signal.SIGKILL
    model = train(trial, TASK, heard.append, folder=tmp_path)
    assert list(differences(whole_run(trial, uninterrupted), (model, heard))) == []
    assert executed(tmp_path) == list(range(1, len(heard) + 1))


def test_an_epoch_that_was_trained_but_not_saved_is_trained_again(
    uninterrupted: dict[str, Whole], tmp_path: Path
) -> None:
    trial = everything("sgd")

    def killed() -> None:
        real = checkpoint._write

        def write(folder: Path, stem: str, state: dict[str, Any]) -> str:
            if stem == "checkpoint-00002":
                os.kill(os.getpid(), signal.SIGKILL)
            return real(folder, stem, state)

        checkpoint._write = write
        train(trial, TASK, lambda epoch: None, folder=tmp_path)

    assert in_child(killed) == -signal.SIGKILL
    resumed = run(trial, tmp_path, TASK)
    assert list(differences(whole_run(trial, uninterrupted), resumed)) == []
    assert executed(tmp_path) == [1, 2, *range(2, len(resumed[1]) + 1)]


@pytest.mark.fault("damaged-checkpoint")
def test_a_damaged_checkpoint_costs_one_epoch_and_is_said(
    uninterrupted: dict[str, Whole], tmp_path: Path
) -> None:
    trial = everything("adam")
    heard = cut(trial, tmp_path, 3)
    (tmp_path / heard[-1].checkpoint).write_bytes(b"")
    warnings: list[str] = []
    resumed = run(trial, tmp_path, TASK, warn=warnings.append)
    assert list(differences(whole_run(trial, uninterrupted), resumed)) == []
    assert executed(tmp_path)[:4] == [1, 2, 3, 3]
    (warning,) = warnings
    assert heard[-1].checkpoint in warning


def test_an_ended_run_is_told_again_and_trains_nothing(tmp_path: Path) -> None:
    trial = everything("adam")
    first = run(trial, tmp_path, TASK)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    second = run(trial, tmp_path, TASK)
    assert list(differences(first, second)) == []
    assert [e.timestamp_ms for e in first[1]] == [e.timestamp_ms for e in second[1]]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_resumed_run_names_the_checkpoints_that_are_there(tmp_path: Path) -> None:
    trial = everything("adam")
    cut(trial, tmp_path, 3)
    told = run(trial, tmp_path, TASK)[1]
    assert [bool(epoch.checkpoint) for epoch in told[:4]] == [False, True, True, True]


def change_history(state: dict[str, Any]) -> None:
    """As if the best epoch so far had been forgotten."""
    for epoch in state["history"]:
        epoch["metrics"]["val/loss"] = 0.0


def reset_model(state: dict[str, Any]) -> None:
    state["model"] = make_model(
        everything("adam").model, TASK.description, torch.Generator().manual_seed(0)
    ).state_dict()


MUTANTS = {
    "without the trial": lambda state: state.pop("trial"),
    "without the model": lambda state: state.pop("model"),
    "without the optimizer": lambda state: state.pop("optimizer"),
    "without the best weights": lambda state: state.pop("best_weights"),
    "without the history": lambda state: state.pop("history"),
    "with another model": reset_model,
    "without the optimizer's memory": lambda state: state["optimizer"].clear(),
    "without one weight's memory": lambda state: state["optimizer"]["exp_avg"].popitem(),
    "without the second moments": lambda state: [
        value.zero_() for value in state["optimizer"]["exp_avg_sq"].values()
    ],
    "with the best weights of now": lambda state: state.update(best_weights=state["model"]),
    "with an empty history": lambda state: state["history"].clear(),
    "without the last epoch": lambda state: state["history"].pop(),
    "without the first epoch": lambda state: state["history"].pop(0),
    "with other metrics": change_history,
}


def trial_of_mutants() -> Trial:
    """Its second epoch is its best one, and it is cut after the third."""
    return make_trial(
        model={"dropout": 0.2},
        optimizer={"name": "adam", "learning_rate": 0.4},
        schedule=SCHEDULES["plateau"],
        training={"epochs": 5},
        metric={"name": "val/loss", "mode": "min"},
    )


@pytest.mark.parametrize("mutant", [None, *MUTANTS])
def test_whatever_is_left_out_of_a_checkpoint_shows(
    mutant: str | None, uninterrupted: dict[str, Whole], tmp_path: Path
) -> None:
    """Shows that the comparison of these tests can fail."""
    trial = trial_of_mutants()
    whole = whole_run(trial, uninterrupted)
    losses = [epoch.metrics["val/loss"] for epoch in whole[1]]
    assert losses.index(min(losses)) < 2  # so that the best weights matter after the cut
    heard = cut(trial, tmp_path, 3)
    state = checkpoint.load(tmp_path / heard[-1].checkpoint)
    if mutant is not None:
        MUTANTS[mutant](state)
    (tmp_path / heard[-1].checkpoint).unlink()
    checkpoint.save(tmp_path, 3, state)
    try:
        shown = list(differences(whole, run(trial, tmp_path, TASK)))
    except (DamagedData, KeyError, AssertionError, ValueError, RuntimeError) as error:
        shown = [repr(error)]
    assert bool(shown) == (mutant is not None)


def test_a_checkpoint_holds_what_the_mutants_leave_out_and_nothing_more(tmp_path: Path) -> None:
    state = checkpoint.load(tmp_path / cut(trial_of_mutants(), tmp_path, 1)[-1].checkpoint)
    needed = state.keys() - {"data"}  # which is compared, and trains nothing
    assert {f"without the {key.replace('_', ' ')}" for key in needed} <= set(MUTANTS)


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The newest checkpoint, with another trial inside."""
    ((number, path), *_) = checkpoint.checkpoints(folder)
    state = checkpoint.load(path)
    change(state["trial"])
    path.unlink()
    checkpoint.save(folder, number, state)


def test_a_checkpoint_from_before_there_was_a_precision_goes_on(
    uninterrupted: dict[str, Whole], tmp_path: Path
) -> None:
    trial = trial_of_mutants()
    cut(trial, tmp_path, 2)
    changed(tmp_path, lambda settings: settings["training"].pop("precision"))
    resumed = run(trial, tmp_path, TASK)
    assert list(differences(whole_run(trial, uninterrupted), resumed)) == []


def test_a_checkpoint_whose_trial_is_none_is_one_of_another_trial(tmp_path: Path) -> None:
    trial = trial_of_mutants()
    cut(trial, tmp_path, 2)
    changed(tmp_path, lambda settings: settings.update(training=3))
    with pytest.raises(ConfigError, match="of a trial with other settings"):
        run(trial, tmp_path, TASK)


@pytest.mark.fault("foreign-checkpoint")
@pytest.mark.parametrize(
    "other",
    [
        {"training": {"seed": 4}},
        {"training": {"epochs": 4}},
        {"training": {"precision": "bfloat16"}},
        {"optimizer": {"name": "adam", "learning_rate": 0.5}},
        {"model": {"hidden_channels": 3}},
        {"data": {"name": "digits", "split_seed": 1}},
    ],
)
def test_the_checkpoint_of_another_trial_is_refused_and_left_alone(
    other: dict[str, Any], tmp_path: Path
) -> None:
    run(make_trial(), tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    epochs: list[Epoch] = []
    with pytest.raises(ConfigError, match="of a trial with other settings") as caught:
        train(make_trial(**copy.deepcopy(other)), TASK, epochs.append, folder=tmp_path)
    assert caught.value.where == str(tmp_path)
    assert epochs == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


@pytest.mark.parametrize("name", ["trial", "model", "optimizer", "best_weights", "history"])
def test_a_file_that_is_whole_but_no_state_of_a_run_is_said_with_what_it_lacks(
    name: str, tmp_path: Path
) -> None:
    trial = trial_of_mutants()
    state = checkpoint.load(tmp_path / cut(trial, tmp_path, 1)[-1].checkpoint)
    del state[name]
    checkpoint.save(tmp_path, 2, state)
    with pytest.raises(DamagedData, match=f"it lacks {name}"):
        run(trial, tmp_path, TASK)
