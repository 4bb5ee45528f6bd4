"""The requests that a person may make of a sweep, each checked against its study before it is put
where the driver looks. `sweep.asking` waits for the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ckconv_sweep.config.domains import Scalar
from ckconv_sweep.config.first import (
    NOT_COMPARED,
    given_variables,
    params_and_changes,
    params_of,
)
from ckconv_sweep.config.read import changes_by_path, read_trial, trial_from
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import REASON_STOPPED, trial_name
from ckconv_sweep.record import trained_data
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.requests import Request, Requests
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, check_failed, check_runs, trial_of
from ckconv_sweep.search.feasible import Infeasible, resolved


def added(
    folder: SweepFolder,
    changes: Sequence[str] = (),
    given: str | Mapping[str, Any] | None = None,
) -> Request:
    """That a sweep tries these settings next.

    Args:
        changes: as `--set` takes them.
        given: the trial that they change: a file, a bundled one's name, or its settings; the base
            trial if left out.

    Raises:
        ConfigError: they are no point of the space, or violate a constraint.
    """
    _check_changes(changes)
    with folder.records.open() as study:
        space = study.space
        settings = _of_settings(changes, space)
        if isinstance(given, str):
            trial, where = read_trial(given, settings), given
        else:
            tree = space.trial.model_dump(mode="json") if given is None else dict(given)
            trial = trial_from(tree, "the base trial" if given is None else "the trial", settings)
            where = "--set" if given is None else "the trial"
        try:
            variables = given_variables(space, changes_by_path(changes))
            params = params_of(space, trial, variables if given is None else variables or None)
        except ConfigError as error:
            error.where = where
            error.hint = error.hint or "only points of the space can be added"
            raise
        return _request(study, params, where=where)


def retried(
    folder: SweepFolder,
    changes: Sequence[str] = (),
    reason: str | None = None,
    numbers: Sequence[int] = (),
) -> list[Request]:
    """That a sweep tries failed trials again: those of a reason, or of some numbers, or all but
    those that a person stopped. Raises ConfigError if none is left, or a change is wrong."""
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
    return requests


def paused(folder: SweepFolder, *, off: bool = False) -> Request:
    """That a sweep pauses, or goes on. Raises ConfigError if no driver runs it."""
    _check_held(folder)
    return Request(kind="continue" if off else "pause")


def stopped(folder: SweepFolder, number: int | None = None) -> Request:
    """That a sweep stops, or one of its trials. Raises ConfigError if no driver runs the sweep, or
    the trial does not run."""
    if number is None:
        _check_held(folder)
        return Request(kind="stop")
    with folder.records.open() as study:
        try:
            check_runs(study.every_trial(), number)
        except ConfigError as error:
            error.where = folder.name
            raise
    return Request(kind="stop_trial", number=number)


def slowed(trials: int) -> Request:
    """That so many trials run at a time. Raises ConfigError if that is none."""
    if trials < 1:
        raise ConfigError(f"must be 1 or more, got {trials}", where="concurrency")
    return Request(kind="concurrency", number=trials)


def _check_held(folder: SweepFolder) -> None:
    if folder.records.holder() is None:
        raise ConfigError("no driver runs this sweep now", where=folder.name)


def _check_changes(changes: Sequence[str]) -> None:
    """Raises ConfigError for what is the same, or different, in all trials of a sweep."""
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

    def count_parameters(trial: Trial) -> int:
        from ckconv_sweep.models.parameters import parameters_of

        return parameters_of(trial, trained_data.folder_of(study))

    found = resolved(study.space, params, 0, count_parameters, changes or {})
    if isinstance(found, Infeasible):
        raise ConfigError(found.why, where=where)
    return Request(kind="add", params=params, changes=changes or {}, retry_of=retry_of)


def _failed(
    folder: SweepFolder,
    records: Sequence[TrialRecord],
    reason: str | None,
    numbers: Sequence[int],
) -> list[TrialRecord]:
    """The failed trials that are to be tried again, of which none is already. Raises ConfigError if
    there are none such."""
    for number in numbers:
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
    told = [f"{trial_name(record.number)} ({record.reason})" for record in failed]
    return f"failed, and not tried again yet: {', '.join(told)}" if told else None
