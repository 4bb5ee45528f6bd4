"""A `.ts` file of the UEA and UCR archives in, its series and labels out.

A header of lines `@key value`, then `@data`, then one series a line: its channels parted by colons,
their values by commas, the class at the end. `?` is a missing value. Lines that begin with `#` say
nothing. The format is that of www.timeseriesclassification.com (Bagnall et al. 2018, The UEA
multivariate time series classification archive, arXiv:1811.00075).

Read are series without time stamps; with a class, unless the reader says that they need none, or
may have a number to predict.

Shapes: C channels, T time steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ckconv_sweep.errors import DamagedData, reading

MAX_BYTES = 2**32
MAX_LINE_BYTES = 2**28
MAX_CLASSES = 10_000
WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
MISSING = ("?", "nan")


@dataclass(frozen=True, kw_only=True)
class TsHeader:
    """What stands before `@data`."""

    channels: int | None
    """None where the header does not say."""
    length: int | None
    """Time steps of every series; None where series differ, or where the header does not say."""
    classes: tuple[str, ...]
    """In the header's order; none where series have no class."""
    numbers: bool = False
    """Whether a number to predict stands at the end of each series, in the place of a class."""


@dataclass(frozen=True, kw_only=True)
class TsShape:
    """What a file holds, without its values."""

    channels: int
    longest: int
    """Time steps of its longest series."""
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class TsFile:
    """A file's series, in its order."""

    channels: int
    classes: tuple[str, ...]
    series: list[NDArray[np.float32]]
    """Each `(C, T)`, T its own; NaN where a value is missing. A channel shorter than others of its
    series is continued by its last value."""
    labels: list[str]
    """The class of each, or the number to predict as it stands there; empty where they have
    none."""


def measure_ts(path: Path) -> TsShape:
    """What a file holds. Its values are not read, and where the header tells the length, neither
    are its series.

    Raises:
        ConfigError: the file cannot be read.
        DamagedData: it is no such file, with `<file>:<line>`.
    """
    lines = _lines(path)
    number, header = _header(path, lines)
    if header.channels is not None and header.length is not None:
        return TsShape(channels=header.channels, longest=header.length, classes=header.classes)
    channels, longest = header.channels, 0
    for number, text in lines:
        *values, _ = text.split(":")
        if not values:
            raise _damaged(path, number, "no values stand before the class")
        channels = channels or len(values)
        longest = max([longest, *(value.count(",") + 1 for value in values)])
    if channels is None or not longest:
        raise _damaged(path, number, "no series follows")
    return TsShape(channels=channels, longest=longest, classes=header.classes)


