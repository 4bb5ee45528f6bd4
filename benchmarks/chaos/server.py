"""A real MLflow server, and a wire to it that can be cut in several ways."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.driver import forked
from benchmarks.chaos.ports import free_port

MODES = ("open", "refused", "hanging", "reply lost")


@dataclass
class Server:
    """MLflow's server behind a wire. `uri` is the wire's, `database` the server's."""

    uri: str
    database: Path
    mode_file: Path

    def set_mode(self, mode: str) -> None:
        """open; refused: nobody listens; hanging: no byte goes through, and connections stay;
        reply lost: a request arrives, and its connection is cut when the answer comes."""
        assert mode in MODES
        temporary = self.mode_file.with_suffix(".new")
        temporary.write_text(mode)
        temporary.rename(self.mode_file)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """A server of its own, killed in the end."""
    folder.mkdir(parents=True)
    database, mode_file = folder / "server.db", folder / "mode"
    ports = free_port(), free_port()
    server = Server(f"http://127.0.0.1:{ports[1]}", database, mode_file)
    server.set_mode("open")
    wire = forked(lambda: _Wire(ports[1], ports[0], mode_file).carry(), folder / "wire.log")
    process = _start(folder, database, ports[0])
    try:
        yield server
    finally:
        wire.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the server and its worker
        process.wait()


def _start(folder: Path, database: Path, port: int) -> subprocess.Popen[bytes]:
    arguments = ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--backend-store-uri", f"sqlite:///{database}"]
    arguments += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ
            | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"},
        )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer,
        ):
            if answer.status == 200:
                return process
        time.sleep(0.1)
    raise RuntimeError((folder / "server.log").read_text())


class _Wire:
    """Carries bytes from one port to another, as the mode of the moment says."""

    def __init__(self, port: int, to: int, mode_file: Path) -> None:
        self._port, self._to, self._mode_file = port, to, mode_file

    @property
    def mode(self) -> str:
        return self._mode_file.read_text()

    def carry(self) -> None:
        while True:
            if self.mode == "refused":
                time.sleep(0.02)
                continue
            with socket.socket() as listening:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind(("127.0.0.1", self._port))
                listening.listen(64)
                while self.mode != "refused":
                    if select.select([listening], [], [], 0.02)[0]:
                        client = listening.accept()[0]
                        threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        """One connection, until an end closes it or the mode cuts it."""
        with client, contextlib.suppress(OSError), socket.socket() as server:
            server.connect(("127.0.0.1", self._to))
            other = {client: server, server: client}
            while (mode := self.mode) != "refused":
                if mode == "hanging":
                    time.sleep(0.02)
                    continue
                for ready in select.select([client, server], [], [], 0.02)[0]:
                    content = ready.recv(65536)
                    if not content or (ready is server and mode == "reply lost"):
                        return
                    other[ready].sendall(content)
