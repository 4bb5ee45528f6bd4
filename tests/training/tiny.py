"""A task that is learned in a few epochs of milliseconds, and trials for it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from hypothesis import settings
from torch import Tensor

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training.loop import train

# HYPOTHESIS_EXAMPLES=2000 searches longer than `make test` has time for.
examples = settings(max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "100")), deadline=None)


def _split(size: int, seed: int, noise: float) -> Split:
    """Two classes that differ in the sign of their mean."""
    targets = torch.arange(size) % 2
    draws = torch.randn(size, 1, 6, generator=torch.Generator().manual_seed(seed))
    return Split(noise * draws + (2.0 * targets - 1.0)[:, None, None], targets)


def _no_test() -> Split:
    raise AssertionError("the test split was read")


def make_task(noise: float = 1.0) -> SequenceTask:
    return SequenceTask(
        description=Description(name="signs", in_channels=1, length=6, outputs=2),
        train=_split(22, 1, noise),
        validation=_split(10, 2, noise),
        test_reader=_no_test,
    )


def make_trial(**blocks: Any) -> Trial:
    """Three epochs of three steps, the last of them with fewer sequences. `architecture` replaces
    the small CKCNN whole."""
    architecture = blocks.pop("architecture", None)
    model = {"hidden_channels": 2, "blocks": 1, "kernel": {"hidden_channels": 3, "layers": 2}}
    training = {"epochs": 3, "batch_size": 8, "seed": 3}
    tree = {
        "data": {"name": "digits"},
        **blocks,
        "model": architecture or model | blocks.get("model", {}),
        "training": training | blocks.get("training", {}),
    }
    return Trial.model_validate(tree)


def run(
    trial: Trial, folder: Path | None = None, task: SequenceTask | None = None, **others: Any
) -> tuple[SequenceModel, list[Epoch]]:
    """Train to the end; the model and the epochs reported."""
    epochs: list[Epoch] = []
    model = train(trial, task or make_task(), epochs.append, folder=folder, **others)
    return model, epochs


def in_hex(epochs: list[Epoch]) -> list[dict[str, str]]:
    """The metrics to the last bit, without those that tell of time."""
    return [
        {k: v.hex() for k, v in epoch.metrics.items() if not k.startswith("time/")}
        for epoch in epochs
    ]


def equal(one: SequenceModel, other: SequenceModel) -> bool:
    """Whether all weights are the same to the last bit."""
    return equal_weights(one.state_dict(), other.state_dict())


def equal_weights(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def in_child(work: Callable[[], None]) -> int:
    """Do something in a fork of this process; returns its exit code. 99: it raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12: of threads, which the child leaves alone
        pid = os.fork()
    if pid == 0:
        code = 99
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
