"""`launch` and `resume`: the commands that run a sweep."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.options import Changes, absolute, name_of, takes
from ckconv_sweep.cli.run_options import RunOptions
from ckconv_sweep.cli.session import check_lock, load, lock_of, run_session
from ckconv_sweep.config.names import expanded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager

    from ckconv_sweep.config.space import Space
    from ckconv_sweep.execution.surveyor import Surveyor
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.study import Study
    from ckconv_sweep.record.trials import TrialRecord
    from ckconv_sweep.sweep.delivery import Session


SpaceFile = Annotated[
    str,
    typer.Argument(
        metavar="SPACE",
        help="A space: a file, the name of a bundled one, or - for standard input.",
        autocompletion=completion.spaces,
    ),
]
WarmStart = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Let the sampler learn from an earlier sweep, too; may be given several times.",
        autocompletion=completion.sweeps,
    ),
]


@takes(RunOptions)
def launch(
    space: SpaceFile,
    options: RunOptions,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The sweep's name.", show_default="the file's"),
    ] = None,
    set_: Changes = None,
    warm_start: WarmStart = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show what would run, and train the smallest and the largest trial for a few "
            "steps; start no sweep and write nothing.",
        ),
    ] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Begin anew, also with another space, if no trial has completed; the old folder "
            "is kept under another name.",
        ),
    ] = False,
) -> None:
    """Start a sweep, or resume an interrupted one.

    The same command again resumes it; for a finished sweep it shows the table.

    Example: ckconv-sweep launch quickstart
    """
    from ckconv_sweep.config.bundled import shown
    from ckconv_sweep.config.read import read_space
    from ckconv_sweep.record.folder import SweepFolder

    asked = options.with_budget(read_space(space, set_ or ()))
    asked = learning_from(asked, warm_start or ())
    if name is None:
        name = name_of(space, None, "--name", "name the sweep, as in --name mine")
    folder = SweepFolder.of(options.sweeps_dir, name)
    restart = restart and folder.records.exists()
    if restart:
        _check_none_completed(folder)
    if dry_run:
        from ckconv_sweep.cli.plan import show_plan

        placement = options.placement(asked)
        show_plan(asked, folder, absolute(options.data_dir), placement, restart=restart)
        return
    if restart:
        with folder.records.lock():
            _check_none_completed(folder)
            typer.echo(f"what there was is kept: {folder.put_aside()}")
    begin(folder, asked, options, shown(space))


def begin(folder: SweepFolder, asked: Space, options: RunOptions, where: str) -> None:
    """Start a sweep over this space, or go on with the one that is there. `where`: its file."""
    from ckconv_sweep.execution.surveyor import Surveyor

    with contextlib.closing(Surveyor()) as surveyor, lock_of(folder) as lock:
        before = None
        if folder.records.exists():
            from ckconv_sweep.errors import SpaceChanged
            from ckconv_sweep.sweep.driver import starts_over

            with folder.records.open() as study:
                try:
                    if not starts_over(study, asked):
                        asked, before = _extended(study, asked, options), _Before.of(study)
                except SpaceChanged as changed:
                    if not _completed(study):
                        anew = "or begin anew, as no trial has completed: --restart"
                        changed.hint = f"{changed.hint}\n  {anew}"
                    raise
        if before is None:
            from ckconv_sweep.cli.feasible import rejected_share

            load(surveyor)
            count = partial(surveyor.parameters_of, data_dir=absolute(options.data_dir))
            rejected_share(asked, count, where, until_one_passes=True)
        _run(folder, asked, options, lock, before, surveyor)


def learning_from(space: Space, names: Iterable[str]) -> Space:
    """The space with more sweeps to learn from, these first."""
    return replace(space, warm_start=tuple(dict.fromkeys([*names, *space.warm_start])))


@takes(RunOptions)
def resume(
    options: RunOptions,
    name: Annotated[
        str | None,
        typer.Argument(
            help="The sweep's name; with --from it may be left out.",
            metavar="NAME",
            show_default=False,
            autocompletion=completion.sweeps,
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="Continue from the newest snapshot there, where the sweep's folder is lost: the "
            "PLACE of --blobs, with the sweep's name, as in s3://bucket/prefix/NAME.",
        ),
    ] = None,
) -> None:
    """Resume a sweep; with more --trials, a finished one too.

    Example: ckconv-sweep resume quickstart --trials 40
    """
    from ckconv_sweep.execution.surveyor import Surveyor
    from ckconv_sweep.record.folder import SweepFolder

    if from_ is not None:
        name = _restored(from_, name, options)
    if name is None:
        raise typer.BadParameter("needed, unless --from is given", param_hint="NAME")
    folder = SweepFolder.existing(options.sweeps_dir, name)
    with contextlib.closing(Surveyor()) as surveyor, lock_of(folder) as lock:
        with folder.records.open() as study:
            asked = _extended(study, options.with_budget(study.space), options)
            before = _Before.of(study)
        _run(folder, asked, options, lock, before, surveyor)


def _restored(given: str, name: str | None, options: RunOptions) -> str:
    """Make a sweep's folder from its newest snapshot; returns the sweep's name."""
    from ckconv_sweep.record.backup import restore
    from ckconv_sweep.record.blobs import place_of
    from ckconv_sweep.record.folder import SweepFolder

    place = place_of(given)
    if isinstance(place, Path):
        place = expanded(place).resolve()
    folder = SweepFolder.of(options.sweeps_dir, name or place.name)
    restore(place, folder)
    typer.echo(f"restored from {place} to {folder.root}")
    return folder.name


def _check_none_completed(folder: SweepFolder) -> None:
    """Raises ConfigError if a trial has completed: nobody throws away a result unasked."""
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.errors import ConfigError

    with folder.records.open() as study:
        completed = _completed(study)
    if completed:
        raise ConfigError(
            f"{count(completed, 'trial')} of {folder.name} completed, so it is not begun anew",
            where="--restart",
            hint="take another --name for the new sweep",
        )


def _completed(study: Study) -> int:
    return sum(record.outcome == "completed" for record in study.trials())


@dataclass(frozen=True)
class _Before:
    """What there is of a sweep that goes on, read once."""

    records: list[TrialRecord]
    every: list[TrialRecord]
    """With those that confirm it."""
    options: Mapping[str, Any]
    """Those of the last session that the next one takes over."""

    @classmethod
    def of(cls, study: Study) -> _Before:
        return cls(study.trials(), study.every_trial(), study.note("options") or {})


def _extended(study: Study, asked: Space, options: RunOptions) -> Space:
    """A sweep keeps the trials, hours and GPU-hours to which it was extended, unless an option says
    another. Its goal is the one that is asked for now."""
    from ckconv_sweep.errors import ConfigError

    stored, count = study.space.budget, sum(r.is_of_budget for r in study.trials())
    trials = options.trials
    if trials is not None and trials < count:
        what = "trials" if asked.repeats is None else "settings"
        raise ConfigError(
            f"the sweep has {count} {what} already, so it cannot have {trials}",
            where="--trials",
            hint=f"ask for {count} or more, or leave it out",
        )
    kept: dict[str, float] = {}
    if trials is None:
        kept["trials"] = max(stored.trials, asked.budget.trials)
    for name in ("hours", "gpu_hours"):
        before = getattr(stored, name)
        if getattr(options, name) is None and before is not None:
            kept[name] = max(before, getattr(asked.budget, name) or 0.0)
    return replace(asked, budget=asked.budget.model_copy(update=kept))


def _run(
    folder: SweepFolder,
    space: Space,
    options: RunOptions,
    lock: AbstractContextManager[object] | None,
    before: _Before | None,
    surveyor: Surveyor,
) -> None:
    folder.records.check_not_lost()
    if before is not None:
        options, told = options.after(before.options)
        if told:
            typer.echo(told)
    placement = options.placement(space)
    from ckconv_sweep.cli.result import show_result
    from ckconv_sweep.config.notes import notes
    from ckconv_sweep.record.budget import hours_are_up, is_finished
    from ckconv_sweep.record.requests import Requests
    from ckconv_sweep.record.trials import rejected
    from ckconv_sweep.tracking.store import default_uri

    records = [] if before is None else before.records
    uri = options.tracking_uri or default_uri(folder.root.parent)
    for note in notes(space, rejected(records)):
        typer.echo(note)
    if options.shared and before is not None:
        folder.share()
    finished = is_finished(records, space) and not any(Requests(folder).waiting())
    if before is not None and (finished or hours_are_up(records, space)):
        from ckconv_sweep.sweep.delivery import deliver_rest

        # A driver may have been killed after the last trial, and MLflow may have been down, or
        # have lost what it had.
        rest = deliver_rest(
            folder,
            uri,
            before.every,
            say=lambda line: typer.echo(line, err=True),
            lock=lock,
            time_is_up=not finished,
        )
        show_result(folder, records, space, options.tracking_uri, rest)
        return

    if before is not None and lock is None:
        check_lock(folder)

    def show(session: Session) -> None:
        show_result(folder, session.records, space, options.tracking_uri, session)

    run_session(folder, space, options, placement, lock, records, surveyor, show=show)
