"""`add`, `retry`, `pause`, `stop`, `concurrency`: what is asked of a sweep while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.options import SWEEPS_DIR, Changes, Name, SweepsDir, trial_number
from ckconv_sweep.errors import ConfigError

if TYPE_CHECKING:
    from ckconv_sweep.config.domains import Scalar
    from ckconv_sweep.config.space import Space
    from ckconv_sweep.config.trial import Trial
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.requests import Request
    from ckconv_sweep.record.study import Study
    from ckconv_sweep.record.trials import TrialRecord


def add(
    name: Name,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="TRIAL",
            help="A trial: a file or the name of a bundled one.",
            show_default="the base trial",
            autocompletion=completion.trials,
        ),
    ] = None,
    set_: Changes = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Let a sweep try settings of your own next.

    They must be a point of the space; --set may name its variables, too. Also while the sweep runs;
    the trial comes on top of the budget.

    Example: ckconv-sweep add quickstart --set model.kernel.omega_0=31.09
    """
    from ckconv_sweep.config.first import given_variables, params_of
    from ckconv_sweep.config.read import changes_by_path, read_trial, trial_from

    folder, changes = _existing(name, sweeps_dir), set_ or ()
    _check_changes(changes)
    with folder.records.open() as study:
        space = study.space
        settings = _of_settings(changes, space)
        if file is None:
            trial = trial_from(space.trial.model_dump(mode="json"), "the base trial", settings)
        else:
            trial = read_trial(file, settings)
        try:
            given = given_variables(space, changes_by_path(changes))
            params = params_of(space, trial, given if file is None else given or None)
        except ConfigError as error:
            error.where = file or "--set"
            error.hint = error.hint or "only points of the space can be added"
            raise
        asked = _request(study, params, where=file or "--set")
    _ask(folder, [asked])


