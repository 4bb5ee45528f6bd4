"""A Ray of our own: where its files lie, what is heard while it starts, what is left of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.errors import ClusterLost, ConfigError
from ckconv_sweep.execution import local_ray, ray_log

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

REPOSITORY = Path(__file__).parents[2]
ODD = {
    "PYTHONOPTIMIZE": "1",
    "PYTHONWARNINGS": "error",
    "MLFLOW_TRACKING_URI": "http://me:S3CRET@h",
}
OWN_RAY = """
import os, sys
from pathlib import Path
from ckconv_sweep.execution import cluster
with cluster.connected(cluster.Placement(), Path(sys.argv[1])):
    import ray

    @ray.remote
    def look():
        import numpy, os
        here = sorted({"MLFLOW_TRACKING_URI", "PYTHONWARNINGS", "PYTHONPATH"} & os.environ.keys())
        return numpy.__name__, os.nice(0), here

    print(ray._private.worker._global_node.get_temp_dir_path(), flush=True)
    print(*ray.get(look.remote()), Path.cwd(), "MLFLOW_TRACKING_URI" in os.environ, flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def own_ray(here: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A program that has started a Ray and waits for a line, and where that Ray lies; the path of
    its temporary files is longer than the name of a socket may be."""
    temporary = here / ("t" * 90)
    temporary.mkdir()
    (here / "numpy.py").write_text("raise RuntimeError('of the user')")
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", OWN_RAY, str(here / "ray.log")],
        cwd=here,
        env={**os.environ, **ODD} | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        umask=0,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()


def running_in(folder: Path) -> set[int]:
    """The processes with a folder in their command line."""
    out = set()
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(f"{folder}/") in line.read_bytes():
                out.add(int(line.parent.name))
        except OSError:  # it has ended
            pass
    return out


def kinds_in(folder: Path) -> set[str]:
    """The names of the programs and scripts that run there."""
    parts = set()
    for pid in running_in(folder):
        with contextlib.suppress(OSError):
            parts |= {Path(p).name for p in Path(f"/proc/{pid}/cmdline").read_text().split("\0")}
    return parts


@pytest.mark.fault("ray-folder")
@pytest.mark.fault("odd-surroundings")
def test_it_lies_in_a_folder_that_only_the_owner_can_enter_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    with own_ray(tmp_path) as (process, folder):
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        assert folder.parent.stat().st_uid == os.geteuid()
        assert "raylet" in (kinds := kinds_in(folder))
        assert not kinds & {"dashboard.py", "monitor.py", "log_monitor.py"}  # nobody needs them
        # Its workers see neither the user's folder nor what is not for them.
        said, complaint = process.communicate("end\n", timeout=60)
    assert said == f"numpy {os.nice(0)} ['PYTHONPATH'] {tmp_path} True\n", complaint
    assert process.returncode == 0
    assert not folder.parent.exists()
    assert not running_in(folder)
    assert not (tmp_path / "ray.log").exists()  # it wrote nothing


@pytest.mark.fault("ray-folder")
def test_the_next_start_ends_and_deletes_what_a_killed_driver_left(tmp_path: Path) -> None:
    with own_ray(tmp_path) as (_, folder):
        local_ray._delete_leftovers(folder.parents[1])
        assert folder.exists()  # its driver lives
    assert folder.exists()
    local_ray._delete_leftovers(folder.parents[1])
    assert not folder.parent.exists()
    deadline = time.monotonic() + 10
    while (left := running_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


@pytest.mark.fault("ray-folder")
def test_a_link_that_somebody_put_among_the_leftovers_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_text("kept")
    (tmp_path / "ckconv-link").symlink_to(tmp_path / "mine")
    local_ray._delete_leftovers(tmp_path)
    assert (tmp_path / "mine" / "kept").read_text() == "kept"


@pytest.mark.fault("ray-folder")
def test_a_folder_of_the_user_whose_name_begins_alike_is_no_leftover(tmp_path: Path) -> None:
    (tmp_path / "ckconv-results").mkdir()
    (tmp_path / "ckconv-results" / "kept").write_text("kept")
    (tmp_path / "ckconv-abcdefgh" / "ray1" / "session").mkdir(parents=True)
    local_ray._delete_leftovers(tmp_path)
    assert (tmp_path / "ckconv-results" / "kept").read_text() == "kept"
    assert not (tmp_path / "ckconv-abcdefgh").exists()


@pytest.mark.fault("ray-folder")
def test_a_new_folder_that_another_driver_took_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def after_another(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        local_ray._delete_leftovers(tmp_path)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", after_another)
    folder, descriptor = local_ray._locked_folder(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    local_ray._delete_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [folder]
    os.close(descriptor)


@pytest.mark.fault("ray-does-not-start")
def test_without_a_short_writable_folder_the_message_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="at most 20 bytes") as refused:
        local_ray._place()
    assert refused.value.where == "TMPDIR"


@pytest.mark.fault("disk-full")
def test_a_full_disk_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_ray, "_LONGEST_PLACE", len(str(tmp_path)))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert local_ray._place() == tmp_path
    real, usage = shutil.disk_usage, shutil.disk_usage(tmp_path)
    full = usage._replace(free=local_ray._SESSION_BYTES - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda p: full if p == tmp_path else real(p))
    assert local_ray._place() != tmp_path
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(ConfigError, match="with 8 MiB free and a path of at most"):
        local_ray._place()


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `ray.init` does at each call: raise an error, wait long (None), or succeed (True)."""
    import ray

    todo: list[Any] = []

    def init(**_: Any) -> None:
        does = todo.pop(0)
        if does is None:
            time.sleep(60)
        if isinstance(does, BaseException):
            raise does

    # The start of a local Ray takes it away, which later tests of this process must not see.
    monkeypatch.setenv("RAY_AUTH_MODE", os.environ.get("RAY_AUTH_MODE", "token"))
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(local_ray, "dead_processes", list)
    return todo


SLOW = Exception("The current node timed out during startup.\nand so on")


@pytest.mark.fault("ray-does-not-start")
def test_a_start_that_was_too_slow_is_tried_once_more(starts: list[Any]) -> None:
    for failure in (SLOW, SystemExit(1)):
        starts += [failure, True]
        with local_ray.started(lambda: None):
            assert starts == []


@pytest.mark.fault("ray-does-not-start")
def test_a_second_failure_is_one_message_and_may_be_tried_later(starts: list[Any]) -> None:
    starts += [SLOW, SLOW, True]
    with pytest.raises(ClusterLost) as refused, local_ray.started(lambda: None):
        pass
    assert refused.value.exit_code == 75
    assert str(refused.value).startswith(
        "Ray: it could not be started on this machine: The current node timed out during startup."
    )
    assert "run the same command again later" in str(refused.value)
    assert starts == [True]


@pytest.mark.fault("ray-does-not-start")
def test_a_setting_that_ray_refuses_is_no_matter_of_time(starts: list[Any]) -> None:
    starts += [ValueError("port 99999 is none")] * 2
    with pytest.raises(ConfigError, match="port 99999 is none"), local_ray.started(lambda: None):
        pass


@pytest.mark.fault("ray-does-not-start")
def test_a_signal_is_heard_while_it_starts(starts: list[Any]) -> None:
    class Came(Exception):
        pass

    def check() -> None:
        if time.monotonic() > began + 0.5:
            raise Came

    starts += [None]
    began = time.monotonic()
    with pytest.raises(Came), local_ray.started(check):
        pass
    assert time.monotonic() - began < 30  # it would have waited for a minute


@pytest.mark.fault("odd-surroundings")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_without_a_loopback_network_the_message_comes_before_ray() -> None:
    program = "from ckconv_sweep.execution import local_ray as l; l._check_loopback()"
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", program], capture_output=True, text=True
    )
    if "unshare failed" in done.stderr:
        pytest.skip("this machine lets nobody have a network namespace")
    assert "this machine cannot reach itself at 127.0.0.1" in done.stderr


@pytest.mark.fault("ray-dies")
def test_what_ray_and_its_libraries_write_goes_to_a_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from ray._private import worker

    before = worker.print_to_stdstream
    with ray_log.kept(tmp_path / "ray.log"):
        os.write(2, b"rpc_client.h: Failed to connect\n")
        worker.print_to_stdstream({"lines": ["Raylet is terminated."], "is_err": False})
        os.write(1, b"our own line\n")
    assert worker.print_to_stdstream is before
    assert capfd.readouterr() == ("our own line\n", "")
    wrote = (tmp_path / "ray.log").read_text()
    assert wrote == "rpc_client.h: Failed to connect\nRaylet is terminated.\n"
    assert (tmp_path / "ray.log").stat().st_mode & 0o777 == 0o600