def read_ts(path: Path, *, needs_classes: bool = True) -> TsFile:
    """Read a file whole; raises as `measure_ts` does.

    Args:
        needs_classes: refuse one that says `@classLabel false` or `@targetLabel true`.
    """
    lines = _lines(path)
    number, header = _header(path, lines, needs_classes)
    classes = set(header.classes)
    labelled = header.numbers or bool(classes)
    channels = header.channels
    series: list[NDArray[np.float32]] = []
    labels: list[str] = []
    for number, text in lines:
        values = [part.strip() for part in text.split(":")]
        label = values.pop() if labelled else ""
        channels = channels or len(values)
        if not values:
            raise _damaged(path, number, "no values stand before the class")
        if len(values) != channels:
            raise _damaged(path, number, f"{channels} channels expected, got {len(values)}")
        if classes and label not in classes:
            raise _damaged(path, number, f"{label[:50]!a} is no class of the header")
        series.append(_array(path, number, values, header.length))
        labels += [label] if labelled else []
    if not series or channels is None:
        raise _damaged(path, number, "no series follows")
    return TsFile(channels=channels, classes=header.classes, series=series, labels=labels)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that says something."""
    with reading(path), path.open("rb") as file:
        if file.seek(0, 2) > MAX_BYTES:
            raise _damaged(path, 1, f"a file of more than {MAX_BYTES} bytes is refused")
        file.seek(0)
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise _damaged(path, number, f"longer than {MAX_LINE_BYTES} bytes")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise _damaged(path, number, f"no text in UTF-8: {error.reason}") from error
            if text and not text.startswith("#"):
                yield number, text


def _header(
    path: Path, lines: Iterator[tuple[int, str]], needs_classes: bool = True
) -> tuple[int, TsHeader]:
    """Take the header's lines, up to that of `@data`, whose number is returned, too."""
    channels: int | None = None
    length: int | None = None
    classes: tuple[str, ...] = ()
    equal, numbers = True, False
    number = 1
    for number, text in lines:
        if not text.startswith("@"):
            raise _damaged(path, number, f"@data expected before {text[:50]!a}")
        key, *values = text.split()
        match key.lower(), [value.lower() for value in values]:
            case "@data", []:
                if needs_classes and not classes:
                    raise _damaged(path, number, "no @classLabel stands before @data")
                return number, TsHeader(
                    channels=channels,
                    length=length if equal else None,
                    classes=classes,
                    numbers=numbers,
                )
            case "@timestamps", ["true"]:
                raise _damaged(path, number, "series with time stamps cannot be read")
            case "@targetlabel", ["true"] if not needs_classes:
                numbers = True
            case "@targetlabel", ["true"]:
                raise _damaged(path, number, "series with a number to predict cannot be read")
            case "@univariate", ["true"]:
                channels = 1
            case "@equallength", ["true" | "false" as said]:
                equal = said == "true"
            case (("@dimensions" | "@dimension"), [count]) if WHOLE_NUMBER.fullmatch(count):
                if int(count) == 0 or channels not in (None, int(count)):
                    raise _damaged(path, number, f"{channels or 'some'} channels, or {count}?")
                channels = int(count)
            case "@serieslength", [count] if WHOLE_NUMBER.fullmatch(count) and int(count):
                length = int(count)
            case "@classlabel", ["true", _, *_]:
                classes = tuple(values[1:])
                if len(set(classes)) < len(classes) or len(classes) > MAX_CLASSES:
                    raise _damaged(path, number, "a class is listed twice, or there are too many")
            case "@classlabel", ["false"] if not needs_classes:
                pass
            case "@classlabel", _:
                raise _damaged(path, number, "@classLabel true expected, and the classes")
            case (("@data" | "@equallength" | "@dimensions" | "@dimension" | "@serieslength"), _):
                raise _damaged(path, number, f"cannot be read: {text[:50]!a}")
            case _:  # @problemName, @missing, ...: nothing depends on them
                pass
    raise _damaged(path, number, "the file ends before @data")


def _array(path: Path, number: int, channels: list[str], length: int | None) -> NDArray[np.float32]:
    rows = [_values(path, number, text) for text in channels]
    longest = max(len(row) for row in rows)
    if length is not None and any(len(row) != length for row in rows):
        raise _damaged(path, number, f"{length} steps expected, got {longest}")
    return np.stack([padded(row[None], longest)[0] for row in rows])


def _values(path: Path, number: int, text: str) -> NDArray[np.float32]:
    if "(" in text:
        raise _damaged(path, number, "series with time stamps cannot be read")
    if "_" in text:  # Python would read 1_0 as ten
        raise _damaged(path, number, "a value is no number")
    words = [word.strip() for word in text.split(",")]
    try:
        numbers = [np.nan if word.lower() in MISSING else float(word) for word in words]
    except ValueError as error:
        raise _damaged(path, number, f"a value is no number: {str(error)[-50:]}") from error
    with np.errstate(over="ignore"):
        array = np.array(numbers, dtype=np.float32)
    if np.isinf(array).any():
        raise _damaged(path, number, "a value is infinite, or too large for 32 bits")
    return array


def padded(x: NDArray[Any], length: int) -> NDArray[Any]:
    """Continue every channel by its last value: `(..., T) -> (..., length)`."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, length - x.shape[-1])], mode="edge")


def _damaged(path: Path, line: int, what: str) -> DamagedData:
    return DamagedData(
        what, where=f"{path}:{line}", hint="correct the file, or put a whole one there"
    )
