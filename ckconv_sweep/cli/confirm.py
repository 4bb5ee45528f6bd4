"""`confirm`: the best settings of a sweep, trained again and compared."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli.options import Name, absolute, takes
from ckconv_sweep.cli.run_options import RunOptions
from ckconv_sweep.cli.session import check_lock, lock_of, run_session

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.search.confirmed import Confirmed
    from ckconv_sweep.sweep.delivery import Session

_OF_THE_SEARCH = ("trials", "hours", "gpu_hours", "goal", "on_best")
"""Options that a confirmation does not have."""

Top = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="How many of the best settings to train.", show_default="5"
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=3, help="Fresh seeds of each, at most; at least 3.", show_default="5"
    ),
]
NoTest = Annotated[
    bool,
    typer.Option("--no-test", help="Leave the test split shut."),
]


@takes(RunOptions, without=_OF_THE_SEARCH)
def confirm(
    name: Name,
    options: RunOptions,
    top: Top = None,
    seeds: Seeds = None,
    no_test: NoTest = False,
    json: Annotated[
        bool,
        typer.Option("--json", help="Train nothing; print what it says so far, in full precision."),
    ] = False,
) -> None:
    """Train the best settings again with fresh seeds.

    They are compared seed by seed, with the base trial as the control. A setting that is known to
    be worse than the leader gets no further seeds, but each gets three. At the end the best setting
    is scored on the test split, once. The same command resumes it; once it has ended it shows the
    table.

    Example: ckconv-sweep confirm quickstart --top 5 --seeds 5
    """
    from ckconv_sweep.execution.surveyor import Surveyor
    from ckconv_sweep.record.confirmation import noted
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.report.confirmable import begins_in_words, planned
    from ckconv_sweep.search.confirming import is_over

    folder = SweepFolder.existing(options.sweeps_dir, name)
    folder.records.check_not_lost()
    if json:
        _print_json(folder, absolute(options.data_dir))
        return
    with contextlib.closing(Surveyor()) as surveyor, lock_of(folder) as lock:
        with folder.records.open() as study:
            space, records, kept = study.space, study.confirmations(), study.note("options") or {}
            if lock is None and noted(study.notes()) is None:
                check_lock(folder)
            plan = replace(planned(study, top, seeds), test=not no_test)
            over = is_over(plan, records, space.metric)
            lines = [] if records or over else begins_in_words(study, plan)
        options, told = options.after(kept)
        for line in [*filter(None, [told]), *lines]:
            typer.echo(line)
        if options.shared:
            folder.share()
        if over:
            with (
                lock or contextlib.nullcontext()
            ):  # the test split is opened under a lock of its own
                _deliver(folder, options, lock)
            _show(folder, options, no_test=no_test)
            return
        if lock is None:
            check_lock(folder)

        def show(session: Session) -> None:
            _show_session(folder, options, session, no_test=no_test)

        without_hours = space.budget.model_copy(update={"gpu_hours": None})
        placement = options.placement(replace(space, budget=without_hours))
        run_session(
            folder, space, options, placement, lock, records, surveyor, show=show, plan=plan
        )


def _print_json(folder: SweepFolder, data_dir: Path | None) -> None:
    """What it says, also while a driver trains it. Raises ConfigError if none was begun."""
    from ckconv_sweep.cli.confirmed import print_json
    from ckconv_sweep.errors import ConfigError
    from ckconv_sweep.search.confirmed import confirmed_in

    with folder.records.open() as study:
        found = confirmed_in(study, data_dir)
    if found is None:
        raise ConfigError(
            "no confirmation was begun",
            where=f"--json: {folder.name}",
            hint=f"begin it: {folder.command('confirm')}",
        )
    print_json(found)


def _uri(folder: SweepFolder, options: RunOptions) -> str:
    from ckconv_sweep.tracking.store import default_uri

    return options.tracking_uri or default_uri(folder.root.parent)


def _deliver(
    folder: SweepFolder, options: RunOptions, lock: AbstractContextManager[object] | None
) -> None:
    """Give MLflow what it lacks: a driver may have been killed after the last trial."""
    from ckconv_sweep.record.budget import is_finished
    from ckconv_sweep.sweep.delivery import deliver_rest

    with folder.records.open() as study:
        every, finished = study.every_trial(), is_finished(study.trials(), study.space)
    deliver_rest(
        folder,
        _uri(folder, options),
        every,
        say=lambda line: typer.echo(line, err=True),
        lock=lock,
        time_is_up=not finished,
    )


def _show_session(
    folder: SweepFolder, options: RunOptions, session: Session, *, no_test: bool
) -> None:
    """How a session ended. Raises typer.Exit with a signal's exit code, if one ended it before the
    last trial."""
    from ckconv_sweep.record.confirmation import in_words, noted
    from ckconv_sweep.search.confirming import is_over

    with folder.records.open() as study:
        plan, records = noted(study.notes()), study.confirmations()
        metric = study.space.metric
    again = folder.command("confirm") + " --no-test" * no_test
    if session.signal_exit_code is not None and (
        plan is None or not is_over(plan, records, metric)
    ):
        if plan is None or not session.trained:
            typer.echo("stopped before the first trial; nothing was started")
        else:
            typer.echo(f"stopped; every recorded epoch is kept. {in_words(plan, records)}")
            typer.echo(f"resume with: {again}")
        raise typer.Exit(session.signal_exit_code)
    if session.undelivered:
        told = f"{session.undelivered} records not delivered to MLflow; when it answers again"
        typer.echo(f"{told}: {folder.command('sync')}", err=True)
    _show(folder, options, no_test=no_test)
    if session.asked_to_end:
        typer.echo(f"stopped, as it was asked to; resume with: {again}")


def _show(folder: SweepFolder, options: RunOptions, *, no_test: bool) -> None:
    """Open the test split, unless it was opened before or is to stay shut, and print what the
    confirmation says. Raises NoResult if nothing has completed."""
    from ckconv_sweep.cli import words
    from ckconv_sweep.cli.confirmed import show_confirmed
    from ckconv_sweep.errors import CkconvSweepError, NoResult
    from ckconv_sweep.record.why import last_line
    from ckconv_sweep.search.confirmed import confirmed_in
    from ckconv_sweep.sweep.opening import tell_mlflow

    data_dir = absolute(options.data_dir)
    with folder.records.open() as study:
        found = confirmed_in(study, data_dir)
    assert found is not None
    ready = found.finished and found.offered is not None
    if ready and not found.test and not no_test:
        try:
            found = _opened(folder, options, found)
        except CkconvSweepError as error:
            show_confirmed(words.console(), found, folder.name)
            shut = f"to read this without the test split: {folder.command('confirm')} --no-test"
            error.hint = "\n  ".join(filter(None, (error.hint, shut)))
            raise
    if ready:
        uri = _uri(folder, options)
        tell_mlflow(folder, uri, say=lambda line: typer.echo(line, err=True), data_dir=data_dir)
    show_confirmed(words.console(), found, folder.name)
    if ready and not found.test:
        typer.echo(f"the test split is shut; to open it: {folder.command('confirm')}")
    if found.finished and found.offered is None:
        lost = [record for setting in found.settings for record in setting.lost]
        raise NoResult(
            "no setting completed with 3 fresh seeds, so none can be judged",
            where=folder.name,
            hint=f"the last error: {last_line(lost[-1].error)}" if lost else None,
        )


def _opened(folder: SweepFolder, options: RunOptions, before: Confirmed) -> Confirmed:
    """What it says once the test split is open: on the kind of device that trained."""
    from ckconv_sweep.cli.device import device_of
    from ckconv_sweep.sweep.opening import open_test

    also = "" if before.control in (None, before.offered) else " and the base trial"
    typer.echo(f"opening the test split, once, for what is offered{also}", err=True)
    device = device_of("auto" if options.gpus_per_trial else "cpu")
    found = open_test(folder, data_dir=absolute(options.data_dir), device=device)
    assert found is not None
    return found
