"""MLflow's pages over a local database, for this machine only."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ckconv_sweep.errors import TrackingError
from ckconv_sweep.tracking.store import database_uri

_HOST = "127.0.0.1"
_GRACE_SECONDS = 5.0


def is_free(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def serve(database: Path, port: int, *, ready: Callable[[str], None]) -> int:
    """MLflow's server until a signal comes; returns the exit code. None of its processes outlives
    this one, however this one ends.

    Args:
        ready: called with the server's address as soon as it answers.

    Raises:
        TrackingError: it ended by itself.
    """
    received: list[int] = []
    server: subprocess.Popen[bytes] | None = None

    def stop(number: int, _: object) -> None:
        received.append(number)
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_parent() -> None:
        if prctl is not None:  # also with one that is killed; MLflow passes SIGTERM on
            prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    with tempfile.TemporaryFile() as said:
        # A session of its own, so that a Ctrl-C reaches this process alone, which ends all of it.
        server = subprocess.Popen(
            _command(database, port),
            env=_environment(),
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        try:
            answered = False
            while server.poll() is None and not received:
                if not answered and (answered := _answers(port)):
                    ready(f"http://{_HOST}:{port}")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(timeout=0.5)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=_GRACE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):  # what does not end by itself
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        if received:
            return 128 + received[0]
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    raise TrackingError(
        f"MLflow's server ended by itself (exit code {server.returncode})",
        where=str(database),
        hint=f"it said: {_reason(lines)[:300]}" if lines else None,
    )


def _reason(lines: list[str]) -> str:
    """The last error among lines of a log; of a traceback that is the one that counts."""
    return next((line for line in reversed(lines) if "Error: " in line), lines[-1])


def _command(database: Path, port: int) -> list[str]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", _HOST, "--port", str(port)]
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning --no-access-log"]
    command += ["--backend-store-uri", database_uri(database)]
    return [*command, "--artifacts-destination", str(database.parent / "mlartifacts")]


def _environment() -> dict[str, str]:
    # The user's own settings of MLflow are for another server; some would open this one to others.
    foreign = ("MLFLOW_", "_MLFLOW_", "UVICORN_")
    return {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | {
        # One worker and no job runner: a sixth of the memory, and nobody here runs jobs in it.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONWARNINGS": "ignore",  # of MLflow's own parts, about each other
    }


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(_HOST, port, timeout=2)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
