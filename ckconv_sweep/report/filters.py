"""`--where "model.hidden_channels < 40"`: which rows of a table are meant. Nothing is evaluated.

    condition = name sign literal | name "in" "[" literal {"," literal} "]"
    sign      = "<" | "<=" | ">" | ">=" | "==" | "!="
    literal   = "text" | 'text' | word

A word is read as in a YAML file: `40`, `1e-3`, `true`, `null` for a cell without a value, otherwise
text. In double quotes \\ escapes as in JSON.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ckconv_sweep.config.documents import scalar
from ckconv_sweep.config.domains import Scalar
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.report.columns import is_missing, is_number, plain

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NAME = r"""(?P<name>[^<>=!\[\]"']+?)"""
_LITERAL = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,\[\]"'<>=!]+)"""
_PLAIN = re.compile(rf"\s*{_NAME}\s*(?P<sign><=|>=|==|!=|<|>|=)\s*(?P<value>{_LITERAL})\s*", re.S)
_AMONG = re.compile(
    rf"\s*{_NAME}\s+in\s*\[\s*(?P<values>{_LITERAL}(?:\s*,\s*{_LITERAL})*)\s*,?\s*\]\s*", re.S
)
_FORM = (
    """write it as in "model.hidden_channels < 40", "schedule == plateau" or "trial in [3, 7]\""""
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What must hold of one column. `values` are several for `in`, else one."""

    name: str
    sign: str
    values: tuple[Scalar, ...]

    def __str__(self) -> str:
        literals = [_written(value) for value in self.values]
        right = f"[{', '.join(literals)}]" if self.sign == "in" else literals[0]
        return f"{self.name} {self.sign} {right}"

    def holds(self, cell: Any) -> bool:
        """A cell without a value is null, and is neither equal nor unequal to anything else."""
        if is_missing(cell):
            return self.sign in ("==", "in") and None in self.values
        if self.sign in _ORDER:
            return _ORDER[self.sign](cell, self.values[0])
        equal = any(_same(cell, value) for value in self.values)
        return equal != (self.sign == "!=")


def parse(text: str) -> Condition:
    """Read a condition.

    Raises:
        ConfigError: it is none.
    """
    where = f"--where {text}"
    if match := _AMONG.fullmatch(text):
        literals, sign = re.findall(_LITERAL, match["values"], re.S), "in"
    elif match := _PLAIN.fullmatch(text):
        literals, sign = [match["value"]], match["sign"]
    else:
        raise ConfigError("this is no condition", where=where, hint=_FORM)
    if sign == "=":
        raise ConfigError("a comparison is written with ==", where=where, hint=_FORM)
    values = tuple(_read(literal, where) for literal in literals)
    if sign in _ORDER and not is_number(values[0]):
        raise ConfigError(
            f"only numbers have an order, got {literals[0]}", where=where, hint="take == or !="
        )
    return Condition(name=match["name"].strip(), sign=sign, values=values)


def matching(table: pd.DataFrame, conditions: Sequence[Condition]) -> pd.DataFrame:
    """The rows for which all conditions hold.

    Raises:
        ConfigError: a value is of another kind than all of its column.
    """
    for condition in conditions:
        cells = table[condition.name].tolist()
        _check_kinds(condition, plain(cells))
        table = table[np.array([condition.holds(cell) for cell in cells], dtype=bool)]
    return table


def _check_kinds(condition: Condition, cells: list[Any]) -> None:
    there = {_kind(cell) for cell in cells}
    for value in condition.values:
        if there and value is not None and _kind(value) not in there:
            raise ConfigError(
                f"{condition.name} holds {' and '.join(sorted(there))}, not "
                f"{_kind(value)} as {_written(value)}",
                where=f"--where {condition}",
                hint="a word in quotes is text" if there == {"text"} else None,
            )
    if condition.sign in _ORDER and there - {"numbers"}:
        raise ConfigError(
            f"{condition.name} holds {' and '.join(sorted(there))}: only numbers have an order",
            where=f"--where {condition}",
            hint="take ==, != or in",
        )


def _kind(value: Any) -> str:
    return "true or false" if isinstance(value, bool) else "numbers" if is_number(value) else "text"


def _same(cell: Any, value: Scalar) -> bool:
    return _kind(cell) == _kind(value) and value is not None and bool(cell == value)


def _read(literal: str, where: str) -> Scalar:
    if literal[0] == "'":
        return literal[1:-1]
    if literal[0] != '"':
        value: Scalar = scalar(literal)
        return value
    try:
        return str(json.loads(literal, strict=False))
    except ValueError:
        raise ConfigError(
            f"{literal} cannot be read", where=where, hint='a \\ escapes as in JSON: \\\\, \\", \\n'
        ) from None


def _written(value: Scalar) -> str:
    """As `_read` reads it back."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value).replace("inf", ".inf").replace("nan", ".nan")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
