"""`table` and `compare`: what came out, for a person, a program or a paper."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.options import SWEEPS_DIR, DataDir, FromMlflow, Name, SweepsDir

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from ckconv_sweep.report.results import Results
    from ckconv_sweep.report.selection import Selection


class Format(StrEnum):
    """How a table is written."""

    terminal = "terminal"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"
    json = "json"


HowWritten = Annotated[
    Format,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="terminal, csv, markdown, latex or json. csv and json: every column and digit. latex: "
        "with booktabs, for a paper.",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONDITION",
        help='Only these rows: "omega_0 < 40", "outcome == completed", "trial in [3, 7]". Several '
        "must all hold.",
    ),
]
Sort = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        autocompletion=completion.columns,
        help="Sort by this column: COLUMN, COLUMN:asc or COLUMN:desc.",
        show_default="best first",
    ),
]
Top = Annotated[int | None, typer.Option(metavar="N", min=1, help="Show only the first N rows.")]
MOST_ROWS = 200
"""A terminal is shown no more without --top: nobody reads them, and they take seconds."""
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMNS",
        autocompletion=completion.columns,
        help="Show only these columns, separated by commas. There are more than the table shows: "
        "other metrics at the trial's epoch, reason, model.parameters.",
    ),
]


def table(
    name: Name,
    where: Where = None,
    sort: Sort = None,
    top: Top = None,
    columns: Columns = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="SETTING",
            autocompletion=completion.columns,
            help="Group the completed trials by a setting: count, mean with its 95 % interval "
            "(Student t) and best of each value; real numbers in quantile bins.",
        ),
    ] = None,
    bins: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number of bins for --group-by.", show_default="4"),
    ] = None,
    pareto: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            autocompletion=completion.columns,
            help="Only completed trials that no other one beats in the metrics and this, as in "
            "model.parameters or seconds. Less is better, of scores more.",
        ),
    ] = None,
    trials: Annotated[
        bool,
        typer.Option(
            "--trials",
            help="One row per trial, also where settings are repeated.",
        ),
    ] = False,
    with_parents: Annotated[
        bool,
        typer.Option(
            "--with-parents",
            help="Also the trials of earlier sweeps that this one learnt from; they have no rank.",
        ),
    ] = False,
    format: HowWritten = Format.terminal,
    tracking_uri: FromMlflow = None,
    data_dir: DataDir = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Show the trials of a sweep, best first.

    Metrics called val/ were measured on the validation split. Short names are enough: omega_0 is
    model.kernel.omega_0.

    Example: ckconv-sweep table quickstart --where "outcome == completed" --pareto model.parameters
    """
    from ckconv_sweep.api import parameter_counts
    from ckconv_sweep.cli.options import absolute
    from ckconv_sweep.cli.words import say_notes
    from ckconv_sweep.cli.words import settings as in_words
    from ckconv_sweep.errors import ConfigError
    from ckconv_sweep.report import sampling_error
    from ckconv_sweep.report.columns import find, names_of
    from ckconv_sweep.report.found import results_of
    from ckconv_sweep.report.leaderboard import (
        PARETO,
        SEEDS,
        all_columns,
        captions,
        default_columns,
        unvaried,
    )
    from ckconv_sweep.report.openings import heading, lines
    from ckconv_sweep.report.render import FOR_PROGRAMS
    from ckconv_sweep.report.summary import added_in_words, ties_in_words

    selection = _selection(where, sort, top, columns, pareto)
    if group_by is not None and (sort or top or columns or pareto):
        raise ConfigError(
            "cannot be combined with --sort, --top, --columns or --pareto", where="--group-by"
        )
    if with_parents and (group_by or pareto):
        raise ConfigError("cannot be combined with --group-by or --pareto", where="--with-parents")
    if bins is not None and group_by is None:
        raise ConfigError("needs --group-by", where="--bins")
    results = results_of(name, sweeps_dir, tracking_uri)
    say_notes([results])
    space, counts = results.space, None
    rows = all_columns(results.records, space, state=results.state, each=trials)
    if _names_parameters(selection, rows, group_by):
        counts = parameter_counts(results, absolute(data_dir))
        rows = all_columns(results.records, space, counts, state=results.state, each=trials)
    if group_by is not None:
        setting = find(group_by, names_of(rows), f"--group-by {group_by}")
        _show_groups(
            results, selection.apply(rows, space.metrics, names_of(rows)), setting, bins, format
        )
        return
    if with_parents:
        rows = _with_parents(rows, results, sweeps_dir)
    default = default_columns(space, rows)
    same = {} if columns or format in FOR_PROGRAMS else unvaried(rows, space.parameters())
    chosen = selection.apply(rows, space.metrics, [c for c in default if c not in same])
    notes = captions(space) if {PARETO, SEEDS[-1]} & set(chosen) else []
    notes += ties_in_words(results.records, space)
    notes += sampling_error.in_words(results.records, space, results.sequences)
    notes += added_in_words(results.records, space)
    notes += [f"the same in every trial that has it: {in_words(same)}"] if same else []
    if len(chosen) == 0 and len(rows):
        notes.append(f"no trial of {len(rows)} matches")
    if results.openings and format not in FOR_PROGRAMS:
        notes += ["", heading(results.openings), *(f"  {line}" for line in lines(results.openings))]
    settings = list(space.parameters())
    show_rows(chosen, format, title=name, settings=settings, notes=notes, all_rows=top is not None)


