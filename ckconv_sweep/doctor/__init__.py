"""What is wrong with a sweep, and what to do about it. Everything is looked at, nothing changed.

Each check stands alone: a study that cannot be read is one finding, and the checkpoints are looked
at all the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ckconv_sweep.doctor import blobs, data, surroundings
from ckconv_sweep.doctor.finding import Examined, Finding, problem
from ckconv_sweep.doctor.records import examine_study
from ckconv_sweep.record.folder import SweepFolder

__all__ = ["Finding", "examine"]

CHECKS = {
    "checkpoints": blobs.checkpoints,
    "leftovers": blobs.leftovers,
    "lock": surroundings.free_lock,
    "mlflow": surroundings.mlflow,
    "disk": surroundings.disk,
    "versions": surroundings.same_versions,
    "data": data.same_data,
    "modes": blobs.modes,
}


def examine(
    folder: SweepFolder,
    tracking_uri: str | None = None,
    data_dir: Path | None = None,
) -> list[Finding]:
    """All that there is to say about a sweep, good and bad.

    Args:
        tracking_uri: MLflow's address, if not where the sweep's records went last.
        data_dir: the folder that holds the datasets' folders, as for `data.datasets.load`.
    """
    holder = folder.records.holder()
    sweep = Examined(
        folder=folder,
        tracking_uri=tracking_uri,
        data_dir=data_dir,
        runs=holder is not None,
    )
    found, sweep = examine_study(sweep)
    findings = [replace(finding, check="study") for finding in found]
    for name, look in CHECKS.items():
        try:
            findings += (replace(finding, check=name) for finding in look(sweep))
        except OSError as error:
            said = f"{error.filename or folder.root}: {error.strerror}"
            findings.append(problem(said, check=name))
    return findings
