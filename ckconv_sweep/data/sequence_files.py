"""A file of sequences that a user brings: what it holds, whatever its format.

`.npy`: an array `(sequences, channels, steps)`; `(sequences, steps)` where a sequence has one
channel. `.npz`: such an array `X`; also `y`, a target each, `lengths`, the steps of each, and
`times`, `(sequences, steps)`, the time of each step in steps of a whole raw sequence. `.csv` with a
a first line of names: one line a step if there is a column `sequence` (then each other column is a
channel, but for `time` and `target`), otherwise one line a sequence of one channel. `.ts`: the
format of the UEA archive.
Missing values are NaN, `?` or empty. Nothing here is a pickle, and none is read.

Shapes: C channels, T time steps.
"""

from __future__ import annotations

import csv
import itertools
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ckconv_sweep.data.ts_format import MISSING, read_ts
from ckconv_sweep.errors import ConfigError, DamagedData, reading

MAX_BYTES = 2**33
"""Of a file, and of what a `.npz` unpacks to: one that is larger is refused before it is read."""
SEQUENCE, TIME, TARGET = "sequence", "time", "target"
_BROKEN = (OSError, EOFError, ValueError, LookupError, RuntimeError, MemoryError, SyntaxError,
           zlib.error, zipfile.BadZipFile)  # fmt: skip


@dataclass(frozen=True, eq=False)
class SequenceFile:
    """What it holds, in its order."""

    series: Sequence[NDArray[Any]]
    """Each `(C, T)`, T its own."""
    targets: Sequence[str] | NDArray[Any] | None = None
    """What should come out for each; None where the file does not tell. An array where each is a
    number, or `(N, T)` a number a step."""
    times: Sequence[NDArray[Any]] | None = None
    """`(T,)` for each: when its steps were, in steps of a whole raw sequence."""
    of_steps: NDArray[Any] | None = None
    """`(N, T)`: a number for each step, where the targets tell one; also where all of a sequence
    are alike, which `targets` has once."""