def _with_parents(rows: pd.DataFrame, results: Results, sweeps_dir: Path) -> pd.DataFrame:
    from ckconv_sweep.errors import ConfigError
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.warm_start import noted
    from ckconv_sweep.report.parents import with_parents

    with SweepFolder.existing(sweeps_dir, results.name).records.open() as study:
        known = noted(study)
    if not known.sweeps:
        raise ConfigError("it was not warm-started", where=f"--with-parents: {results.name}")
    return with_parents(rows, results.name, results.space, known)


def compare(
    names: Annotated[
        list[str],
        typer.Argument(help="The sweeps' names.", metavar="NAME", autocompletion=completion.sweeps),
    ],
    trials: Annotated[
        bool, typer.Option("--trials", help="One row per trial, with every setting that varies.")
    ] = False,
    where: Where = None,
    sort: Sort = None,
    top: Top = None,
    columns: Columns = None,
    format: HowWritten = Format.terminal,
    tracking_uri: FromMlflow = None,
    data_dir: DataDir = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Show several sweeps, or all their trials, in one table.

    They are ranked only if they have the same metric and the same data.

    Example: ckconv-sweep compare first second --trials --top 10
    """
    from ckconv_sweep.api import parameter_counts
    from ckconv_sweep.cli.options import absolute
    from ckconv_sweep.cli.words import say_notes
    from ckconv_sweep.report.columns import names_of
    from ckconv_sweep.report.comparison import INTERVAL, of_sweeps, of_trials, reservations
    from ckconv_sweep.report.found import all_results

    selection = _selection(where, sort, top, columns, None)
    results = all_results(names, sweeps_dir, tracking_uri)
    say_notes(results)
    if trials:
        rows = of_trials(results)
        if _names_parameters(selection, rows):
            counts = {r.name: parameter_counts(r, absolute(data_dir)) for r in results}
            rows = of_trials(results, counts)
        default = [name for name in names_of(rows) if name != "reason"]
        settings = default[default.index("seconds") + 1 :]
    else:
        rows, settings = of_sweeps(results), []
        default = names_of(rows)
    chosen = selection.apply(rows, (), default)
    title = ", ".join(names) if trials else ""
    notes = reservations(results)
    if not trials and INTERVAL[0] in chosen:
        notes.append("95 %: interval of the best, for its number of validation sequences (Wilson)")
    show_rows(chosen, format, title=title, settings=settings, notes=notes, all_rows=top is not None)


def _selection(
    where: list[str] | None,
    sort: str | None,
    top: int | None,
    columns: str | None,
    pareto: list[str] | None,
) -> Selection:
    from ckconv_sweep.report.columns import split_names
    from ckconv_sweep.report.selection import Selection

    return Selection(
        where=where or (),
        pareto=pareto or (),
        sort=sort,
        top=top,
        columns=split_names(columns),
    )


def _names_parameters(selection: Selection, rows: pd.DataFrame, *others: str | None) -> bool:
    """Whether somebody asks for the number of parameters, which costs PyTorch's import. All names
    are checked by this, before anything is counted."""
    from ckconv_sweep.config.metrics import PARAMETERS
    from ckconv_sweep.report.columns import find, names_of

    known = [*names_of(rows), PARAMETERS]
    named = {find(name, known, f"--group-by {name}") for name in others if name is not None}
    return PARAMETERS in named.union(selection.names(known))


def _show_groups(
    results: Results, rows: pd.DataFrame, setting: str, bins: int | None, format: Format
) -> None:
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.report.grouping import BINS, grouped
    from ckconv_sweep.report.render import FOR_PROGRAMS, shortened

    groups = grouped(rows, setting, results.space, bins or BINS)
    left = groups.not_completed + groups.without_value
    notes = ["interval of the mean: 95 %, Student t"]
    if left:
        notes.append(
            f"{count(left, 'trial')} left out: {groups.not_completed} did not complete, "
            f"{groups.without_value} without a value here"
        )
    rows, title = groups.table, f"{results.name}: completed trials by {setting}"
    if format not in FOR_PROGRAMS:
        (short,) = shortened(rows[[]], [setting]).values()
        rows = rows.rename(columns=lambda name: name.replace(setting, short))
    show_rows(rows, format, title=title, settings=(), notes=notes)


def show_rows(
    rows: pd.DataFrame,
    format: Format,
    *,
    title: str,
    settings: Sequence[str],
    notes: Sequence[str],
    all_rows: bool = False,
) -> None:
    """Print a table. `notes` are for a person: programs get the table alone, and all rows."""
    from ckconv_sweep.cli import words
    from ckconv_sweep.report.latex import to_latex
    from ckconv_sweep.report.render import FOR_PROGRAMS, shortened, to_markdown, to_terminal

    if format is Format.terminal:
        console, first = words.console(), rows if all_rows else rows.head(MOST_ROWS)
        if len(first) < len(rows):
            cut = f"the first {len(first):,} of {len(rows):,} rows: --top {len(rows)} shows all"
            notes = [cut, *notes]
        console.print(to_terminal(first, title=title, settings=settings, width=console.width))
        for note in notes:
            console.print(note, soft_wrap=True)
        return
    short = rows.rename(columns=shortened(rows, settings))
    if format is Format.markdown:
        below = "".join(f"\n{note}\n" for note in notes)
        typer.echo((to_markdown(short) + "\n" + below).rstrip("\n"))
    elif format is Format.latex:
        typer.echo(to_latex(short, notes).rstrip("\n"))
    else:
        typer.echo(FOR_PROGRAMS[format.value](rows).rstrip("\n"))
