"""Character Trajectories (`character_trajectories`): 182 steps, 3 channels, 20 classes.

2,858 letters written by one person: the pen's two velocities and its force (B. H. Williams, UCI,
2006; CC BY 4.0). Missing data and changes of the sampling rate as in Romero et al. 2022 (CKConv,
arXiv:2102.02611).

Data, in `<data folder>/character_trajectories/`, put there by the user, the first that is found:

1. `CharacterTrajectories_TRAIN.ts` and `_TEST.ts` of the UEA archive
   (https://www.timeseriesclassification.com), which the published results are on. No checksums of
   them are published, so nothing is downloaded.
2. `character_trajectories_stripped.npz`, UCI's own file as arrays: `X`, `(2858, 3, 182)`, NaN after
   a series' end; `y`, `(2858,)`, 0 to 19; `lengths`, `(2858,)`. Its order is not UEA's, so that the
   same recipe splits it otherwise: results on it are near the published ones, not the same.

Split: all 2,858 series in one pool, TRAIN before TEST, of which 70, 15 and 15 %
(`sequences.published_split`).

Values: series are continued by the last value of each channel to 182 steps, then as the settings
say (`sequences`). Classes of `.ts` files are numbered by first appearance, as published.

Shapes: N sequences, C = 3 channels, L = 182 time steps, T those that are left.
"""

from __future__ import annotations

import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ckconv_sweep.config.data import CharacterTrajectoriesData, Description
from ckconv_sweep.data.fetch import DATA_VARIABLE, data_folder
from ckconv_sweep.data.preparation import measured, of_resampled
from ckconv_sweep.data.sequences import prepare, prepare_test, prepared_shape, published_split
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.data.ts_format import padded, read_ts
from ckconv_sweep.errors import ConfigError, DamagedData

SERIES = 2_858
CHANNELS, LENGTH, CLASSES = 3, 182, 20

TS_FILES = ("CharacterTrajectories_TRAIN.ts", "CharacterTrajectories_TEST.ts")
NPZ_FILE = "character_trajectories_stripped.npz"
MAX_NPZ_BYTES = 64 * 2**20


def describe(data: CharacterTrajectoriesData, data_dir: Path | None = None) -> Description:
    """What follows from the settings alone."""
    in_channels, length = prepared_shape(CHANNELS, LENGTH, data)
    return Description(name=data.name, in_channels=in_channels, length=length, outputs=CLASSES)


def load(data: CharacterTrajectoriesData, data_dir: Path | None = None) -> SequenceTask:
    """Read, split and prepare the letters."""
    folder = data_folder(data_dir) / "character_trajectories"
    inputs_NCL, targets_N, classes = _read(folder)
    positions = published_split(targets_N, data.split_seed)
    train, validation, normalizer = prepare(inputs_NCL, targets_N, positions, data)
    measured_on = measured(len(train), data.name)
    return SequenceTask(
        description=describe(data),
        train=train,
        validation=validation,
        test_reader=partial(_read_test, folder, data),
        classes=classes,
        preparation=of_resampled(normalizer, (CHANNELS, LENGTH), data, measured_on, continued=True),
    )


def _read_test(folder: Path, data: CharacterTrajectoriesData) -> Split:
    inputs_NCL, targets_N, _ = _read(folder)
    return prepare_test(inputs_NCL, targets_N, published_split(targets_N, data.split_seed), data)


def _read(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[str, ...]]:
    """Series `(N, 3, 182)`, continued by their last values, classes `(N,)`, and their names."""
    ts_paths = [folder / name for name in TS_FILES]
    there = [path for path in ts_paths if path.is_file()]
    if len(there) == len(ts_paths):
        inputs_NCL, targets_N, names = _read_ts(ts_paths)
    elif not there and (folder / NPZ_FILE).is_file():
        inputs_NCL, targets_N = _read_npz(folder / NPZ_FILE)
        names = tuple(map(str, range(CLASSES)))
    else:
        raise ConfigError(
            f"{' and '.join(path.name for path in ts_paths if path not in there)} must be here",
            where=str(folder),
            hint="download CharacterTrajectories in .ts format from "
            f"https://www.timeseriesclassification.com and put both files there (or {NPZ_FILE}), "
            "or name the folder above character_trajectories/ with --data-dir or "
            f"{DATA_VARIABLE}",
        )
    classes = np.unique(targets_N)
    if len(inputs_NCL) != SERIES or classes.tolist() != list(range(CLASSES)):
        raise _damaged(
            folder,
            f"{SERIES} series of {CLASSES} classes, got {len(inputs_NCL)} of {len(classes)}",
        )
    return inputs_NCL, targets_N, names


def _read_ts(
    paths: list[Path],
) -> tuple[NDArray[np.float32], NDArray[np.int64], tuple[str, ...]]:
    series: list[NDArray[np.float32]] = []
    labels: list[str] = []
    for path in paths:
        content = read_ts(path)
        longest = max(x_CT.shape[1] for x_CT in content.series)
        known = not any(np.isnan(x_CT).any() for x_CT in content.series)
        if content.channels != CHANNELS or longest > LENGTH or not known:
            raise _damaged(
                path,
                f"{CHANNELS} channels and at most {LENGTH} steps, got {content.channels} and "
                f"{longest}{'' if known else ', and missing values'}",
            )
        series += content.series
        labels += content.labels
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    targets_N = np.array([numbers[label] for label in labels], dtype=np.int64)
    return np.stack([padded(x_CT, LENGTH) for x_CT in series]), targets_N, tuple(numbers)


def _read_npz(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_NPZ_BYTES:
                raise _damaged(path, f"at most {MAX_NPZ_BYTES} bytes, got more")
        with np.load(path, allow_pickle=False) as arrays:
            x_NCL, y_N, lengths_N = arrays["X"], arrays["y"], arrays["lengths"]
    except (OSError, EOFError, ValueError, LookupError, RuntimeError, MemoryError, SyntaxError,
            zlib.error, zipfile.BadZipFile) as error:  # fmt: skip
        raise _damaged(path, f"a .npz file with X, y and lengths, got {error}") from error
    got = x_NCL.shape, y_N.shape, lengths_N.shape
    count = len(y_N) if y_N.ndim else 0
    if (
        got != ((count, CHANNELS, LENGTH), (count,), (count,))
        or x_NCL.dtype.kind != "f"
        or y_N.dtype.kind not in "iu"
        or lengths_N.dtype.kind not in "iu"
    ):
        raise _damaged(path, f"arrays (N, {CHANNELS}, {LENGTH}), (N,) and (N,), got {got}")
    ended_NL = np.arange(LENGTH) >= lengths_N[:, None]
    if (
        ((lengths_N < 1) | (lengths_N > LENGTH)).any()
        or (np.isnan(x_NCL) != ended_NL[:, None, :]).any()
        or np.isinf(x_NCL).any()
    ):
        raise _damaged(path, "finite values up to each series' length, and NaN after it")
    last_N11 = lengths_N.astype(np.int64)[:, None, None] - 1
    last_NC1 = np.take_along_axis(x_NCL, last_N11, axis=2)
    padded_NCL = np.where(ended_NL[:, None, :], last_NC1, x_NCL)
    return padded_NCL.astype(np.float32), y_N.astype(np.int64)


def _damaged(path: Path, expected_and_got: str) -> DamagedData:
    return DamagedData(
        f"no Character Trajectories: expected {expected_and_got}",
        where=str(path),
        hint="get the files again",
    )