def retry(
    name: Name,
    reason: Annotated[
        str | None,
        typer.Option(
            metavar="REASON", help="Only those that failed for this reason, as out_of_memory."
        ),
    ] = None,
    numbers: Annotated[
        list[int] | None,
        typer.Option(
            "--trial", metavar="TRIAL", parser=trial_number, help="Only this one; may be repeated."
        ),
    ] = None,
    set_: Changes = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Try the failed trials of a sweep again.

    Each gets a new number; the failed ones stay as they are. A trial with a changed setting that
    is not searched is ranked like any other, and no sampler learns from it.

    Example: ckconv-sweep retry quickstart --reason out_of_memory --set training.batch_size=16
    """
    from ckconv_sweep.keys import trial_name

    folder, changes = _existing(name, sweeps_dir), set_ or ()
    _check_changes(changes)
    requests = []
    with folder.records.open() as study:
        space, records = study.space, study.trials()
        for record in _failed(folder, records, reason, numbers):
            where = trial_name(record.number)
            params, beside = dict(record.params), dict(record.changes)
            if changes:
                params, beside = _changed(record, space, changes)
            requests.append(_request(study, params, beside, record.number, where=where))
    _ask(folder, requests)


def pause(
    name: Name,
    off: Annotated[bool, typer.Option("--off", help="Go on.")] = False,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Let a running sweep give back its CPUs and GPUs.

    Each trial rests after the epoch that it is in, and is continued later. A pause takes nothing
    of the budget's hours, and ends with the session.

    Example: ckconv-sweep pause quickstart
    """
    from ckconv_sweep.record.requests import Request

    folder = _existing(name, sweeps_dir)
    _check_held(folder)
    _ask(folder, [Request(kind="continue" if off else "pause")])


def stop(
    name: Name,
    trial: Annotated[
        int | None,
        typer.Argument(
            metavar="TRIAL",
            parser=trial_number,
            help="Only this trial, as t017: it ends as it is, for good.",
            show_default="the whole sweep",
        ),
    ] = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Stop a running sweep, or one of its trials.

    A sweep stops when each trial has ended the epoch that it is in; it can be resumed.

    Example: ckconv-sweep stop quickstart t017
    """
    from ckconv_sweep.record.requests import Request
    from ckconv_sweep.record.trials import check_runs

    folder = _existing(name, sweeps_dir)
    if trial is None:
        _check_held(folder)
        _ask(folder, [Request(kind="stop")])
        return
    with folder.records.open() as study:
        try:
            check_runs(study.trials(), trial)
        except ConfigError as error:
            error.where = name
            raise
    _ask(folder, [Request(kind="stop_trial", number=trial)])


def concurrency(
    name: Name,
    trials: Annotated[int, typer.Argument(metavar="N", min=1, help="Number of concurrent trials.")],
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Let fewer trials run at a time, or more again.

    Where too many run, as many leave after the epoch that they are in, and are continued later. It
    cannot become more than the session began with; the next one has as many as this says.

    Example: ckconv-sweep concurrency quickstart 2
    """
    from ckconv_sweep.record.requests import Request

    _ask(_existing(name, sweeps_dir), [Request(kind="concurrency", number=trials)])


def _existing(name: str, sweeps_dir: Path) -> SweepFolder:
    from ckconv_sweep.record.folder import SweepFolder

    return SweepFolder.existing(sweeps_dir, name)


def _check_held(folder: SweepFolder) -> None:
    if folder.records.holder() is None:
        raise ConfigError("no driver runs this sweep now", where=folder.name)


def _ask(folder: SweepFolder, requests: Sequence[Request]) -> None:
    """Ask, and print the answers. Raises ConfigError if a request is refused."""
    from ckconv_sweep.sweep.asking import ask
    from ckconv_sweep.sweep.interruption import Interrupted, Interruption

    try:
        # Not from within SQLAlchemy's callbacks, where Python would swallow it.
        with Interruption().caught() as interruption, interruption.shielded():
            ask(folder, requests, typer.echo, interruption.check)
    except Interrupted as interrupted:
        raise typer.Exit(interrupted.exit_code) from None


def _check_changes(changes: Sequence[str]) -> None:
    """Raises ConfigError for what is the same, or different, in all trials of a sweep."""
    from ckconv_sweep.config.first import NOT_COMPARED

    for change in changes:
        if change.strip().startswith(NOT_COMPARED):
            raise ConfigError(
                "a sweep has one metric, and each of its trials a seed of its own",
                where=f"--set {change}",
            )


def _changed(
    record: TrialRecord, space: Space, changes: Sequence[str]
) -> tuple[dict[str, Scalar], dict[str, Any]]:
    """The parameters of a trial with changes, and what it has beside the space. Raises
    ConfigError."""
    from ckconv_sweep.config.first import given_variables, params_and_changes
    from ckconv_sweep.config.read import changes_by_path, trial_from
    from ckconv_sweep.keys import trial_name
    from ckconv_sweep.record.trials import trial_of

    where = trial_name(record.number)
    tree = trial_of(record, space).model_dump(mode="json")
    trial = trial_from(tree, where, _of_settings(changes, space))
    try:
        given = given_variables(space, {**record.changes, **changes_by_path(changes)})
        if given is not None:  # what is derived follows from what is searched, as it did
            given = {name: record.params[name] for name in space.variables} | given
        return params_and_changes(space, trial, given, record.params)
    except ConfigError as error:
        error.where = where
        raise


def _of_settings(changes: Sequence[str], space: Space) -> list[str]:
    """The changes that are not of a space's variables."""
    from ckconv_sweep.config.read import changes_by_path

    return [c for c in changes if not changes_by_path([c]).keys() & space.variables.keys()]


def _request(
    study: Study,
    params: dict[str, Any],
    changes: dict[str, Any] | None = None,
    retry_of: int | None = None,
    *,
    where: str,
) -> Request:
    """A trial to be added. Raises ConfigError if it violates a constraint."""
    from ckconv_sweep.record.requests import Request
    from ckconv_sweep.search.feasible import Infeasible, resolved

    def count_parameters(trial: Trial) -> int:
        from ckconv_sweep.models.parameters import parameters_of

        kept = (study.note("options") or {}).get("data_dir")
        return parameters_of(trial, Path(kept) if kept else None)

    found = resolved(study.space, params, 0, count_parameters, changes or {})
    if isinstance(found, Infeasible):
        raise ConfigError(found.why, where=where)
    return Request(kind="add", params=params, changes=changes or {}, retry_of=retry_of)


def _failed(
    folder: SweepFolder,
    records: Sequence[TrialRecord],
    reason: str | None,
    numbers: Sequence[int] | None,
) -> list[TrialRecord]:
    """The failed trials that are to be tried again, of which none is already. Raises ConfigError if
    there are none such."""
    from ckconv_sweep.keys import REASON_STOPPED
    from ckconv_sweep.record.requests import Request, Requests
    from ckconv_sweep.record.trials import check_failed

    for number in numbers or ():
        try:
            check_failed(records, number)
        except ConfigError as error:
            error.where = "--trial"
            raise
    waiting = [request for _, request in Requests(folder).waiting()]
    again = {request.retry_of for request in waiting if isinstance(request, Request)}
    again |= {record.retry_of for record in records}
    failed = [r for r in records if r.outcome == "failed" and r.counts and r.number not in again]
    if reason is None and not numbers:
        failed = [record for record in failed if record.reason != REASON_STOPPED]
    chosen = [
        record
        for record in failed
        if (reason is None or record.reason == reason) and (not numbers or record.number in numbers)
    ]
    if not chosen:
        why = "" if reason is None else f" with the reason {reason!r}"
        raise ConfigError(
            f"no failed trial{why} is left to be tried again",
            where=folder.name,
            hint=_reasons(failed),
        )
    return chosen


def _reasons(failed: Sequence[TrialRecord]) -> str | None:
    from ckconv_sweep.keys import trial_name

    told = [f"{trial_name(record.number)} ({record.reason})" for record in failed]
    return f"failed, and not tried again yet: {', '.join(told)}" if told else None
