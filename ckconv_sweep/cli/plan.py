"""`launch --dry-run`: what would run, and what it needs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ckconv_sweep.cli import words
from ckconv_sweep.cli.feasible import rejected_share
from ckconv_sweep.cli.tryout import try_space
from ckconv_sweep.config.domains import count, in_words
from ckconv_sweep.config.grid import grid_size, most_trials
from ckconv_sweep.config.notes import notes
from ckconv_sweep.config.space import Space
from ckconv_sweep.models.parameters import parameters_of
from ckconv_sweep.record import warm_start
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.report.render import to_terminal
from ckconv_sweep.search.earlier import known_before
from ckconv_sweep.search.feasible import Infeasible, resolved
from ckconv_sweep.search.view import View
from ckconv_sweep.sweep.driver import starts_over

if TYPE_CHECKING:
    from ckconv_sweep.execution.cluster import Placement

_FIRST = 5


def show_plan(
    space: Space,
    folder: SweepFolder,
    data_dir: Path | None,
    placement: Placement,
    *,
    restart: bool = False,
) -> None:
    """Print the space as understood and the first trials that it draws, and what its ends need,
    which are tried; write nothing. `restart`: what there is of the sweep would be kept under
    another name.

    Raises:
        SpaceChanged: a sweep of this name was started with another space.
        ConfigError: one of the ends cannot be trained.
    """
    console = words.console()
    limits = f", at most {space.budget.hours:g} hours" if space.budget.hours else ""
    if space.budget.gpu_hours is not None:
        limits += f", at most {space.budget.gpu_hours:g} GPU-hours"
    if space.budget.goal is not None:
        limits += f", until {space.budget.goal},"
    console.print(
        f"{folder.name}: {words.count(most_trials(space), 'trial')}{limits} of up to "
        f"{words.count(space.trial.training.epochs, 'epoch')} on {space.trial.data.name}, "
        f"sampler {space.sampler.name} (seed {space.sampler.seed}), "
        f"scheduler {space.scheduler.name}, judged by the {space.metric.at} {space.metric.name}"
        f"{space.beside}"
    )
    count_parameters = partial(parameters_of, data_dir=data_dir)
    for note in (*notes(space), rejected_share(space, count_parameters, folder.name)):
        if note:
            console.print(note)
    for path, expression in space.derived.items():
        console.print(f"derived: {path} = {expression}")
    used_up = " (grid points that violate it are skipped)"
    for constraint in space.constraints:
        console.print(f"constraint: {constraint}{used_up if grid_size(space) is not None else ''}")
    table = Table(title="searched", title_justify="left")
    for heading in ("setting", "range", "points"):
        table.add_column(heading)
    for name, domain in space.parameters().items():
        points = count(domain)
        table.add_row(Text(name), Text(in_words(domain)), "" if points is None else str(points))
    console.print(table)
    _show_first_trials(space, folder, console, data_dir)
    try_space(space, folder.name, data_dir, placement)
    if folder.records.exists() and not restart:
        with folder.records.open() as study:
            anew = starts_over(study, space)
        console.print(
            f"no trial of the sweep {folder.name} has begun with its old space: launch would start "
            "it over with this one"
            if anew
            else f"the sweep {folder.name} exists: launch would resume it"
        )
    else:
        console.print(f"nothing was started; it would be kept in {folder.root}", soft_wrap=True)


def _show_first_trials(
    space: Space, folder: SweepFolder, console: Console, data_dir: Path | None
) -> None:
    amount = min(_FIRST, most_trials(space))
    count_parameters = partial(parameters_of, data_dir=data_dir)
    earlier = warm_start.WarmStart()
    if folder.records.exists():
        with folder.records.open() as study:
            earlier = warm_start.noted(study)
    if not earlier.sweeps:
        earlier = known_before(space, folder, count_parameters=count_parameters)
    for line in earlier.in_words():
        console.print(line, soft_wrap=True)
    view = View(space, earlier.records)
    names, rows = list(space.parameters()), []
    for index in range(amount):
        drawn = index - len(space.first)
        params = space.first[index] if drawn < 0 else view.draw(drawn).params
        found = resolved(space, params, index, count_parameters)
        told = "rejected" if isinstance(found, Infeasible) else f"{count_parameters(found):,}"
        rows.append({"trial": index, "parameters": told, **params})
    table = pd.DataFrame(rows, columns=["trial", "parameters", *names], dtype=object)
    console.print(to_terminal(table, title="the first trials", settings=names, width=console.width))
