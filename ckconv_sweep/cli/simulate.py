"""`simulate`: what stopping rules would have done of a sweep's curves."""

from __future__ import annotations

from typing import Annotated

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.options import SWEEPS_DIR, FromMlflow, SweepsDir
from ckconv_sweep.cli.tables import Format, HowWritten, show_rows


def simulate(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A sweep's name; left out with --table.",
            autocompletion=completion.sweeps,
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="Replay curves that come with the package: digits.",
            autocompletion=completion.one_of("digits"),
        ),
    ] = None,
    scheduler: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="A stopping rule: asha, or '{name: asha, grace_epochs: 3}'. May be given several "
            "times.",
            show_default="every rule",
            autocompletion=completion.rules,
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLER",
            help="Let a sampler choose the trials among the recorded settings: tpe, or "
            "'{name: tpe, seed: 3}'.",
            autocompletion=completion.samplers,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Number of trials that --sampler draws.",
            show_default="all of them",
        ),
    ] = None,
    places: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of trials that run at a time.")
    ] = 1,
    orders: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Replay N random orders of the trials, or N seeds of the sampler, and show means.",
            show_default="the recorded order",
        ),
    ] = 0,
    format: HowWritten = Format.terminal,
    tracking_uri: FromMlflow = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Show what stopping rules would have saved, and lost.

    Recorded curves that ran to their end are replayed in virtual time, and each rule is asked after
    every epoch as in a sweep. Nothing is trained. Columns: epochs, and per cent of all; hours until
    the last trial ends; how many trials were stopped; the metric of the best trial that was not;
    and whether the best trial of all was kept.

    Example: ckconv-sweep simulate quickstart --scheduler asha --scheduler median
    """
    from ckconv_sweep.cli.words import count, say_notes
    from ckconv_sweep.config.read import read_rule, read_sampler
    from ckconv_sweep.errors import ConfigError
    from ckconv_sweep.report.found import results_of
    from ckconv_sweep.report.render import FOR_PROGRAMS
    from ckconv_sweep.report.simulated import Setup, compared
    from ckconv_sweep.search.curve_table import bundled, of_sweep

    if (name is None) == (table is None):
        both = "" if name is None else f", not both: got the sweep {name} and the table {table}"
        raise ConfigError(
            f"name a sweep, or a table that comes with the package{both}",
            where="simulate",
            hint="ckconv-sweep simulate NAME, or ckconv-sweep simulate --table digits",
        )
    rules = [read_rule(given, f"--scheduler {given}") for given in scheduler or ()]
    setup = Setup(
        places=places,
        orders=orders,
        sampler=None if sampler is None else read_sampler(sampler, f"--sampler {sampler}"),
        trials=trials,
    )
    if table is not None:
        curves = bundled(table)
    else:
        results = results_of(str(name), sweeps_dir, tracking_uri)
        say_notes([results])
        curves = of_sweep(results.name, results.records, results.space)
    found = compared(curves, rules, setup)
    all_trials = count(len(curves.records), "trial")
    if setup.sampler is not None:
        drawn = trials or "all"
        title = f"{curves.name}: {setup.sampler.name} chooses {drawn} of {all_trials}"
        title += f", {orders} seeds" if orders else f", seed {setup.sampler.seed}"
        found.notes.append(
            f"{setup.sampler.name} chose among the recorded settings alone: each draw stands for "
            "the nearest one that had not been tried; `best trial` is the best one of those "
            "that it chose"
        )
    else:
        title = f"{curves.name}: {all_trials}, {curves.epochs:,} epochs; "
        title += f"{orders} random orders" if orders else "in the recorded order"
    title += f", {count(places, 'place')}"
    rows = found.rows
    if format not in FOR_PROGRAMS:
        rows = rows.assign(**{"%": rows["%"].map(round), "hours": rows["hours"].map(_short)})
    show_rows(rows, format, title=title, settings=(), notes=found.notes)


def _short(hours: float) -> float:
    return round(hours, 4)
