"""`plot` and `report`: what came out, to look at."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.options import (
    SWEEPS_DIR,
    DataDir,
    Force,
    FromMlflow,
    Name,
    SweepsDir,
    folder_here,
    picture_here,
)
from ckconv_sweep.cli.output import write_new, write_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckconv_sweep.report.results import Results

KINDS = (
    "curves",
    "history",
    "importance",
    "parallel",
    "slice",
    "contour",
    "pareto",
    "timeline",
    "lineage",
)
"""Those of `report.plots`, which imports matplotlib."""


def plot(
    name: Name,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"{', '.join(KINDS[:-1])} or {KINDS[-1]}.",
            autocompletion=completion.one_of(*KINDS),
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The picture: a .png or .svg file.",
            show_default="NAME-KIND.png",
            callback=picture_here,
        ),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            metavar="SETTINGS",
            autocompletion=completion.columns,
            help="Settings that slice and contour show, separated by commas; short names are "
            "enough.",
            show_default="the most important ones",
        ),
    ] = None,
    tracking_uri: FromMlflow = None,
    data_dir: DataDir = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Draw a picture of a sweep, even while it is running.

    Example: ckconv-sweep plot quickstart contour --settings learning_rate,omega_0
    """
    out = out or Path(f"{name}-{kind}.png")

    from ckconv_sweep.cli.words import say_notes
    from ckconv_sweep.report.columns import split_names
    from ckconv_sweep.report.found import results_of
    from ckconv_sweep.report.plots import check, draw
    from ckconv_sweep.report.plots.style import rendered

    options: dict[str, Any] = {} if settings is None else {"settings": split_names(settings)}
    check(kind, options)
    results = results_of(name, sweeps_dir, tracking_uri)
    say_notes([results])
    if kind == "pareto" and not results.space.further:
        options["parameters"] = _parameters(results, data_dir)
    figure = draw(kind, results.records, results.space, **options)
    write_out(out, rendered(figure, out.suffix[1:]))
    typer.echo(f"picture: {out}")


def report(
    name: Name,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file.",
            show_default="NAME-report.html",
            callback=folder_here,
        ),
    ] = None,
    wider_space: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the space, with wider ranges where the best trials lie at an end.",
            callback=folder_here,
        ),
    ] = None,
    force: Force = False,
    tracking_uri: FromMlflow = None,
    data_dir: DataDir = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Write a sweep as one HTML page to keep or send.

    It has the best settings, pictures and advice.

    Example: ckconv-sweep report quickstart --out quickstart.html
    """
    from ckconv_sweep.errors import ConfigError

    out = out or Path(f"{name}-report.html")
    if out.suffix not in (".html", ".htm"):
        raise ConfigError(f"must end with .html, got {out.name!r}", where="--out")

    from ckconv_sweep.cli.options import absolute
    from ckconv_sweep.cli.words import say_notes
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.warm_start import relatives
    from ckconv_sweep.report.advice import widened
    from ckconv_sweep.report.found import results_of
    from ckconv_sweep.report.page import page
    from ckconv_sweep.search.confirmed import confirmed_in

    results = results_of(name, sweeps_dir, tracking_uri)
    say_notes([results])
    wider = widened(results.records, results.space) if wider_space else None
    if wider_space is not None and wider is None:
        raise ConfigError(
            "no range needs to be wider, or none can be",
            where="--wider-space",
            hint="leave it out",
        )
    if wider_space is not None and wider is not None:
        new, bounds = wider
        moved = ", ".join(dict.fromkeys(bound.setting for bound in bounds))
        comment = f"# The space of {name} with a wider {moved}.\n"
        write_new(wider_space, comment + new.to_yaml(), force=force)
        again = SweepFolder.of(sweeps_dir, name).command("extend")
        typer.echo(f"wider space: {wider_space}")
        typer.echo(f"search it with what {name} has learnt: {again} {quote(str(wider_space))}")
    parameters = None
    try:
        parameters = None if results.space.further else _parameters(results, data_dir)
    except ConfigError as error:  # the size of a dataset may stand in its files
        typer.echo(
            f"no Pareto front, because the models' parameters cannot be counted: {error}", err=True
        )
    folder = SweepFolder.of(sweeps_dir, name)
    here = results.source == str(folder.root)
    told, found = [], None
    if here:
        with folder.records.open() as study:
            told = relatives(study)
            found = confirmed_in(study, absolute(data_dir))
    text = page(
        results,
        parameters=parameters,
        again=folder.command if here else None,
        relatives=told,
        confirmed=found,
    )
    write_out(out, text)
    typer.echo(f"report: {out}")


def _parameters(results: Results, data_dir: Path | None) -> Mapping[int, int]:
    """Those of completed trials, which a Pareto front is made of. Raises as `parameter_counts`."""
    from dataclasses import replace

    from ckconv_sweep.api import parameter_counts
    from ckconv_sweep.cli.options import absolute

    completed = tuple(r for r in results.records if r.outcome == "completed")
    return parameter_counts(replace(results, records=completed), absolute(data_dir))
