"""The table of data sets: a name in, a description or a task out.

To add one: a file beside this with a `Description` and a `load` function, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ckconv_sweep.config.trial import Data
from ckconv_sweep.data import digits, mnist
from ckconv_sweep.data.task import Description, SequenceTask
from ckconv_sweep.errors import UnknownNameError


@dataclass(frozen=True)
class Dataset:
    """One row of the table."""

    description: Description
    load: Callable[[Data, Path | None], SequenceTask]
    """Gets the trial's `data` settings and the folder of `--data-dir`, if one was given."""


DATASETS: dict[str, Dataset] = {
    "digits": Dataset(digits.DIGITS, digits.load),
    "smnist": Dataset(mnist.SMNIST, mnist.load_smnist),
    "pmnist": Dataset(mnist.PMNIST, mnist.load_pmnist),
}


def describe(name: str) -> Description:
    """What is known of a data set without reading any file."""
    return _row(name).description


def load(data: Data, data_dir: Path | None = None) -> SequenceTask:
    """Read a data set, after downloading it where that is needed, and split it.

    Args:
        data: the trial's settings: which data set, and how it is split.
        data_dir: the folder that holds the data sets' folders (`mnist/`, ...). None: the
            environment variable CKCONV_DATA, or the user's cache.
    """
    return _row(data.name).load(data, data_dir)


def _row(name: str) -> Dataset:
    if name not in DATASETS:
        raise UnknownNameError("data set", name, DATASETS)
    return DATASETS[name]
