"""Several hosts on one machine: each has a network, mounts, processes and a host name of its own.

A host is a process that holds its namespaces. Everything that runs there ends with it, so that
killing that one process is a power failure, and nothing needs to be cleaned up by name; it ends by
itself if the tests are killed. The hosts hang on a bridge in a network namespace of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

NETWORK = "10.77.0"
OWN = ("--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
"""The namespaces of a host, for `unshare`."""


def why_not() -> str:
    """Why there can be no such hosts here; empty where there can."""
    missing = [tool for tool in ("unshare", "nsenter", "ip") if shutil.which(tool) is None]
    if missing:
        return f"needs {' and '.join(missing)} (util-linux, iproute2)"
    tried = ["unshare", *OWN, "ip", "link", "add", "ckcl0", "type", "bridge"]
    done = subprocess.run(tried, capture_output=True, text=True)
    return f"needs network namespaces, as root: {done.stderr.strip()}" if done.returncode else ""


@dataclass
class Host:
    """One that is up, or was. `folder` is its home, and has its logs and Ray's files."""

    name: str
    address: str
    holder: subprocess.Popen[bytes]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    """Of everything that runs there."""
    programs: list[subprocess.Popen[str]] = field(default_factory=list)

    def inside(self, *command: str | Path) -> list[str]:
        """The command that runs a command there."""
        enter = ["nsenter", "--target", str(self._init), "--net", "--mount", "--uts", "--pid"]
        return [*enter, f"--wdns={self.folder}", *map(str, command)]

    def start(self, *command: str | Path, log: Path | None = None) -> subprocess.Popen[str]:
        """A program of this host. Its output can be read from it, or goes to a file."""
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(log.open("a")) if log else subprocess.PIPE
            program = subprocess.Popen(
                self.inside(*command),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT if log else subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        self.programs.append(program)
        return program

    def run(self, *command: str | Path) -> str:
        """Wait for a program of this host. Raises RuntimeError, with what it said, if it fails."""
        done = subprocess.run(
            self.inside(*command), env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def fail(self) -> None:
        """As when its power is cut."""
        self.holder.kill()
        self.holder.communicate()
        for program in self.programs:
            program.communicate()

    @property
    def _init(self) -> int:
        """The first process of its namespaces, a child of `holder`."""
        return int(Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text())


@dataclass
class Network:
    """The bridge and what hangs on it. `folder` takes the hosts' folders."""

    folder: Path
    switch: subprocess.Popen[bytes]
    hosts: list[Host] = field(default_factory=list)

    def add(self, environment: dict[str, str], *mounts: str) -> Host:
        """A host more, with the next address.

        Args:
            environment: of its programs; a home of its own is added.
            mounts: shell commands that change its mounts before anything runs there.
        """
        number = len(self.hosts) + 1
        folder = self.folder / f"n{number}"
        folder.mkdir()
        own = {"HOME": str(folder), "RAY_TMPDIR": str(folder), "TMPDIR": str(folder)}
        address = f"{NETWORK}.{number}"
        host = Host(f"node{number}", address, _held(*OWN), folder, environment | own)
        self.hosts.append(host)
        plug = f"p{number}"
        _in(self.switch, f"ip link add {plug} type veth peer name e0 netns {host._init}")
        _in(self.switch, f"ip link set {plug} master br0 && ip link set {plug} up")
        host.run("ip", "addr", "add", f"{host.address}/24", "dev", "e0")
        for device in ("e0", "lo"):
            host.run("ip", "link", "set", device, "up")
        host.run("hostname", host.name)
        for mount in mounts:
            host.run("sh", "-c", mount)
        return host

    def end(self) -> None:
        """All hosts, with all that runs there."""
        for host in self.hosts:
            host.fail()
        self.switch.kill()
        self.switch.communicate()


def _held(*namespaces: str) -> subprocess.Popen[bytes]:
    """A process that holds new namespaces until it is killed, or its standard input is closed."""
    command = ["unshare", *namespaces, "sh", "-c", "echo; exec cat"]
    pipe = subprocess.PIPE
    holder = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    return holder


def _in(switch: subprocess.Popen[bytes], command: str) -> None:
    enter = ["nsenter", "--target", str(switch.pid), "--net"]
    subprocess.run([*enter, "sh", "-c", command], check=True, env=os.environ)


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """A network without hosts, ended with all that will be on it."""
    made = Network(folder, _held("--net"))
    try:
        _in(made.switch, "ip link add br0 type bridge && ip link set br0 up")
        yield made
    finally:
        made.end()
