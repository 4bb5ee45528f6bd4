"""Sequences of one's own (`arrays`): one file with all of them, and what is asked of each.

Data: a `.npz`, `.csv` or `.ts` file as in `sequence_files`, with a target a sequence; put there by
the user, at `path` in the data folder, or anywhere where `path` is absolute.

Split: a fifth is the test split, the same one for ever; `validation_fraction` of the rest is held
out by `split_seed`. Both are stratified by class.

Values: a missing value is the last one before it; where there is none, the training sequences'
mean. Sequences keep their lengths. Mean and standard deviation of each channel are those of the
training sequences. Classes are numbered in the order of their names, or of their numbers if all are
numbers.

Times (`sampled: at_times`): the file has the time of each step, in any unit. A model counts them in
steps: from the first one of the sequence on, in medians of all distances between two steps.

Shapes: N sequences, C channels, T time steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ckconv_sweep.config.data import ArraysData, Description
from ckconv_sweep.config.names import expanded
from ckconv_sweep.data.fetch import DATA_VARIABLE, data_folder
from ckconv_sweep.data.preparation import by_normalizer, measured
from ckconv_sweep.data.ragged import Ragged
from ckconv_sweep.data.sequence_files import SequenceFile, read_sequences
from ckconv_sweep.data.sequences import Normalizer
from ckconv_sweep.data.splits import held_out_by, hold_out
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.errors import ConfigError, DamagedData

TEST_FRACTION = 0.2
TEST_SEED = 1_797
"""Never to be changed, and never a setting: see `digits`."""


@dataclass(frozen=True, eq=False)
class _Content:
    """A file, checked."""

    series: Sequence[NDArray[Any]]
    times: Sequence[NDArray[np.float32]] | None
    """In steps, from 0 on."""
    targets: Tensor
    """`(N,)`: numbers of classes, int64, or float32."""
    classes: tuple[str, ...]
    """None where the targets are numbers."""
    longest: int

    @property
    def labels_N(self) -> NDArray[np.int64]:  # noqa: N802
        """By what a split is stratified."""
        if self.classes:
            return self.targets.numpy()
        return np.zeros(len(self.targets), dtype=np.int64)


def describe(data: ArraysData, data_dir: Path | None = None) -> Description:
    """Read the file.

    Raises:
        ConfigError: it is missing, or has not what the settings ask for.
        DamagedData: it cannot be read.
    """
    content = _content(data, data_dir)
    spans = [math.ceil(t_T[-1]) + 1 for t_T in content.times or ()]
    return Description(
        name=data.name,
        kind=data.kind,
        in_channels=content.series[0].shape[0],
        length=max(spans, default=content.longest),
        outputs=len(content.classes) or 1,
    )


def load(data: ArraysData, data_dir: Path | None = None) -> SequenceTask:
    """Read and split a file; raises as `describe`."""
    description, content = describe(data, data_dir), _content(data, data_dir)
    kept, _ = _test_positions(content)
    train, validation = (kept[some] for some in held_out_by(data, content.labels_N[kept]))
    ragged = Ragged.of(content.series, content.longest, content.times)
    normalizer = Normalizer.of(ragged.inputs_NCT[train], "per_channel")
    prepared = None
    if content.times is None:
        prepared = by_normalizer(
            normalizer,
            description.in_channels,
            description.length,
            measured_on=measured(len(train), Path(data.path).name),
            missing="filled",
        )
    return SequenceTask(
        description=description,
        train=ragged.split(train, content.targets, normalizer),
        validation=ragged.split(validation, content.targets, normalizer),
        test_reader=partial(_read_test, data, data_dir, normalizer),
        classes=content.classes,
        preparation=prepared,
    )


def _read_test(data: ArraysData, data_dir: Path | None, normalizer: Normalizer) -> Split:
    content = _content(data, data_dir)
    ragged = Ragged.of(content.series, content.longest, content.times)
    return ragged.split(_test_positions(content)[1], content.targets, normalizer)


def _test_positions(content: _Content) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which sequences trials may see, and which are the test split."""
    return hold_out(content.labels_N, TEST_FRACTION, TEST_SEED)


def _content(data: ArraysData, data_dir: Path | None) -> _Content:
    path = data_folder(data_dir) / expanded(Path(data.path))  # an absolute path stays itself
    if not path.is_file():
        raise ConfigError(
            "this file is missing",
            where=str(path),
            hint=f"data.path is a file in the data folder, which --data-dir or {DATA_VARIABLE} "
            "names, or an absolute path",
        )
    status = path.stat()
    return _read(path, status.st_mtime_ns, status.st_size, data.target, data.sampled)


