"""`ui` and `sync`: the commands about MLflow."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from ckconv_sweep.cli.options import SWEEPS_DIR, Name, SweepsDir, TrackingUri


def ui(
    name: Annotated[
        str | None, typer.Argument(help="A sweep, to print the address of its comparison.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine only.")] = 5000,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Start MLflow's pages over the local database, for this machine only, until Ctrl-C."""
    import socket

    from ckconv_sweep.errors import ConfigError
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.study import Study
    from ckconv_sweep.sweep.mlflow_store import comparison_path

    database = sweeps_dir.expanduser().resolve() / "mlflow.db"
    if not database.exists():
        raise ConfigError(
            "no MLflow database here",
            where=str(database.parent),
            hint="launch a sweep first, or say where it lies with --sweeps-dir",
        )
    path = "/?workflowType=machine_learning"
    if name is not None:
        with Study.open(SweepFolder.existing(sweeps_dir, name)) as study:
            kept, metric = study.note("mlflow") or {}, study.space.metric.name
        if kept.get("experiment_id"):
            path = comparison_path(kept["experiment_id"], name, metric)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ConfigError(
                f"port {port} is taken",
                where="--port",
                hint=f"take another, as in --port {port + 1}",
            ) from None
    typer.echo(f"MLflow: http://127.0.0.1:{port}{path}")
    typer.echo("it needs a few seconds to start; end it with Ctrl-C")
    sys.stdout.flush()
    environment = os.environ | {
        # One worker and no job runner: a sixth of the memory, and nobody here runs jobs in it.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "ignore",  # of MLflow's own parts, about each other
    }
    os.execve(
        sys.executable,
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
            "--backend-store-uri",
            f"sqlite:///{database}",
            "--artifacts-destination",
            str(database.parent / "mlartifacts"),
        ],
        environment,
    )


def sync(name: Name, tracking_uri: TrackingUri = None, sweeps_dir: SweepsDir = SWEEPS_DIR) -> None:
    """Give MLflow what it still lacks of a sweep. Doing it twice changes nothing."""
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.errors import TrackingError
    from ckconv_sweep.record.folder import SweepFolder

    folder = SweepFolder.existing(sweeps_dir, name)

    from ckconv_sweep.sweep.driver import deliver
    from ckconv_sweep.sweep.mlflow_store import default_uri, without_password

    uri = tracking_uri or default_uri(folder.root.parent)
    missing = deliver(folder, uri)
    if missing:
        raise TrackingError(
            f"{count(missing, 'record')} not delivered",
            where=without_password(uri),
            hint="is the server running? Nothing is lost: try again later",
        )
    typer.echo(f"MLflow at {without_password(uri)} has all of {name}")
