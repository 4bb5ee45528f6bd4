"""How a table looks: on a terminal, as CSV, Markdown, LaTeX or JSON. Knows nothing of trials."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from ckconv_sweep.config.settings import short_names
from ckconv_sweep.report.columns import is_missing, names_of, plain, without_empty

if TYPE_CHECKING:
    from rich.table import Table


def to_terminal(
    table: pd.DataFrame, *, title: str = "", settings: Sequence[str] = (), width: int = 80
) -> Table:
    """Short numbers, right-aligned; columns without a single value are left out. Where a table does
    not fit in `width` characters, the columns of `settings` become one, which also tells the last
    columns before them if there is no room for these; without settings, it is turned on its side if
    it fits then, and else its cells are broken."""
    from rich.table import Table
    from rich.text import Text

    shown = without_empty(table)
    names = shortened(shown, settings)
    texts = {names[name] for name in names_of(shown) if _is_text(shown[name])}
    cells = shown.map(_short).map(_visible).rename(columns=names)
    fits = _width(cells) <= width
    if settings and not fits:
        inside = [names[path] for path in settings if path in shown]
        together = [
            " ".join(f"{name}={row[name]}" for name in inside if row[name])
            for row in cells.to_dict(orient="records")
        ]
        cells = cells.drop(columns=[*inside, *_LESS_IMPORTANT], errors="ignore")
        for name in _NEXT_IMPORTANT:  # the rows stand in the order of their ranks
            if width - _width(cells) - 3 < _longest(together):
                cells = cells.drop(columns=name, errors="ignore")
        while width - _width(cells) - 3 < _longest(together) and len(cells.columns) > _LEAST:
            name = str(cells.columns[-1])
            together = [
                f"{name}={value} {text}".rstrip() if value else text
                for value, text in zip(cells.pop(name), together, strict=True)
            ]
        room = width - _width(cells) - 3
        cells = cells.assign(settings=[_broken_at_names(text, room) for text in together])
        fits = True  # the column of settings gives way
    elif not fits:
        turned = _turned(cells)
        if _width(turned) <= width:
            cells, texts, fits = turned, {str(turned.columns[0])}, True
    out = Table(title=title or None, title_justify="left", title_style="", header_style="bold")
    for name in map(str, cells):
        if name == "settings":
            out.add_column(name, justify="left", overflow="fold")
        else:
            justify: Literal["left", "right"] = "left" if name in texts else "right"
            out.add_column(Text(_visible(name)), justify=justify, no_wrap=fits, overflow="fold")
    for row in cells.itertuples(index=False):
        out.add_row(*map(Text, row))
    return out


def _turned(cells: pd.DataFrame) -> pd.DataFrame:
    """Rows as columns; the first column's cells become the headings."""
    first, *others = map(str, cells)
    out = pd.DataFrame({first: others})
    for row in cells.itertuples(index=False):
        out.insert(len(out.columns), str(row[0]), list(row[1:]), allow_duplicates=True)
    return out


def shortened(table: pd.DataFrame, settings: Sequence[str]) -> dict[str, str]:
    """A name for each column: settings by their last words, as far as these are no other's."""
    others = [name for name in names_of(table) if name not in settings]
    return short_names([*settings, *others]) | {name: name for name in others}


_LESS_IMPORTANT = ["at epoch", "seconds"]
_NEXT_IMPORTANT = ["epochs", "rank"]
"""Left out, too, where a setting's name or value would not stand in one line."""


_LEAST = 3
"""Columns that are always beside that of the settings; others are told in it, if they must."""


def _longest(together: Sequence[str]) -> int:
    """Of what must stand in one line: names and values."""
    words = [word for text in together for word in text.replace("=", "= ").split()]
    return max(map(len, words), default=0)


def _broken_at_names(text: str, room: int) -> str:
    """`learning_rate=0.005` in two lines, if one is too short: a broken number cannot be read."""
    words = (word if len(word) <= room else word.replace("=", "=\n", 1) for word in text.split(" "))
    return " ".join(words)


def _width(cells: pd.DataFrame) -> int:
    """Of the table with its frame, in characters."""
    columns = [[str(name), *cells.iloc[:, i]] for i, name in enumerate(cells)]
    return 1 + sum(3 + max(map(len, column)) for column in columns)


def to_csv(table: pd.DataFrame) -> str:
    """Full precision. A text that a spreadsheet would take for a formula gets a quote before it."""
    lines = [list(table.columns), *table.itertuples(index=False, name=None)]
    return "".join(",".join(map(_csv_cell, line)) + "\n" for line in lines)


def to_json(table: pd.DataFrame) -> str:
    """A list of objects, full precision, `null` where there is no value."""
    rows = [
        {name: _plain(value) for name, value in row.items()}
        for row in table.to_dict(orient="records")
    ]
    return json.dumps(rows, indent=2, allow_nan=False)


def to_markdown(table: pd.DataFrame) -> str:
    shown = without_empty(table)
    ends = ["---" if _is_text(shown[name]) else "---:" for name in shown]
    lines = [list(map(str, shown.columns)), ends]
    lines += [[_short(value) for value in row] for row in shown.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(_no_bars(cell) for cell in line)} |" for line in lines)


def _short(value: Any) -> str:
    if is_missing(value):
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    # A seed of 19 digits is shown in full.
    too_long = isinstance(value, int) and len(text) > _MOST_DIGITS
    return f"{Decimal(value):.4g}" if too_long else text


_MOST_DIGITS = 20


def _is_text(column: pd.Series[Any]) -> bool:
    values = plain(column)
    return bool(values) and all(isinstance(value, str) for value in values)


def _plain(value: Any) -> Any:
    if is_missing(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _csv_cell(value: Any) -> str:
    """pandas and Python's own csv leave a carriage return without quotes, and a reader ends the
    line there."""
    text = "" if is_missing(value) else str(_plain(value))
    if isinstance(value, str):
        text = f"'{text}" if text.startswith(_BEFORE_FORMULAS) else text
        if re.search('[",\r\n]', text):
            return '"' + text.replace('"', '""') + '"'
    return text


_BEFORE_FORMULAS = tuple("=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20")
"""What makes a spreadsheet run a cell, or is skipped by it (OWASP: CSV injection). The last four
are the signs in the width of Chinese letters."""


def _no_bars(cell: str) -> str:
    cell = re.sub(r"\r\n|[\r\n]", " ", cell)
    return _visible(cell.replace("\\", "\\\\").replace("|", "\\|"))


def _visible(text: str) -> str:
    """Without control codes, which a terminal would obey."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


FOR_PROGRAMS = {"csv": to_csv, "json": to_json}
"""The formats of `table` that have every column, in full precision."""
