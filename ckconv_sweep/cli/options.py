"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ckconv_sweep.record.folder import SweepFolder

SweepsDir = Annotated[
    Path, typer.Option(help="The folder that holds the sweeps.", envvar="CKCONV_SWEEPS")
]
SWEEPS_DIR = Path("sweeps")

DataDir = Annotated[
    Path | None,
    typer.Option(help="Where data sets lie, or are downloaded to.", envvar="CKCONV_DATA"),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as in model.dropout=0.1."),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="MLflow's address.",
        envvar="MLFLOW_TRACKING_URI",
        show_default="sqlite:///mlflow.db in the sweeps folder",
    ),
]
FromMlflow = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        help="Read MLflow at this address alone, not the sweep's folder.",
        show_default="where there is no folder: MLFLOW_TRACKING_URI",
    ),
]
RequireTracking = Annotated[
    bool,
    typer.Option("--require-tracking", help="Start nothing unless MLflow answers."),
]
OnFinish = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="Run in a shell when the sweep ends or is stopped; CKCONV_SWEEP, CKCONV_STATE, "
        "CKCONV_BEST_VALUE, ... are in its environment.",
    ),
]
OnBest = Annotated[
    str | None,
    typer.Option(metavar="COMMAND", help="The same at each new best value, in the background."),
]
Name = Annotated[str, typer.Argument(help="The sweep's name.", metavar="NAME")]


def absolute(path: Path | None) -> Path | None:
    """Workers have another current folder than the user."""
    return None if path is None else path.expanduser().resolve()


def command(name: str, folder: SweepFolder) -> str:
    """What to type for a command on this sweep. Where the sweep lies is not said of the default
    folder."""
    sweeps_dir = folder.root.parent
    where = "" if sweeps_dir == SWEEPS_DIR.resolve() else f" --sweeps-dir {quote(str(sweeps_dir))}"
    return f"ckconv-sweep {name} {folder.name}{where}"
