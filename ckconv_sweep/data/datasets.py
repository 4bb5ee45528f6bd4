"""The datasets of the table in `config/data.py`: settings in, a description or a task out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

from ckconv_sweep.config.build import build
from ckconv_sweep.config.data import DATASETS, Data, Description, Resampled
from ckconv_sweep.config.documents import Document
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.errors import ConfigError

log = logging.getLogger(__name__)


class Dataset(Protocol):
    """What a row's maker is. Both functions get the trial's `data` settings and the folder of
    `--data-dir`, if one was given."""

    @property
    def describe(self) -> Callable[[Any, Path | None], Description]: ...

    @property
    def load(self) -> Callable[[Any, Path | None], SequenceTask]: ...


def describe(data: Data, data_dir: Path | None = None) -> Description:
    """What is known of a dataset without reading its sequences. Only `uea` opens a file: what its
    problems are stands nowhere else."""
    return _dataset(data).describe(data, data_dir)


def load(data: Data, data_dir: Path | None = None) -> SequenceTask:
    """Read a dataset, after downloading it where that is needed, and split it.

    Args:
        data: the trial's settings: which dataset, in which form, and how it is split.
        data_dir: the folder that holds the datasets' folders (`mnist/`, ...). None: the
            environment variable CKCONV_DATA, or the user's cache.
    """
    log.debug("loading the dataset %s", data.name)
    return _dataset(data).load(data, data_dir)


def _dataset(data: Data) -> Dataset:
    dataset: Dataset = DATASETS.maker(data.name)
    return dataset


def read_split(
    data: Data,
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
