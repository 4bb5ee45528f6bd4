"""`ui` and `sync`: the commands about MLflow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.options import SWEEPS_DIR, Name, SweepsDir, TrackingUri

if TYPE_CHECKING:
    from threading import Thread

    from ckconv_sweep.cli.pages import Tracked

_OPENING_SECONDS = 5.0


def ui(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A sweep's name: opens the comparison of its trials.",
            autocompletion=completion.sweeps,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(metavar="PORT", min=1, max=65535, help="Port on this machine.")
    ] = 5000,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Open MLflow's pages in a browser.

    Over the local database a server runs until Ctrl-C, for this machine only. A sweep that is
    tracked on a server has its pages there.

    Example: ckconv-sweep ui quickstart
    """
    from ckconv_sweep.cli.pages import Tracked, tracked
    from ckconv_sweep.errors import ConfigError
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.tracking import server as mlflow_server
    from ckconv_sweep.tracking.store import (
        database_uri,
        default_database,
        first_to_open,
        local_database,
    )

    kept = Tracked()
    database = default_database(sweeps_dir)
    if name is not None:
        kept = tracked(SweepFolder.existing(sweeps_dir, name))
        if kept.server:
            if opening := _show(kept, kept.server, open_it=not no_open):
                opening.join(_OPENING_SECONDS)
            return
        elsewhere = local_database(kept.uri)
        if elsewhere is not None and not database.exists():
            database = elsewhere
    if not database.exists():
        raise ConfigError(
            "no MLflow database here",
            where=str(database.parent),
            hint="launch a sweep first, or say where it lies with --sweeps-dir",
        )
    if not mlflow_server.is_free(port):
        raise ConfigError(
            f"port {port} is taken",
            where="--port",
            hint=f"take another, as in --port {port + 1}",
        )
    with first_to_open(database_uri(database)):  # not while a sweep is making it
        pass
    typer.echo("MLflow is starting, for this machine only; end it with Ctrl-C")
    sys.stdout.flush()

    def ready(address: str) -> None:
        _show(kept, address, open_it=not no_open)

    raise typer.Exit(mlflow_server.serve(database, port, ready=ready))


def _show(sweep: Tracked, server: str, *, open_it: bool) -> Thread | None:
    from ckconv_sweep.cli.pages import open_in_browser

    found = sweep.addresses(server)
    if found is None:
        page = f"{server}/?workflowType=machine_learning"
        typer.echo(f"MLflow: {page}")
    else:
        page = found.charts
        typer.echo(f"charts: {found.charts}")
        typer.echo(f"table:  {found.table}")
    sys.stdout.flush()
    return open_in_browser(page) if open_it else None


def sync(name: Name, tracking_uri: TrackingUri = None, sweeps_dir: SweepsDir = SWEEPS_DIR) -> None:
    """Deliver to MLflow what it lacks of a sweep.

    Doing it twice changes nothing.
    """
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.errors import TrackingError
    from ckconv_sweep.record.folder import SweepFolder

    folder = SweepFolder.existing(sweeps_dir, name)

    from ckconv_sweep.sweep.delivery import deliver
    from ckconv_sweep.tracking.store import default_uri, without_password

    uri = tracking_uri or default_uri(folder.root.parent)
    missing = deliver(folder, uri, say=lambda line: typer.echo(line, err=True))
    if missing:
        raise TrackingError(
            f"{count(missing, 'record')} not delivered",
            where=without_password(uri),
            hint="nothing is lost: the same command delivers them later",
        )
    typer.echo(f"MLflow at {without_password(uri)} has all of {name}")