@lru_cache(maxsize=1)  # it is described, counted and loaded one after the other
def _read(path: Path, changed_ns: int, size: int, target: str, sampled: str) -> _Content:
    file, where = read_sequences(path), str(path)
    _check_series(file, where)
    if file.targets is None:
        raise ConfigError("the file has no targets", where=where, hint=_HOW[path.suffix.lower()])
    targets, classes = _TARGETS[target](file.targets, where)
    longest = max(x_CT.shape[1] for x_CT in file.series)
    return _Content(file.series, _times(file, where, sampled), targets, classes, longest)


_HOW = {
    ".npz": "it needs an array y, a class or a number for each sequence",
    ".npy": "an .npy file holds sequences alone: make it an .npz with arrays X and y",
    ".csv": "it needs a column target, a class or a number for each sequence",
    ".ts": "it needs @classLabel true, and a class at the end of each line",
}


def _check_series(file: SequenceFile, where: str) -> None:
    channels = file.series[0].shape[0]
    for number, x_CT in enumerate(file.series):
        if x_CT.shape[0] != channels or not x_CT.shape[1]:
            raise DamagedData(
                f"sequence {number} has {x_CT.shape[0]} channels and {x_CT.shape[1]} steps, the "
                f"first one has {channels} channels",
                where=where,
            )
        if np.isinf(x_CT).any():
            raise DamagedData(f"a value of sequence {number} is infinite", where=where)


def _classes(given: Any, where: str) -> tuple[Tensor, tuple[str, ...]]:
    """The class of each, and the names."""
    names = [
        str(int(g)) if isinstance(g, float) and g.is_integer() else str(g)
        for g in _one(given, where)
    ]
    found = sorted(set(names), key=_by_number)
    if len(found) < 2 or "nan" in found:
        raise ConfigError(
            f"two classes at least expected, got {', '.join(found)}",
            where=where,
            hint="numbers to be predicted: data.target: number",
        )
    if len(found) > max(2, len(names) // 2):
        raise ConfigError(
            f"{len(names)} sequences have {len(found)} different classes",
            where=where,
            hint="numbers to be predicted: data.target: number",
        )
    numbers = {name: number for number, name in enumerate(found)}
    return torch.tensor([numbers[name] for name in names]), tuple(found)


def _name(target: Any) -> str:
    """2.0 is class 2."""
    whole = isinstance(target, float) and target.is_integer()
    return str(int(target) if whole else target)


def _by_number(name: str) -> tuple[bool, float, str]:
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, name


def _numbers(given: Any, where: str) -> tuple[Tensor, tuple[str, ...]]:
    try:
        values_N = np.asarray(_one(given, where), dtype=np.float32)
    except ValueError as error:
        raise ConfigError(
            f"a target is no number: {error}", where=where, hint="data.target: classes"
        ) from None
    if not np.isfinite(values_N).all():
        raise DamagedData("a target is missing or infinite", where=where)
    return torch.from_numpy(values_N), ()


_TARGETS: dict[str, Callable[[Any, str], tuple[Tensor, tuple[str, ...]]]] = {
    "classes": _classes,
    "number": _numbers,
}


def _one(given: Any, where: str) -> list[Any]:
    array = np.asarray(given)
    if array.ndim != 1:
        raise ConfigError("one target for each sequence expected, got one a step", where=where)
    return list(array.tolist())


def _times(file: SequenceFile, where: str, sampled: str) -> list[NDArray[np.float32]] | None:
    if sampled == "evenly":
        if file.times is not None:
            raise ConfigError(
                "the file has the times of its steps",
                where=where,
                hint="data.sampled: at_times; or leave them out if steps are equally far apart",
            )
        return None
    if file.times is None:
        raise ConfigError(
            "the file has no times of its steps",
            where=where,
            hint="an array times (sequences, steps) in an .npz, a column time in a .csv; or "
            "data.sampled: evenly",
        )
    gaps = [np.diff(t_T) for t_T in file.times]
    for number, (t_T, gap_T) in enumerate(zip(file.times, gaps, strict=True)):
        if not np.isfinite(t_T).all() or (gap_T <= 0.0).any():
            raise DamagedData(
                f"the times of sequence {number} must be finite and rise", where=where
            )
    step = float(np.median(np.concatenate(gaps))) if any(map(len, gaps)) else 1.0
    return [((t_T - t_T[0]) / step).astype(np.float32) for t_T in file.times]
