"""Trials of every kind of task train together as alone, and are scored as they should."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ckconv_sweep.config.data import Description, Kind
from ckconv_sweep.config.metrics import scored_by
from ckconv_sweep.data.task import IGNORED, SequenceTask, Split
from ckconv_sweep.training.evaluation import evaluate
from ckconv_sweep.training.pack import Member, Pack

from .test_pack import to_the_end
from .tiny import equal, in_hex, make_trial, run

LENGTH, CLASSES = 7, 3
DATA: dict[str, dict[str, Any]] = {
    "classification": {"name": "digits"},
    "lengths": {"name": "uea", "problem": "Mine"},
    "times": {"name": "character_trajectories", "dropped_fraction": 0.3, "dropped_as": "times"},
    "binary": {"name": "physionet2019"},
    "per_step": {"name": "copy_memory"},
    "regression": {"name": "adding"},
    "text": {"name": "ptb_characters"},
}


def targets_of(kind: Kind, number: int, rng: torch.Generator) -> Tensor:
    match kind:
        case "classification":
            return torch.randint(CLASSES, (number,), generator=rng)
        case "binary":
            return (torch.arange(number) % 2).float()
        case "regression":
            return torch.randn(number, generator=rng)
        case _:
            targets = torch.randint(CLASSES, (number, LENGTH), generator=rng)
            targets[:, :2] = IGNORED
            return targets


def task_of(name: str, kind: Kind) -> SequenceTask:
    rng = torch.Generator().manual_seed(0)

    def split(number: int) -> Split:
        inputs = torch.randn(number, 2, LENGTH, generator=rng)
        if kind == "text":
            inputs = torch.randint(2, (number, LENGTH), generator=rng)
        steps = torch.rand(number, LENGTH, generator=rng).add_(0.5).cumsum(1)
        lengths = torch.randint(1, LENGTH + 1, (number,), generator=rng)
        return Split(
            inputs,
            targets_of(kind, number, rng),
            steps if name == "times" else None,
            lengths=lengths if name == "lengths" else None,
        )

    outputs = 1 if kind in ("binary", "regression") else CLASSES
    shape = Description(name=name, kind=kind, in_channels=2, length=2 * LENGTH, outputs=outputs)
    return SequenceTask(
        description=shape, train=split(22), validation=split(10), test_reader=lambda: split(1)
    )


@pytest.mark.parametrize("name", DATA)
def test_members_train_as_alone_and_are_scored_by_every_metric_of_the_task(name: str) -> None:
    trials = [
        make_trial(
            data=DATA[name],
            model={
                "readout": "every_step" if name in ("per_step", "text") else "last",
                "norm": "channel",
                "dropout": 0.2 * number,
            },
            optimizer={"name": "adam", "learning_rate": 0.01 * (1 + number)},
            training={"seed": number, "epochs": 2},
            metric={"name": "val/loss", "mode": "min"},
        )
        for number in range(3)
    ]
    kind = trials[0].data.kind
    task = task_of(name, kind)
    members = [Member.open(trial, task) for trial in trials]
    pack = Pack(task)
    for member in members:
        pack.join(member)
    to_the_end(pack)
    for member in members:
        model, epochs = run(member.trial, task=task)
        assert in_hex(epochs) == in_hex(member.history)
        assert equal(model, member.model())
        best = min(epochs, key=lambda epoch: epoch.metrics["val/loss"]).metrics
        scores = evaluate(model, task.validation, kind)
        assert scores == {score: best[f"val/{score}"] for score in scored_by(kind)}
