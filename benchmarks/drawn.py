"""Drawn sequences in the shape of a dataset, so that a benchmark downloads nothing."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from ckconv_sweep.config.data import Data, Description
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import describe
from ckconv_sweep.data.task import SequenceTask, Split

BASIC_MOTIONS = Description(name="uea", in_channels=6, length=100, outputs=4)
"""The problem of trials/uea.yaml, whose shape is in its files alone."""


def task_of(trial: Trial, train: int, validation: int = 1, most_steps: int = 10**9) -> SequenceTask:
    """Numbers of training and validation sequences for a trial, cut to `most_steps` time steps."""
    of_files = trial.data.name in ("uea", "arrays")
    shape = BASIC_MOTIONS if of_files else describe(trial.data)
    shape = replace(shape, length=min(shape.length, most_steps))
    rng = Generator().manual_seed(0)
    splits = [split(shape, number, rng, trial.data) for number in (train, validation)]
    return SequenceTask(
        description=shape, train=splits[0], validation=splits[1], test_reader=lambda: splits[1]
    )


def split(shape: Description, number: int, rng: Generator, data: Data | None = None) -> Split:
    """A number of sequences of a shape; with the times of their steps if those data have any."""
    inputs = torch.randn(number, shape.in_channels, shape.length, generator=rng)
    if shape.kind == "text":
        inputs = torch.randint(shape.in_channels, (number, shape.length), generator=rng)
    times = None
    if data is not None and data.has_times:
        times = torch.rand(number, shape.length, generator=rng).add_(0.5).cumsum(1)
    return Split(inputs, _targets(shape, number, rng), times)


def _targets(shape: Description, number: int, rng: Generator) -> Tensor:
    match shape.kind:
        case "classification":
            return torch.randint(shape.outputs, (number,), generator=rng)
        case "binary":
            return torch.randint(2, (number,), generator=rng).float()
        case "regression":
            return torch.randn(number, generator=rng)
        case "per_step" | "text":
            return torch.randint(shape.outputs, (number, shape.length), generator=rng)
