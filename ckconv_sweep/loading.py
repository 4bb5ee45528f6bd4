"""Trained models from Python."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ckconv_sweep.config.names import expanded
from ckconv_sweep.python_words import errors_in_python
from ckconv_sweep.report.found import sweeps_folder

if TYPE_CHECKING:
    from ckconv_sweep.training.predictor import Predictor


@errors_in_python()
def load(
    model: str | Path, *, tracking_uri: str | None = None, data_dir: str | Path | None = None
) -> Predictor:
    """A trained model, as a torch module that takes raw sequences: `predict`, `answered`.

    Args:
        model: the folder that `ckconv-sweep promote` wrote, or `models:/NAME@ALIAS` in MLflow's
            registry; neither needs the sweep or its data. Also the folder of a run, or a
            checkpoint, whose dataset is read then.
        tracking_uri: of MLflow; by default `MLFLOW_TRACKING_URI`, or the database of `sweeps`.
        data_dir: the folder of the datasets.

    Raises:
        ConfigError, DamagedData: there is none, or it cannot be read.
        TrackingError: MLflow does not answer.

    Warns:
        UserWarning: the dataset is read, and is not the one that the model was trained on: means
            and standard deviations may be others now.

    Example: `load("quickstart-promoted").predict(sequences).predicted`
    """
    from ckconv_sweep.data.datasets import load as load_task
    from ckconv_sweep.data.identity import difference
    from ckconv_sweep.sweep.read_model import read_model
    from ckconv_sweep.tracking.store import default_uri
    from ckconv_sweep.training.predictor import by_itself, of_task

    trained = read_model(model, tracking_uri or default_uri(sweeps_folder(None)))
    if found := by_itself(trained):
        return found
    where = None if data_dir is None else expanded(Path(data_dir)).resolve()
    task = load_task(trained.trial.data, where)
    if why := difference(trained.data, task.identity):
        said = f"{trained.path}: it was trained on other data than these: {why}"
        warnings.warn(said, stacklevel=3)  # who called, beyond the decorator
    return of_task(trained, task)
