"""Any classification problem of the UEA and UCR archives (`uea`): its shape is read from its files.

Data: `<data folder>/uea/<problem>/<problem>_TRAIN.ts` and `_TEST.ts`, put there by the user
(https://www.timeseriesclassification.com; Bagnall et al. 2018, arXiv:1811.00075). No checksums of
them are published, so nothing is downloaded.

Split: `validation_fraction` of the TRAIN file is held out by `split_seed`, stratified, and at least
one sequence of every class that has two; the TEST file is the test split.

Values: a missing value is the last one before it; where there is none, the training sequences'
mean. Series of different lengths keep theirs (`Split.lengths`); with `normalization:
per_time_step`, where each step needs a mean, they are continued by their last value to the longest
of both files. Mean and standard deviation are those of the training sequences. Classes are numbered
in the order of the TRAIN file's header.

Shapes: N sequences, C channels, T time steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ckconv_sweep.config.data import Description, UeaData
from ckconv_sweep.data.fetch import DATA_VARIABLE, data_folder
from ckconv_sweep.data.preparation import by_normalizer, forward_filled, measured
from ckconv_sweep.data.ragged import Ragged
from ckconv_sweep.data.sequences import Normalizer
from ckconv_sweep.data.splits import held_out_by
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.data.ts_format import TsFile, measure_ts, padded, read_ts
from ckconv_sweep.errors import ConfigError, DamagedData

SITE = "https://www.timeseriesclassification.com"


def describe(data: UeaData, data_dir: Path | None = None) -> Description:
    """Read the files' headers, and the lengths of their series where the headers do not tell.

    Raises:
        ConfigError: a file is missing.
        DamagedData: a file cannot be read, or both do not belong together.
    """
    train_path, test_path = _paths(data, data_dir)
    train, test = measure_ts(train_path), measure_ts(test_path)
    if train.channels != test.channels or set(train.classes) != set(test.classes):
        raise DamagedData(
            f"{train_path.name} has {train.channels} channels and {len(train.classes)} classes, "
            f"{test_path.name} has {test.channels} and {len(test.classes)}: both must have the "
            "same",
            where=str(train_path.parent),
            hint="correct the two files, or put a pair that belongs together there",
        )
    return Description(
        name=data.name,
        in_channels=train.channels,
        length=max(train.longest, test.longest),
        outputs=len(train.classes),
    )


def load(data: UeaData, data_dir: Path | None = None) -> SequenceTask:
    """Read and split a problem."""
    description = describe(data, data_dir)
    train_path, test_path = _paths(data, data_dir)
    content = read_ts(train_path)
    classes, continued = content.classes, data.normalization == "per_time_step"
    arrays = partial(_arrays, classes=classes, length=description.length, continued=continued)
    ragged, targets = arrays(content)
    read_ts(test_path)  # damage is told now, not at the end of a sweep; nothing is kept
    train, validation = held_out_by(data, targets.numpy())
    normalizer = Normalizer.of(ragged.inputs_NCT[train], data.normalization)
    return SequenceTask(
        description=description,
        train=ragged.split(train, targets, normalizer),
        validation=ragged.split(validation, targets, normalizer),
        test_reader=partial(_read_test, arrays, test_path, normalizer),
        classes=classes,
        preparation=by_normalizer(
            normalizer,
            description.in_channels,
            description.length,
            measured_on=measured(len(train), data.problem),
            missing="filled",
            continued=continued,
        ),
    )


def _paths(data: UeaData, data_dir: Path | None) -> tuple[Path, Path]:
    folder = data_folder(data_dir) / "uea" / data.problem
    paths = folder / f"{data.problem}_TRAIN.ts", folder / f"{data.problem}_TEST.ts"
    for path in paths:
        if not path.is_file():
            raise ConfigError(
                "this file is missing",
                where=str(path),
                hint=f"put {paths[0].name} and {paths[1].name} into this folder (the archives' "
                f"problems are at {SITE}), or name the folder above uea/ with --data-dir or "
                f"{DATA_VARIABLE}",
            )
    return paths


def _arrays(
    content: TsFile, classes: tuple[str, ...], length: int, continued: bool
) -> tuple[Ragged, Tensor]:
    """The series and their classes."""
    numbers = {name: number for number, name in enumerate(classes)}
    series = content.series
    if continued:
        series = [padded(forward_filled(x_CT), length) for x_CT in series]
    return Ragged.of(series, length), torch.tensor([numbers[label] for label in content.labels])


def _read_test(
    arrays: Callable[[TsFile], tuple[Ragged, Tensor]], path: Path, normalizer: Normalizer
) -> Split:
    ragged, targets = arrays(read_ts(path))
    return ragged.split(slice(None), targets, normalizer)
