"""Deleting the runs of a sweep from MLflow, which keeps them as deleted until `mlflow gc`."""

from __future__ import annotations

from typing import Any

from ckconv_sweep.errors import TrackingError
from ckconv_sweep.tracking.answers import obstacle_to, problem
from ckconv_sweep.tracking.marks import PARENT, find, is_deleted, search
from ckconv_sweep.tracking.store import (
    experiment_name,
    first_to_open,
    local_database,
    quiet_client,
    without_password,
)


def delete_runs(uri: str, sweep_uid: str) -> int:
    """Delete the runs of a sweep's trials, then its own; returns how many.

    Raises:
        TrackingError: MLflow cannot be asked, or does not delete them.
    """
    database = local_database(uri)
    if database is not None and not database.exists():
        return 0
    try:
        if database is not None and (obstacle := obstacle_to(database)):
            raise TrackingError(obstacle)
        with first_to_open(uri):
            client = quiet_client(uri)
            runs = _runs(client, sweep_uid)
        return sum(_deleted(client, run) for run in runs)
    except Exception as error:
        found = problem(error, uri)
        raise TrackingError(
            f"MLflow {found.what}",
            where=without_password(uri),
            hint="try again when it answers, or leave the runs there: --keep-runs",
        ) from error


def _runs(client: Any, sweep_uid: str) -> list[Any]:
    """The sweep's own run last: by it the others are found."""
    experiment = client.get_experiment_by_name(experiment_name())
    if experiment is None:
        return []
    own = find(client, experiment.experiment_id, sweep_uid)
    if own is None:
        return []
    asked = f"tags.`{PARENT}` = '{own.info.run_id}'"
    return [*search(client, experiment.experiment_id, asked), own]


def _deleted(client: Any, run: Any) -> bool:
    if is_deleted(run):
        return False
    client.delete_run(run.info.run_id)
    return True
