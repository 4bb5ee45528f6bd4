"""Ray clusters of real processes on this machine, whose nodes come and go."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.ports import free_port

BIN = Path(sys.executable).parent

Node = subprocess.Popen[str]
"""The `ray start` of a node, in a session of its own."""


def session_of(pid: int) -> dict[int, str]:
    """The processes of a session that live, and the names of their programs."""
    out = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            head, _, rest = stat.read_text().rpartition(")")
            if rest.split()[3] == str(pid) and rest.split()[0] != "Z":
                out[int(stat.parent.name)] = head.partition("(")[2]
    return out


@contextlib.contextmanager
def in_new_folder() -> Iterator[Path]:
    """With a short path, for the sake of Ray's sockets."""
    made = Path(tempfile.mkdtemp(prefix="ck-", dir="/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@dataclass
class Nodes:
    """A cluster without a node at first; the first that is added is its head.

    `folder` takes Ray's files and is the user's home; `token` is what the cluster asks for, if it
    asks.
    """

    folder: Path
    token: str | None
    port: int = field(default_factory=free_port)
    nodes: list[Node] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Of a user who has the token and a home of their own."""
        ours = ("CKCONV_", "MLFLOW_", "RAY_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        home = {"HOME": str(self.folder), "RAY_TMPDIR": str(self.folder)}
        token = {"RAY_AUTH_TOKEN": self.token} if self.token else {}
        quiet = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        # A node is lost when it has refused to answer five times: by default 15 seconds.
        soon = {"RAY_health_check_period_ms": "300"}
        return kept | home | token | quiet | soon | {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def add(self, *, cpus: int = 1, gpus: int = 0, **more: str) -> Node:
        """A node more, once it is up. `gpus`: how many Ray is told of; `more`: goes into its
        environment. Raises RuntimeError, with what it said, if it does not start."""
        where = [f"--address={self.address}"] if self.nodes else ["--head", f"--port={self.port}"]
        node = subprocess.Popen(
            [BIN / "ray", "start", *where, f"--num-cpus={cpus}", f"--num-gpus={gpus}", "--block"]
            + ["--include-dashboard=false"] * (not self.nodes)
            + ["--object-store-memory=80000000", "--disable-usage-stats"],
            env=self.environment()
            | {"RAY_AUTH_MODE": "token" if self.token else "disabled"}
            | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.nodes.append(node)
        assert node.stdout is not None
        said = ""
        for line in node.stdout:
            said += line
            if "block forever" in line:
                return node
        raise RuntimeError(said)

    def kill(self, node: Node, program: str = "raylet") -> None:
        """Kill the processes of a node that have this name; its others end by themselves."""
        for pid, name in session_of(node.pid).items():
            if name.startswith(program):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Kill all that is left of all nodes."""
        for node in reversed(self.nodes):
            for pid in session_of(node.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            node.kill()
            node.communicate()
