"""A trained model by its path, or by the name that MLflow's registry has for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ckconv_sweep.config.names import expanded, is_registered_name
from ckconv_sweep.tracking.registry import fetched
from ckconv_sweep.training.weights import Trained, read_trained


def read_model(given: str | Path, uri: str) -> Trained:
    """Read it; its `path` says where it was, also of one that was fetched and is gone again.

    Args:
        given: a file or folder of this machine, or `models:/NAME@ALIAS`.
        uri: of the MLflow that has the registry.

    Raises:
        ConfigError, DamagedData: there is none, or it cannot be read.
        TrackingError: MLflow does not answer.
    """
    if not is_registered_name(given):
        return read_trained(expanded(Path(given)))
    with fetched(str(given), uri) as folder:
        return replace(read_trained(folder), path=Path(given))
