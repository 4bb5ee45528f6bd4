"""A table for a paper, in LaTeX with booktabs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ckconv_sweep.report.columns import is_missing, is_number, plain, without_empty

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    **{character: f"\\{character}" for character in "{}$&#_%"},
}
_DIGITS = 4
"""Significant ones of the smallest number of a column."""


def to_latex(table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """A `tabular`; notes follow it as comments. Numbers are right-aligned, and those of one column
    have equally many decimals, so that their points stand under each other."""
    table = without_empty(table)
    columns = [_column(table[name].tolist()) for name in table]
    layout = "".join("r" if numbers else "l" for numbers, _ in columns)
    head = " & ".join(escape(str(name)) for name in table)
    rows = [" & ".join(cells) for cells in zip(*(cells for _, cells in columns), strict=True)]
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{layout}}}",
        "\\toprule",
        f"{head} \\\\",
        "\\midrule",
        *(f"{row} \\\\" for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
        *(f"% {re.sub(_CONTROL, ' ', note)}" for note in notes),
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """A text as LaTeX prints it: no character has a meaning, control codes are shown as `\\x1b`."""
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in re.sub(_BREAK, " ", text))
    out = "".join(_SPECIAL.get(character, character) for character in text)
    # After the end of a row, LaTeX takes these for a part of the command.
    return f"{{}}{out}" if out.startswith(("[", "*")) else out


_BREAK = r"\r\n|[\r\n]"
_CONTROL = r"[^\x20-\x7e\xa1-\uffff]"


def _column(cells: list[Any]) -> tuple[bool, list[str]]:
    """Whether it holds numbers, and its cells."""
    values = plain(cells)
    if not values or not all(map(is_number, values)):
        return False, ["" if is_missing(cell) else escape(str(cell)) for cell in cells]
    write = _writer_of(values)
    return True, ["" if is_missing(cell) else write(cell) for cell in cells]


def _writer_of(values: list[Any]) -> Any:
    """How the numbers of a column are written."""
    if all(isinstance(value, int) for value in values):
        return lambda value: _signed(str(value))
    finite = [value for value in values if math.isfinite(value)]
    powers = [math.floor(math.log10(abs(value))) for value in finite if value]
    if powers and (min(powers) < -4 or max(powers) > 5):
        return _scientific
    decimals = max(0, _DIGITS - 1 - min(powers, default=0))
    while decimals and all(f"{value:.{decimals}f}".endswith("0") for value in finite):
        decimals -= 1
    return lambda value: _plain(value, decimals)


def _plain(value: float, decimals: int) -> str:
    return _signed(f"{value:.{decimals}f}") if math.isfinite(value) else _infinite(value)


def _scientific(value: float) -> str:
    if not math.isfinite(value):
        return _infinite(value)
    digits, _, power = f"{value:.{_DIGITS - 1}e}".partition("e")
    return f"${digits} \\times 10^{{{int(power)}}}$" if value else "0"


def _infinite(value: float) -> str:
    return r"$\infty$" if value > 0 else r"$-\infty$"


def _signed(text: str) -> str:
    """With a minus instead of a hyphen."""
    return f"$-${text[1:]}" if text.startswith("-") else text
