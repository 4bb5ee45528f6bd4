"""`ui` and `sync`: the commands about MLflow."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ckconv_sweep.cli.options import SWEEPS_DIR, Name, SweepsDir, TrackingUri

_GRACE_SECONDS = 5.0


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
    from ckconv_sweep.sweep.mlflow_store import comparison_path, first_to_open

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
    with first_to_open(f"sqlite:///{database}"):  # not while a sweep is making it
        pass
    typer.echo(f"MLflow: http://127.0.0.1:{port}{path}")
    typer.echo("it needs a few seconds to start; end it with Ctrl-C")
    sys.stdout.flush()
    raise typer.Exit(_serve(database, port))


def _serve(database: Path, port: int) -> int:
    """MLflow's server until it ends or a signal comes; returns the exit code. None of its
    processes outlives this one, however this one ends."""
    import contextlib
    import ctypes
    import signal
    import subprocess

    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", str(database.parent / "mlartifacts")]
    # The user's own settings of MLflow are for another server; some would open this one to others.
    foreign = ("MLFLOW_", "_MLFLOW_", "UVICORN_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | {
        # One worker and no job runner: a sixth of the memory, and nobody here runs jobs in it.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONWARNINGS": "ignore",  # of MLflow's own parts, about each other
    }
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_parent() -> None:
        if prctl is not None:  # also with one that is killed; MLflow passes SIGTERM on
            prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    received: list[int] = []
    server: subprocess.Popen[bytes] | None = None

    def stop(number: int, _: object) -> None:
        received.append(number)
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    # A session of its own, so that a Ctrl-C reaches this process alone, which ends all of it.
    server = subprocess.Popen(
        command, env=environment, start_new_session=True, preexec_fn=die_with_parent
    )
    code: int | None = None
    try:
        while code is None and not received:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = server.wait(timeout=0.5)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=_GRACE_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):  # what does not end by itself
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    return 128 + received[0] if received else code or 0


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
