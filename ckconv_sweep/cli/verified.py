"""What `verify` says."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ckconv_sweep.record.trials import TrialRecord
    from ckconv_sweep.sweep.verified import Verified


def beginning(picked: Sequence[TrialRecord]) -> str:
    """Which trials are trained again, where, and how long they took before."""
    from ckconv_sweep.cli.words import duration
    from ckconv_sweep.keys import trial_name

    names = ", ".join(trial_name(record.number) for record in picked)
    seconds = sum(e.metrics.get("time/epoch_seconds", 0.0) for r in picked for e in r.history)
    return f"trained again on {_processor()}: {names}, which took {duration(seconds)}"


def print_table(found: Sequence[Verified]) -> None:
    """A line for each trial; below them what was not compared, and what differs."""
    from rich.table import Table

    from ckconv_sweep.cli import words
    from ckconv_sweep.keys import trial_name

    table = Table(title="trained again, compared with the record", title_justify="left")
    for column in ("trial", "kind"):
        table.add_column(column)
    table.add_column("epochs", justify="right")
    for column in ("killed in epoch", "metrics", "weights", "draw"):
        table.add_column(column)
    for one in found:
        killed = ", ".join(str(kill.epoch) for kill in one.kills)
        table.add_row(
            trial_name(one.number),
            one.kind,
            str(one.epochs),
            killed or "-",
            one.metrics,
            one.weights,
            one.draw.told,
        )
    words.console().print(table)
    for one in found:
        name = trial_name(one.number)
        if len(one.kills) < one.kills_wanted:
            typer.echo(f"{name}: {_too_few(one)}")
        if one.draw.told in ("cannot be told", "not drawn"):
            typer.echo(f"{name}: draw: {one.draw.told}: {one.draw.why}")
        for sentence in one.differences:
            typer.echo(f"{name}: {sentence}")
        if one.differs:
            typer.echo(f"{name}: {_why(one)}")


def _too_few(one: Verified) -> str:
    """Of a trial that was killed less often than was wanted."""
    if not one.kills:
        return "it ended before it could be killed"
    return (
        f"killed {len(one.kills)} of {one.kills_wanted} times: it ended before it could be killed "
        "again"
    )


def compared(found: Sequence[Verified]) -> str:
    """What was compared, where all of it was the same."""
    from ckconv_sweep.cli.words import count

    weights = sum(one.weights in ("same", "differ") for one in found)
    draws = sum(one.draw.told in ("same", "differs") for one in found)
    said = f"metrics of {len(found)}, weights of {weights}, draws of {draws} compared"
    if wanted := sum(one.kills_wanted for one in found):
        said += f"; killed {sum(len(one.kills) for one in found)} of {wanted} times"
    return (
        f"{count(len(found), 'trial')} verified: all that was compared is as recorded, to the last "
        f"bit\n{said}"
    )


def _why(one: Verified) -> str:
    if one.reasons:
        return "what is not as it was then: " + "; ".join(one.reasons)
    return (
        "libraries, code and data are those of the record; it names no processor, and another one "
        "(or another OMP_NUM_THREADS) rounds differently"
    )


def print_json(found: Sequence[Verified]) -> None:
    """All of it, for a program."""
    from dataclasses import asdict
    from json import dumps

    typer.echo(dumps([asdict(one) | {"differs": one.differs} for one in found], indent=2))


def _processor() -> str:
    """Of this machine, as Linux calls it."""
    import platform

    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
