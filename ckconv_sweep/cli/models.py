"""The trained model that a command is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli.options import SWEEPS_DIR, model_here

if TYPE_CHECKING:
    from ckconv_sweep.training.weights import Trained

Model = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A checkpoint of ours, the folder of a run, a promoted folder, or models:/NAME@ALIAS "
        "in MLflow's registry.",
        callback=model_here,
    ),
]


def read_model(given: Path) -> Trained:
    """Read it; from MLflow's registry what lies there. Raises as `sweep.read_model`."""
    from ckconv_sweep.sweep import read_model
    from ckconv_sweep.tracking.store import default_uri

    return read_model.read_model(given, default_uri(SWEEPS_DIR))
