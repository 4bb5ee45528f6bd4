"""What a cluster has room for, and what is said where it has not. One local Ray for the file."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.chaos.ports import free_port
from ckconv_sweep.errors import ConfigError, ResourcesMissing
from ckconv_sweep.execution import cluster, local_ray
from ckconv_sweep.execution.cluster import Placement

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


def test_an_address_where_no_ray_answers_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ConfigError) as refused, cluster.connected(Placement(address=address)):
        pass
    assert address in str(refused.value)
    assert refused.value.where == "--address"


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1:no", "127.0.0.1:70000", "[::1]:1", ":1"]
)
def test_an_address_that_is_none_is_refused_too(address: str) -> None:
    with pytest.raises(ConfigError) as refused, cluster.connected(Placement(address=address)):
        pass
    assert refused.value.where == "--address"
    assert address in str(refused.value)


@pytest.fixture
def last_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `ray start` would note its cluster; no other cluster of this machine is seen."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


def refused_auto() -> ConfigError:
    with pytest.raises(ConfigError) as refused, cluster.connected(Placement(address="auto")):
        pass
    assert refused.value.where == "--address"
    return refused.value


def test_auto_where_no_cluster_was_ever_started_is_refused(last_started: Path) -> None:
    assert not last_started.exists()
    assert "no Ray cluster answers at auto" in refused_auto().message


def test_auto_does_not_wait_for_a_cluster_that_has_ended(last_started: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    last_started.write_text(address)
    assert f"{address}, which `auto` means here" in refused_auto().message


def test_auto_follows_the_environment_and_says_where_it_led(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert f"{address}, which `auto` means here" in refused_auto().message


OWN_RAY = """
import os, sys
from ckconv_sweep.execution import cluster
with cluster.connected(cluster.Placement()):
    import ray
    names = "MALLOC_ARENA_MAX", "CKCONV_KEEP_PAGES", "CKCONV_CUDA_GRAPHS"
    seen = ray.remote(lambda: [os.environ.get(name) for name in names])
    print("up at", cluster.Head().address, *ray.get(seen.remote()), flush=True)
    sys.stdin.readline()
"""


@dataclass(frozen=True)
class OwnRay:
    """A Ray that a driver has started with certain switches."""

    pid: int
    address: str
    token: Path
    begun_with: list[str]
    """What its workers have of MALLOC_ARENA_MAX, CKCONV_KEEP_PAGES and CKCONV_CUDA_GRAPHS."""
    expected: list[str]


@pytest.fixture(
    scope="module",
    params=[
        (None, {"CKCONV_CUDA_GRAPHS": "1"}, ["1", "None", "1"]),
        (0o644, {"CKCONV_KEEP_PAGES": "0"}, ["None", "0", "None"]),
    ],
    ids=["no token yet", "a token all can read"],
)
def own_ray(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnRay]:
    before, switches, expected = request.param
    home = tmp_path_factory.mktemp("home")
    token = home / ".ray" / "auth_token"
    if before is not None:
        token.parent.mkdir()
        token.write_text("ab" * 32)
        token.chmod(before)
    kept = {k: v for k, v in os.environ.items() if k != "MALLOC_ARENA_MAX"}
    ours = subprocess.Popen(
        [sys.executable, "-c", OWN_RAY],
        env=kept | switches | {"HOME": str(home), "RAY_AUTH_MODE": "disabled"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        umask=0o022,
        start_new_session=True,
    )
    try:
        assert ours.stdout is not None
        up, at, address, *begun_with = ours.stdout.readline().split()
        assert (up, at) == ("up", "at")
        yield OwnRay(ours.pid, address, token, begun_with, expected)
        ours.communicate("end\n", timeout=30)
    finally:
        ours.kill()
    assert ours.returncode == 0


def ports_of_session(session: int) -> set[int]:
    """The TCP ports on which the processes of a session listen."""
    inodes, ports = set(), set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[3] == str(session):
                links = [os.readlink(link) for link in (stat.parent / "fd").iterdir()]
                inodes |= {found[1] for x in links if (found := re.match(r"socket:\[(\d+)", x))}
    for table in ("tcp", "tcp6"):
        for line in (Path("/proc/net") / table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def answer_to_http(host: str, port: int, path: str) -> bytes:
    """Nothing where it listens on another address."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, port), timeout=2) as connection,
    ):
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return connection.recv(200)
    return b""


