"""A real MLflow server, and what any MLflow holds of a sweep."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos.ports import free_port
from ckconv_sweep import keys


@dataclass
class Server:
    """`mlflow server` on loopback, over a database in `folder`; it can be killed and come back."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "-w", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ
                | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"},
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer,
            ):
                if answer.status == 200:
                    return
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text())

    def pause(self) -> None:
        """It keeps its connections and answers nobody."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """After `pause`."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """The server and its one worker, which are a session of their own."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """A server that runs meanwhile."""
    running = Server(folder)
    try:
        running.start()
        yield running
    finally:
        running.kill()


def runs_of(uri: str, sweep: str) -> dict[str, Any]:
    """Every run of a sweep, by name; the parent's name is the sweep's."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(keys.EXPERIMENT)
    if experiment is None:
        return {}
    found = client.search_runs([experiment.experiment_id], f"tags.{keys.TAG_SWEEP} = '{sweep}'")
    names = [run.info.run_name for run in found]
    assert len(names) == len(set(names)), f"a run stands twice: {sorted(names)}"
    return {run.info.run_name: run for run in found}


def points_of(uri: str, run: Any) -> dict[str, list[tuple[int, float, int]]]:
    """Every point of every metric of a run, as (step, value, time in ms)."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return {
        name: sorted(
            (point.step, point.value, point.timestamp)
            for point in client.get_metric_history(run.info.run_id, name)
        )
        for name in run.data.metrics
    }
