"""The trained model that a command is about."""

from __future__ import annotations

from dataclasses import replace
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
    """Read it; from MLflow's registry what lies there. Raises as `read_trained` and `fetched`."""
    from ckconv_sweep.training.weights import read_trained

    if not str(given).startswith("models:/"):
        return read_trained(given)
    from ckconv_sweep.tracking.registry import fetched
    from ckconv_sweep.tracking.store import default_uri

    with fetched(str(given), default_uri(SWEEPS_DIR)) as folder:
        return replace(read_trained(folder), path=given)
