"""Where results come from: a sweep's folder, or MLflow alone."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ckconv_sweep.errors import CkconvSweepError, ConfigError, TrackingError
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.report import from_mlflow
from ckconv_sweep.report.results import Results
from ckconv_sweep.sweep.mlflow_store import (
    experiment_name,
    local_database,
    quiet_client,
    reason,
    without_password,
)


def results_of(name: str, sweeps_dir: Path, tracking_uri: str | None = None) -> Results:
    """A sweep from MLflow alone where an address is given; otherwise from its folder, and only
    where there is none from the MLflow that `MLFLOW_TRACKING_URI` names.

    Raises:
        ConfigError: there is no such sweep, or no such database.
        TrackingError: MLflow does not answer.
        DamagedData: what is there is none of ours.
    """
    folder = SweepFolder.of(sweeps_dir, name)
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if tracking_uri or (uri and not folder.study.exists()):
        assert uri
        return _from_mlflow(name, uri)
    try:
        folder = SweepFolder.existing(sweeps_dir, name)
    except ConfigError as error:
        error.hint = f"{error.hint}; a sweep of somebody else is read with --tracking-uri URI"
        raise
    collecting = gc.isenabled()
    # Python would look for cycles among the objects of a large study for longer than it reads.
    gc.disable()
    try:
        with Study.open(folder) as study:
            return Results.of_study(study)
    finally:
        if collecting:
            gc.enable()


def parameter_counts(results: Results, data_dir: Path | None = None) -> Mapping[int, int]:
    """The number of trainable numbers of each trial's model, by the trial's number; counted
    without making it. A trial that was being drawn when its driver died has none. Imports PyTorch.

    Raises:
        ConfigError: the size of the data set stands in files that are not there.
    """
    from ckconv_sweep.data.datasets import describe
    from ckconv_sweep.models.parameters import count_parameters

    counts: dict[int, int] = {}
    known: dict[str, int] = {}
    for record in results.records:
        if record.counts:
            try:
                trial = results.space.resolve(record.params, record.number)
            except ConfigError:  # some of its settings were not drawn
                continue
            key = f"{trial.model.model_dump_json()} {trial.data.model_dump_json()}"
            if key not in known:
                known[key] = count_parameters(trial.model, describe(trial.data, data_dir))
            counts[record.number] = known[key]
    return counts


def all_results(
    names: Iterable[str], sweeps_dir: Path, tracking_uri: str | None = None
) -> list[Results]:
    """Several sweeps. Raises as `results_of`, and ConfigError for a name that is given twice."""
    out: dict[str, Results] = {}
    for name in names:
        if name in out:
            raise ConfigError(f"the sweep {name} is named twice", where="NAME")
        out[name] = results_of(name, sweeps_dir, tracking_uri)
    return list(out.values())


def _from_mlflow(name: str, uri: str) -> Results:
    where, database = without_password(uri), local_database(uri)
    if database is not None and not _is_database(database):
        raise ConfigError(
            "there is no MLflow database",
            where=where,
            hint="name a file, as in sqlite:///sweeps/mlflow.db, or a server",
        )
    try:
        return from_mlflow.results_of(quiet_client(uri), experiment_name(), name, where)
    except CkconvSweepError:
        raise
    except Exception as error:
        raise TrackingError(
            f"MLflow cannot be read: {reason(error, uri)}",
            where=where,
            hint="is it running? Its address is --tracking-uri or MLFLOW_TRACKING_URI",
        ) from error


def _is_database(path: Path) -> bool:
    """MLflow would make one of a file that is empty or missing; a look must make nothing."""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False