def read_sequences(path: Path) -> SequenceFile:
    """Read a file.

    Raises:
        ConfigError: it cannot be read, or has a format that is not read here.
        DamagedData: its content is not what its name says.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(
            "sequences are read from .npy, .npz, .csv and .ts files",
            where=str(path),
            hint="for a split of the model's own dataset write validation or test",
        )
    with reading(path):
        if not path.is_file():
            path.stat()
            raise ConfigError("this is no plain file", where=str(path))
        if path.stat().st_size > MAX_BYTES:
            raise DamagedData(f"a file of more than {MAX_BYTES} bytes is refused", where=str(path))
        found = reader(path)
    if not found.series:
        raise DamagedData("holds no sequence", where=str(path))
    for name, column in (("targets", found.targets), ("times", found.times)):
        if column is not None and len(column) != len(found.series):
            raise DamagedData(
                f"{len(found.series)} sequences and {len(column)} {name}", where=str(path)
            )
    return found


def _npy(path: Path) -> SequenceFile:
    try:
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive; call it .npz")
    except _BROKEN as error:
        raise DamagedData(f"no array can be read: {error}", where=str(path)) from error
    return SequenceFile(list(_series(path, array)))


def _npz(path: Path) -> SequenceFile:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise DamagedData(f"unpacks to more than {MAX_BYTES} bytes", where=str(path))
        with np.load(path, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
    except _BROKEN as error:
        raise DamagedData(f"no arrays can be read: {error}", where=str(path)) from error
    for name in ("X", *_SHAPES):
        if name in held:
            _check_array(path, name, held[name])
    if "X" not in held:
        raise DamagedData(
            f"needs an array X (sequences, channels, steps), holds {', '.join(held) or 'none'}",
            where=str(path),
        )
    if "y" in held and held["y"].dtype.kind not in "fiubU":
        raise DamagedData(f"y must hold numbers or names, got {held['y'].dtype}", where=str(path))
    series, times = list(_series(path, held["X"])), None
    if "times" in held:
        times = [np.asarray(row, dtype=np.float64) for row in _real(path, held["times"])]
    if "lengths" in held:
        lengths = held["lengths"]
        longest = series[0].shape[1] if series else 0
        right = lengths.shape == (len(series),) and lengths.dtype.kind in "iu"
        if not right or ((lengths < 1) | (lengths > longest)).any():
            raise DamagedData(
                f"lengths must be a whole number from 1 to {longest} for each sequence",
                where=str(path),
            )
        series = [x_CT[:, :length] for x_CT, length in zip(series, lengths, strict=True)]
        times = times and [row[:length] for row, length in zip(times, lengths, strict=False)]
    for x_CT, row in zip(series, times or (), strict=False):
        if row.shape != x_CT.shape[1:]:
            raise DamagedData("times must have the shape (sequences, steps)", where=str(path))
    return SequenceFile(series, held.get("y"), times)


_SHAPES = {
    "y": ((1, 2), "(sequences,) or (sequences, steps)"),
    "lengths": ((1,), "(sequences,)"),
    "times": ((2,), "(sequences, steps)"),
}
"""How many axes an array of a `.npz` may have, and what they are."""


def _check_array(path: Path, name: str, array: object) -> None:
    """Of a `.npz`, which also gives what is no array, as bytes."""
    if not isinstance(array, np.ndarray):
        raise DamagedData(f"{name} is no array", where=str(path))
    if name in _SHAPES and array.ndim not in _SHAPES[name][0]:
        raise DamagedData(
            f"{name} must have the shape {_SHAPES[name][1]}, got {array.shape}", where=str(path)
        )


def _series(path: Path, array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    if array.ndim not in (2, 3):
        raise ConfigError(
            f"must have the shape (sequences, channels, steps), got {array.shape}",
            where=str(path),
            hint="one sequence of one channel has the shape (1, 1, steps)",
        )
    array = _real(path, array)
    yield from array if array.ndim == 3 else array[:, None]


def _real(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "fiub":
        raise DamagedData(f"must hold real numbers, got {array.dtype}", where=str(path))
    return array if array.dtype == np.float32 else array.astype(np.float64)


def _ts(path: Path) -> SequenceFile:
    content = read_ts(path, needs_classes=False)
    return SequenceFile(content.series, content.labels or None)


def _csv(path: Path) -> SequenceFile:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            names = [name.strip() for name in next(rows, [])]
            if len(set(names)) < len(names) or not names:
                raise _wrong(path, 1, "the first line must name each column once")
            lines = [(rows.line_num, row) for row in rows if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedData(f"no text of commas and lines: {error}", where=str(path)) from error
    for number, row in lines:
        if len(row) != len(names):
            raise _wrong(path, number, f"{len(names)} columns expected, got {len(row)}")
    if SEQUENCE in names:
        return _one_line_a_step(path, names, lines)
    steps = [i for i, name in enumerate(names) if name != TARGET]
    series = [np.array([[_number(path, n, row[i]) for i in steps]]) for n, row in lines]
    targets = None
    if TARGET in names:
        targets = [row[names.index(TARGET)].strip() for _, row in lines]
    return SequenceFile(series, targets)


def _one_line_a_step(
    path: Path, names: list[str], lines: list[tuple[int, list[str]]]
) -> SequenceFile:
    """Lines of a sequence stand together; its target stands in each of them, and may differ from
    step to step."""
    which = names.index(SEQUENCE)
    channels = [i for i, name in enumerate(names) if name not in (SEQUENCE, TIME, TARGET)]
    series, times, targets, seen = [], [], [], set[str]()
    for name, group in itertools.groupby(lines, key=lambda line: line[1][which].strip()):
        some = list(group)
        if name in seen:
            raise _wrong(path, some[0][0], f"the lines of sequence {name!a} must stand together")
        seen.add(name)
        series.append(np.array([[_number(path, n, row[i]) for n, row in some] for i in channels]))
        if TIME in names:
            i = names.index(TIME)
            times.append(np.array([_number(path, n, row[i]) for n, row in some]))
        if TARGET in names:
            targets.append([(n, row[names.index(TARGET)].strip()) for n, row in some])
    if not channels:
        raise _wrong(path, 1, "a column for each channel expected")
    if not targets:
        return SequenceFile(series, None, times or None)
    return SequenceFile(series, _targets(path, targets), times or None, _of_steps(path, targets))


_Words = Sequence[Sequence[tuple[int, str]]]
"""For each sequence, at each step: the line and what stands there."""


def _targets(path: Path, targets: _Words) -> Sequence[str] | NDArray[Any]:
    """One for each sequence where its steps have the same, otherwise one for each step."""
    if all(len({word for _, word in some}) == 1 for some in targets):
        return [some[0][1] for some in targets]
    if len({len(some) for some in targets}) > 1:
        raise ConfigError(
            "where targets differ from step to step, all sequences must have the same length",
            where=str(path),
        )
    return np.array([[_number(path, n, word) for n, word in some] for some in targets])


def _of_steps(path: Path, targets: _Words) -> NDArray[Any] | None:
    """None where they are names, or sequences differ in length."""
    if len({len(some) for some in targets}) > 1:
        return None
    try:
        return np.array([[_number(path, n, word) for n, word in some] for some in targets])
    except DamagedData:
        return None


def _number(path: Path, line: int, word: str) -> float:
    word = word.strip()
    if not word or word.lower() in MISSING:
        return math.nan
    try:
        if "_" in word:  # Python would read 1_0 as ten
            raise ValueError
        return float(word)
    except ValueError:
        raise _wrong(path, line, f"{word[:50]!a} is no number") from None


def _wrong(path: Path, line: int, what: str) -> DamagedData:
    return DamagedData(what, where=f"{path}:{line}")


_READERS: dict[str, Callable[[Path], SequenceFile]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".ts": _ts,
}