@pytest.mark.fault("ray-token")
def test_a_ray_of_our_own_asks_for_a_token_that_only_the_owner_can_read(own_ray: OwnRay) -> None:
    assert own_ray.token.stat().st_mode & 0o777 == 0o600
    assert cluster._knock(own_ray.address, "disabled") == cluster._REFUSED
    ports = ports_of_session(own_ray.pid)
    host, _, port_of_head = own_ray.address.rpartition(":")
    assert int(port_of_head) in ports
    assert answer_to_http(host, int(port_of_head), "/")  # it is asked in the right place
    assert 8265 not in ports  # the dashboard's
    for port in ports:
        for asked in itertools.product((host, "127.0.0.1"), (port,), ("/api/jobs/", "/")):
            assert not re.match(rb"HTTP/1.. [23]", answer_to_http(*asked)), asked


def test_a_worker_begins_with_the_drivers_switches_and_one_arena_unless_pages_are_given_back(
    own_ray: OwnRay,
) -> None:
    assert own_ray.begun_with == own_ray.expected


def test_a_token_of_somebody_else_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "auth_token"
    path.write_text("theirs")
    path.chmod(0o640)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    local_ray._only_for_owner(path)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.fault("cluster-lost")
def test_a_head_is_lost_when_it_has_not_answered_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    head = cluster.Head.__new__(cluster.Head)
    head._silent_since = None
    with socket.create_server(("127.0.0.1", 0)) as server:
        head.address = f"127.0.0.1:{server.getsockname()[1]}"
        assert not head.is_lost()
    assert not head.is_lost()
    now[0] += cluster.SILENCE_SECONDS - 1
    assert not head.is_lost()
    now[0] += 1
    assert head.is_lost()


@pytest.mark.usefixtures("ray_of_two")
@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (Placement(), 2),
        (Placement(cpus_per_trial=2.0), 1),
        (Placement(cpus_per_trial=0.5), 4),
        (Placement(cpus_per_trial=0.1), 20),
        (Placement(concurrency=1), 1),
        (Placement(concurrency=9), 2),
    ],
)
def test_as_many_trials_run_as_there_is_room_for_and_no_more_than_asked(
    placement: Placement, expected: int
) -> None:
    assert cluster.at_a_time(placement) == expected


@pytest.mark.usefixtures("ray_of_two")
@pytest.mark.parametrize(
    ("placement", "option", "asked"),
    [
        (Placement(gpus_per_trial=1.0), "--gpus-per-trial", "1 CPUs and 1 GPUs"),
        (Placement(gpus_per_trial=0.25), "--gpus-per-trial", "1 CPUs and 0.25 GPUs"),
        (Placement(cpus_per_trial=3.0), "--cpus-per-trial", "3 CPUs and 0 GPUs"),
    ],
)
def test_what_no_node_has_is_refused_with_what_the_cluster_has(
    placement: Placement, option: str, asked: str
) -> None:
    with pytest.raises(ResourcesMissing) as refused:
        cluster.check_room(placement, {})
    assert refused.value.where == option
    assert asked in refused.value.message
    assert refused.value.hint == "the cluster has 1 node: 2 CPUs and 0 GPUs"


@pytest.mark.parametrize(
    ("placement", "where"),
    [
        (Placement(address="ray://head:10001"), "--address"),
        (Placement(gpus_per_trial=1.5), "--gpus-per-trial"),
    ],
)
def test_a_placement_that_no_cluster_could_give_is_refused_before_any_is_asked(
    placement: Placement, where: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        placement.check()
    assert refused.value.where == where


def test_gpus_may_be_shared_or_whole() -> None:
    for gpus in (0.0, 0.25, 1.0, 2.0):
        Placement(gpus_per_trial=gpus).check()
