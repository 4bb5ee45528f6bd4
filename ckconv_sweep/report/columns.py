"""The columns of a table as a person names them: `omega_0`, `val/loss:asc`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pandas as pd

from ckconv_sweep.config.metrics import METRICS
from ckconv_sweep.errors import ConfigError, UnknownNameError

DIRECTIONS = {"asc": False, "desc": True}


def find(given: str, known: Iterable[str], where: str) -> str:
    """The column of this name, or the only one that ends in it after a dot.

    Raises:
        UnknownNameError: there is none; says the nearest.
        ConfigError: several end so.
    """
    known, name = list(known), given.strip()
    if name in known:
        return name
    ending = [column for column in known if column.endswith(f".{name}")]
    if len(ending) > 1:
        raise ConfigError(
            f"several columns end in {name!r}", where=where, hint="take " + " or ".join(ending)
        )
    if not ending:
        raise UnknownNameError("column", name, known, where=where)
    return ending[0]


def names_of(table: pd.DataFrame) -> list[str]:
    """The names of its columns."""
    return [str(name) for name in table]


def split_order(text: str) -> tuple[str, bool | None]:
    """`seconds:desc` as the name and whether the largest comes first; None where that is not said.

    Raises:
        ConfigError: what follows the colon is neither asc nor desc.
    """
    name, colon, word = text.partition(":")
    if not colon:
        return name, None
    if word not in DIRECTIONS:
        raise ConfigError(
            f"asc or desc must follow the colon, got {word!r}",
            where=f"--sort {text}",
            hint="as in --sort seconds:desc",
        )
    return name, DIRECTIONS[word]


def better_is(column: str) -> Literal["min", "max"]:
    """`max` where more is better, as of an accuracy; `min` of all else: losses, seconds, sizes."""
    metric = METRICS.get(column.replace("test/", "val/"))
    return metric.mode if metric else "min"


def sorted_by(table: pd.DataFrame, column: str, descending: bool | None = None) -> pd.DataFrame:
    """By one column, without a value last, equal ones as they were. Unless said otherwise a score
    has its best first, and all else its smallest."""
    if descending is None:
        descending = better_is(column) == "max"
    values = table[column].tolist()
    there = [i for i, value in enumerate(values) if not is_missing(value)]
    there.sort(key=lambda i: _comparable(values[i]), reverse=descending)
    gaps = [i for i, value in enumerate(values) if is_missing(value)]
    return table.iloc[[*there, *gaps]]


def is_missing(value: Any) -> bool:
    """Whether a cell is empty."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def is_number(value: Any) -> bool:
    """True and false are none."""
    return not isinstance(value, bool) and isinstance(value, (int, float))


def plain(values: Iterable[Any]) -> list[Any]:
    """Cells as Python's own values, without the empty ones."""
    found = (value.item() if hasattr(value, "item") else value for value in values)
    return [value for value in found if not is_missing(value)]


def in_order(values: Iterable[Any]) -> list[Any]:
    """The different ones among some cells, numbers first."""
    different: dict[Any, Any] = {_comparable(value): value for value in plain(values)}
    return [different[key] for key in sorted(different)]


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of objects as whole or real numbers where they hold such; gaps stay gaps, and whole
    numbers of more than 64 bits stay Python's."""
    out: dict[str, Any] = {}
    for name in names_of(table):
        values = plain(table[name])
        whole = bool(values) and all(type(value) is int for value in values)
        if whole and max(map(abs, values)) < 2**63:
            cells = [None if is_missing(cell) else cell for cell in table[name]]
            out[name] = pd.Series(cells, index=table.index, dtype="Int64")
        elif values and all(map(is_number, values)) and not whole:
            cells = [math.nan if is_missing(cell) else cell for cell in table[name]]
            out[name] = pd.Series(cells, index=table.index, dtype=float)
    return table.assign(**out)


def without_empty(table: pd.DataFrame) -> pd.DataFrame:
    """Without columns that hold no value at all; a table without rows keeps them."""
    return table.dropna(axis="columns", how="all") if len(table) else table


def split_names(text: str | None) -> Sequence[str]:
    """`a, b` as its names."""
    return [] if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _comparable(value: Any) -> tuple[str, Any]:
    """A key by which cells of different kinds can be sorted, and told apart: true is not 1."""
    return ("a number", value) if is_number(value) else (type(value).__name__, value)
