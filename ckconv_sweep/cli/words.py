"""How numbers, settings and times are written on a terminal."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from ckconv_sweep.config.settings import short_names
from ckconv_sweep.report.numbers import score as score

if TYPE_CHECKING:
    from ckconv_sweep.report.results import Results
    from ckconv_sweep.report.summary import Summary


def settings(params: Mapping[str, Any]) -> str:
    """`hidden_channels=36 omega_0=8.37`."""
    names = short_names(params)
    return " ".join(f"{names[path]}={number(value)}" for path, value in params.items())


def number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def scores(values: Mapping[str, float]) -> str:
    """`val/accuracy 0.9722, val/loss 0.1034`."""
    return ", ".join(f"{name} {score(value)}" for name, value in values.items())


def duration(seconds: float) -> str:
    """`0:07`, `12:30`, `3:05:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count(amount: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def continued(summary: Summary) -> str:
    """How many trials others continued, to stand before what failed; empty where none did."""
    return f"{summary.continued} continued, " if summary.continued else ""


def console() -> Console:
    """Where tables are printed: as wide as the terminal, also for what a pager shows on it
    (`| less`). Elsewhere there is no width that they would have to fit in."""
    plain = Console(highlight=False, markup=False)
    if plain.is_terminal or (_is_pipe(1) and any(map(os.isatty, (0, 2)))):
        return plain
    return Console(highlight=False, markup=False, width=200)


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:  # it is closed
        return False


def say_notes(results: Iterable[Results]) -> None:
    """What the reader should know about where they were read; beside what goes to a file."""
    for note in (note for result in results for note in result.notes):
        typer.echo(note, err=True)
