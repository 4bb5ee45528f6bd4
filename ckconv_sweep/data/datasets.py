"""The table of data sets: settings in, a description or a task out.

To add one: a class of settings in `config/data.py`, a file beside this with a `describe` and a
`load` function, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ckconv_sweep.config.build import build
from ckconv_sweep.config.data import AnyData, Description, Resampled
from ckconv_sweep.config.files import Document
from ckconv_sweep.data import (
    adding,
    character_trajectories,
    cifar10,
    copy_memory,
    digits,
    mnist,
    penn_treebank,
    physionet2019,
    speech_commands,
    uea,
)
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.errors import ConfigError


@dataclass(frozen=True)
class Dataset:
    """One row of the table. Both get the trial's `data` settings and the folder of `--data-dir`, if
    one was given."""

    describe: Callable[[Any, Path | None], Description]
    load: Callable[[Any, Path | None], SequenceTask]


DATASETS: dict[str, Dataset] = {
    "digits": Dataset(digits.describe, digits.load),
    "smnist": Dataset(mnist.describe, mnist.load),
    "pmnist": Dataset(mnist.describe, mnist.load),
    "scifar10": Dataset(cifar10.describe, cifar10.load),
    "character_trajectories": Dataset(character_trajectories.describe, character_trajectories.load),
    "speech_commands": Dataset(speech_commands.describe, speech_commands.load),
    "physionet2019": Dataset(physionet2019.describe, physionet2019.load),
    "copy_memory": Dataset(copy_memory.describe, copy_memory.load),
    "adding": Dataset(adding.describe, adding.load),
    "ptb_characters": Dataset(penn_treebank.describe, penn_treebank.load),
    "uea": Dataset(uea.describe, uea.load),
}


def describe(data: AnyData, data_dir: Path | None = None) -> Description:
    """What is known of a data set without reading its sequences. Only `uea` opens a file: what its
    problems are stands nowhere else."""
    return DATASETS[data.name].describe(data, data_dir)


def load(data: AnyData, data_dir: Path | None = None) -> SequenceTask:
    """Read a data set, after downloading it where that is needed, and split it.

    Args:
        data: the trial's settings: which data set, in which form, and how it is split.
        data_dir: the folder that holds the data sets' folders (`mnist/`, ...). None: the
            environment variable CKCONV_DATA, or the user's cache.
    """
    return DATASETS[data.name].load(data, data_dir)


def read_split(
    data: AnyData,
    which: Literal["validation", "test"],
    sampling_rate: int | None = None,
    data_dir: Path | None = None,
    *,
    look: Callable[[SequenceTask], object] = lambda task: None,
) -> tuple[Description, Split]:
    """One split, to score a trained model on: the only way to the test split but `confirm`.

    Args:
        sampling_rate: keep every n-th step; None: as the settings say.
        look: is shown the whole task.

    Returns:
        What the model was trained on, and the split.

    Raises:
        ConfigError: these sequences cannot be sampled so.
    """
    test, resampled = which == "test", isinstance(data, Resampled)
    if sampling_rate is not None and not data.is_continuous:
        raise ConfigError(
            f"the sequences of {data.name}, as these settings make them, cannot be sampled at "
            "another rate",
            where="--sampling-rate",
            hint="steps must be equally far apart, and fewer of them the same thing seen more "
            "coarsely",
        )
    if sampling_rate is not None and resampled and test:
        changed = data.model_dump() | {"test_sampling_rate": sampling_rate}
        data = build(type(data), Document(f"--sampling-rate {sampling_rate}", changed))
        sampling_rate = None
    task = load(data, data_dir)
    look(task)
    split = task.read_test() if test else task.validation
    if sampling_rate is not None:
        kept = data.sampling_rate if isinstance(data, Resampled) else 1
        if sampling_rate % kept:
            raise ConfigError(
                f"the validation split keeps every {kept}th step, and {sampling_rate} is no "
                f"multiple of it",
                where="--sampling-rate",
            )
        split = split.every_nth(sampling_rate // kept)
    return task.description, split
