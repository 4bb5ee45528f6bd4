"""What a confirmation says, on a terminal or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from ckconv_sweep.record.confirmation import Opening
    from ckconv_sweep.search.confirmed import Confirmed

_HEADINGS = {
    "mean": "mean ± 95 %",
    "to leader": "minus leader",
    "parameters": "param-\neters",
    "seconds": "seconds\na seed",
}
_LEFT_OUT = ("seconds", "search")
"""Where a terminal is too narrow, in this order."""


def show_confirmed(console: Console, found: Confirmed, title: str = "") -> None:
    """Print the table of settings, what follows from it, and the test numbers, if there are some.

    Args:
        title: stands above the table, as the sweep's name.
    """
    from ckconv_sweep.report.confirmed import CAPTION, rows, sentences

    title = f"{title}: {found.metric.name} ({found.metric.better_is} is better)".lstrip(": ")
    console.print(_fitting(rows(found), title, console.width))
    for line in (CAPTION, *sentences(found)):
        console.print(line, soft_wrap=True)
    show_openings(console, found.openings)


def show_openings(console: Console, openings: Sequence[Opening]) -> None:
    """Print the test numbers in a section of their own; nothing where there are none."""
    from ckconv_sweep.report.openings import heading, lines

    if openings:
        console.print(f"\n{heading(openings)}", soft_wrap=True)
        for line in lines(openings):
            console.print(f"  {line}", soft_wrap=True)


def print_json(found: Confirmed) -> None:
    """The same for programs, in full precision."""
    from json import dumps

    from ckconv_sweep.report.confirmed import as_plain

    typer.echo(dumps(as_plain(found), indent=2, allow_nan=False))


def _fitting(rows: Sequence[dict[str, str]], title: str, width: int) -> Table:
    """The table without columns that have no value, and without some where it would be broken."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    for name in _LEFT_OUT:
        if _width(rows, columns) > width and name in columns:
            columns.remove(name)
    return _table(rows, columns, title)


def _table(rows: Sequence[dict[str, str]], columns: Sequence[str], title: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    out = Table(title=title, title_justify="left", title_style="", header_style="bold")
    for name in columns:
        left = name == "trial"
        out.add_column(
            Text(_HEADINGS.get(name, name)), justify="left" if left else "right", no_wrap=True
        )
    for row in rows:
        out.add_row(*(Text(row[name]) for name in columns))
    return out


def _width(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> int:
    """Of the table with its frame, in characters."""
    headings = [_HEADINGS.get(name, name).split("\n") for name in columns]
    cells = [[row[name] for row in rows] for name in columns]
    return 1 + sum(3 + max(map(len, [*h, *c])) for h, c in zip(headings, cells, strict=True))
