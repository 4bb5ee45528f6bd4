"""Sweeps by their names: from their folders, or from MLflow alone."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable
from pathlib import Path

from ckconv_sweep.config.names import SWEEPS_DIR
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.report import from_mlflow
from ckconv_sweep.report.results import Results
from ckconv_sweep.report.why import Why, explained


def sweeps_folder(given: str | Path | None) -> Path:
    """Where sweeps are, as on the command line."""
    return Path(given or os.environ.get("CKCONV_SWEEPS") or SWEEPS_DIR)


def results_of(name: str, sweeps_dir: Path, tracking_uri: str | None = None) -> Results:
    """A sweep from MLflow alone where an address is given; otherwise from its folder, and only
    where there is none from the MLflow that `MLFLOW_TRACKING_URI` names.

    Raises:
        ConfigError: there is no such sweep, or no such database.
        TrackingError: MLflow does not answer.
        DamagedData: what is there was not written by ckconv-sweep.
    """
    folder = SweepFolder.of(sweeps_dir, name)
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if tracking_uri or (uri and not folder.records.exists()):
        assert uri
        return from_mlflow.results_at(name, uri)
    try:
        folder = SweepFolder.existing(sweeps_dir, name)
    except ConfigError as error:
        error.hint = f"{error.hint}; a sweep of somebody else is read with --tracking-uri URI"
        raise
    collecting = gc.isenabled()
    # Python would look for cycles among the objects of a large study for longer than it reads.
    gc.disable()
    try:
        with folder.records.open() as study:
            return Results.of_study(study)
    finally:
        if collecting:
            gc.enable()


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


def why_of(results: Results, number: int, sweeps_dir: Path) -> Why:
    """What became of a trial, with the commands that help where the sweep's folder is here. Raises
    ConfigError if there is no such trial."""
    folder = SweepFolder.of(sweeps_dir, results.name)
    if results.source != str(folder.root):
        return explained(results, number)
    log = str(folder.ray_log) if folder.ray_log.exists() else ""
    return explained(results, number, folder.command, log)
