"""A Ray cluster of several hosts on this machine, which asks for a token."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.nodes import in_new_folder

from .hosts import Host, Network, network, why_not

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
PORT = 6379
TRIES = 4
"""How often a node is started: Ray gives it 30 seconds, too few on a busy machine."""
SPACE = """
trial:
  data: {name: digits}
  model: {hidden_channels: 4, blocks: 1, kernel: {hidden_channels: 8}}
  training: {epochs: 8}
search:
  model.dropout: {low: 0.0, high: 0.3}
sampler: {name: random}
budget: {trials: 6}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` leaves them out; `make test-cluster` runs them."""
    for item in items:
        if item.path.is_relative_to(HERE):
            for mark in (pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)):
                item.add_marker(mark)


@dataclass
class Cluster:
    """The first node that is added is its head, from which its user works. `folder` is shared by
    all hosts; the user's sweeps lie there."""

    network: Network
    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def address(self) -> str:
        return f"{self.head.address}:{PORT}"

    @property
    def head(self) -> Host:
        return self.network.hosts[0]

    @property
    def sweeps(self) -> Path:
        return self.folder / "sweeps"

    def environment(self) -> dict[str, str]:
        """Of everybody who has the token."""
        theirs = ("CKCONV_", "MLFLOW_", "RAY_", "PYTHONPATH")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(theirs)}
        return kept | {
            "PATH": f"{BIN}{os.pathsep}{kept['PATH']}",
            "PYTHONPATH": str(HERE.parents[1]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            # A node is lost when it has refused to answer five times: by default 15 seconds.
            "RAY_health_check_period_ms": "500",
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def host(self, *mounts: str, **variables: str) -> Host:
        """One more, on which nothing runs yet; with other mounts and variables than the head."""
        return self.network.add(self.environment() | variables, *mounts)

    def add(
        self, *mounts: str, cpus: int = 1, gpus: int = 0, at: Host | None = None, **variables: str
    ) -> Host:
        """A node more, once it is up.

        Args:
            mounts, variables: as of `host`.
            gpus: how many Ray is told of.
            at: a host that is there.

        Raises:
            RuntimeError: it does not start; with what it said.
        """
        host = at or self.host(*mounts, **variables)
        is_head = host is self.head
        where = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        for turn in range(TRIES):
            log = host.folder / f"ray{turn}.log"
            process = host.start(
                *("ray", "start", *(where if is_head else [f"--address={self.address}"])),
                *(f"--node-ip-address={host.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"),
                *("--object-store-memory=80000000", "--disable-usage-stats", "--block"),
                log=log,
            )
            while process.poll() is None:
                if "block forever" in (said := log.read_text()):
                    return host
                time.sleep(0.1)
            if "Failed to get node info" not in (said := log.read_text()):
                break
        raise RuntimeError(said)

    def start(self, *args: str | Path, at: Host | None = None) -> subprocess.Popen[str]:
        """A command of the user, `ckconv-sweep ...` with these arguments, at the head or at a
        host."""
        command = (sys.executable, "-m", "ckconv_sweep", *args)
        return (at or self.head).start(*command)

    def launch(self, name: str, *args: str | Path) -> subprocess.Popen[str]:
        """A sweep of `SPACE` on this cluster."""
        space = self.folder / "small.yaml"
        space.write_text(SPACE)
        at = ("--name", name, "--address", "auto", "--sweeps-dir", self.sweeps)
        return self.start("launch", space, *at, *args)

    def status(self, name: str) -> dict[str, Any]:
        done = ended(self.start("status", name, "--json", "--sweeps-dir", self.sweeps))
        assert done.code == 0, done.complaint
        return dict(json.loads(done.out))


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said on both ways."""

    code: int
    out: str
    complaint: str

    def lines(self, beginning: str) -> list[str]:
        """The lines of its output that begin so."""
        return [line for line in self.out.splitlines() if line.startswith(beginning)]


def ended(process: subprocess.Popen[str], seconds: float = 240) -> Done:
    """Wait for the end of a command."""
    try:
        out, complaint = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert "Traceback" not in complaint, complaint
    return Done(process.returncode, out, complaint)


def wait_for(text: str, process: subprocess.Popen[str]) -> str:
    """What it said until a line with this text. Fails if it ends before."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    pytest.fail(f"it ended too early: {said}{process.communicate()[1]}")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """One node of one CPU."""
    if why := why_not():
        pytest.skip(why)
    with in_new_folder() as folder, network(folder) as made:
        (folder / "shared").mkdir()
        cluster = Cluster(made, folder / "shared")
        cluster.add()
        yield cluster
