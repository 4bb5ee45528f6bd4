"""A password in an address is found nowhere afterwards: no file, database, log, output, process
list. Also where the server cannot be reached, hangs or refuses."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.mlflow_real import Server

from .commands import PROGRAM, ckconv_sweep, copied, environment
from .test_signals import family

pytestmark = pytest.mark.fault("secrets")

CANARY = "S3CR3T"
NOBODY = f"http://me:{CANARY}-uri@127.0.0.1:1"
IN_THE_ENVIRONMENT = {
    "https_proxy": f"http://me:{CANARY}-proxy@127.0.0.1:1",
    "all_proxy": f"http://me:{CANARY}-proxy@127.0.0.1:1",
    "MLFLOW_TRACKING_USERNAME": "me",
    "MLFLOW_TRACKING_PASSWORD": f"{CANARY}-basic",
}


def traces(folder: Path) -> list[str]:
    """Files below a folder that hold the canary, or are named after it."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if CANARY in path.name or (path.is_file() and CANARY.encode() in path.read_bytes())
    ]


class Refusing(BaseHTTPRequestHandler):
    """A server that knows nobody."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.end_headers()
        self.wfile.write(b'{"error_code": "PERMISSION_DENIED", "message": "no"}')

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:{CANARY}-uri@127.0.0.1:{server.server_port}"
        server.shutdown()


ADDRESSES = {
    "nobody there": NOBODY,
    "refusing": "",
    "unknown kind": f"ftp://me:{CANARY}-uri@host/x",
    "no address": f"http://me:{CANARY}-uri@[::1",
    "an unreachable database": f"postgresql://me:{CANARY}-uri@127.0.0.1:1/mlflow",
}


@pytest.mark.parametrize("given", ["environment", pytest.param("option", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "address",
    [
        name if name == "nobody there" else pytest.param(name, marks=pytest.mark.slow)
        for name in ADDRESSES
    ],
)
def test_one_trial_leaves_no_trace_of_a_password(
    address: str, given: str, refusing: str, here: Path
) -> None:
    uri = ADDRESSES[address] or refusing
    option = ["--tracking-uri", uri] if given == "option" else []
    more = IN_THE_ENVIRONMENT | ({} if option else {"MLFLOW_TRACKING_URI": uri})
    command = ["train", "trial.yaml", "--set", "training.epochs=1"]
    done = ckconv_sweep(*command, *option, cwd=here, **more)
    assert done.returncode == 0, done.stderr
    assert "not delivered to MLflow" in done.stdout
    strict = ckconv_sweep(*command, "--require-tracking", *option, cwd=here, **more)
    assert strict.returncode == 75
    assert "MLflow does not answer" in strict.stderr
    assert CANARY not in done.stdout + done.stderr + strict.stdout + strict.stderr
    assert traces(here) == []


def test_a_delivery_that_fails_leaves_no_trace_of_a_password(finished: Path, here: Path) -> None:
    copied(finished / "sweeps", here / "sweeps")
    done = ckconv_sweep("sync", "small", "--tracking-uri", NOBODY, cwd=here, **IN_THE_ENVIRONMENT)
    assert done.returncode == 75
    assert CANARY not in done.stdout + done.stderr
    shown = ckconv_sweep("launch", "small.yaml", "--tracking-uri", NOBODY, cwd=here)
    assert "compare all trials in MLflow:  http://me:***@127.0.0.1:1" in shown.stdout
    assert CANARY not in shown.stdout + shown.stderr
    assert traces(here) == []


def test_a_download_through_a_proxy_leaves_no_trace_of_its_password(here: Path) -> None:
    (here / "trial.yaml").write_text("data: {name: smnist}\nmodel: {hidden_channels: 4}\n")
    done = ckconv_sweep(
        *("train", "trial.yaml", "--data-dir", "data"), cwd=here, **IN_THE_ENVIRONMENT, no_proxy=""
    )
    assert done.returncode == 2
    assert CANARY not in done.stdout + done.stderr
    assert traces(here) == []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.fault("telemetry")
@pytest.mark.parametrize("case", ["by an option, to nobody", "by the environment, to a server"])
def test_a_real_sweep_leaves_no_trace_of_a_password_and_reports_home_to_nobody(
    case: str, here: Path
) -> None:
    server = Server(here / "server")
    server.folder.mkdir()
    short = Path(tempfile.mkdtemp(prefix="ck-"))  # Ray's sockets lie there: a path of < 108 letters
    command, more = [PROGRAM, "launch", "small.yaml", "--trials", "2"], IN_THE_ENVIRONMENT | {}
    try:
        if "option" in case:
            command += ["--tracking-uri", NOBODY]
        else:
            server.start()
            more["no_proxy"] = "127.0.0.1"
            more["MLFLOW_TRACKING_URI"] = server.uri.replace("//", f"//me:{CANARY}-uri@")
        ours = environment(**more, RAY_TMPDIR=str(short))
        for name in ("RAY_USAGE_STATS_ENABLED", "MLFLOW_DISABLE_TELEMETRY"):
            ours.pop(name, None)  # the tests' own
        with (here / "said").open("w") as said:
            process = subprocess.Popen(
                command, cwd=here, env=ours, stdout=said, stderr=said, start_new_session=True
            )
        try:
            commands, variables, written = watch(process, short)
        finally:
            process.kill()
            process.wait()
        text = (here / "said").read_text()
        assert process.returncode == 0, text
        assert ("not delivered to MLflow" in text) == ("option" in case)
        assert traces(here) == []
        assert written["traces"] == set()
        assert any(name.startswith("gcs_server") for name in written["logs"])  # it did write there
        assert list(short.iterdir()) == []
        assert len(commands) > 3
        assert [c for c in commands if CANARY.encode() in c] == []
        for name in ("RAY_USAGE_STATS_ENABLED=0", "MLFLOW_DISABLE_TELEMETRY=true"):
            assert [c for c, found in variables if name.encode() not in found] == []
    finally:
        server.kill()
        shutil.rmtree(short, ignore_errors=True)


def watch(
    process: subprocess.Popen[bytes], rays: Path
) -> tuple[set[bytes], list[tuple[bytes, list[bytes]]], dict[str, set[str]]]:
    """Until the driver has ended: the command lines that other processes than it showed, as in
    `ps`; each of Ray's with its variables; and the names of Ray's logs and of what it wrote with a
    trace of the password, in a folder that is deleted at the end."""
    written: dict[str, set[str]] = {"logs": set(), "traces": set()}
    commands: set[bytes] = set()
    variables: dict[int, tuple[bytes, list[bytes]]] = {}
    deadline = time.monotonic() + 200
    while process.poll() is None:
        assert time.monotonic() < deadline
        for pid, _ in family(process.pid):
            if pid == process.pid:  # what its user typed
                continue
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            commands.add(line)
            # Without one it has not begun, or has written its title over its variables.
            if b"/ray/" in line and any(v.startswith(b"RAY_TMPDIR=") for v in found):
                variables[pid] = line[:200], found
        with contextlib.suppress(OSError):  # files come and go
            written["logs"] |= {path.name for path in rays.rglob("*.out")}
            written["traces"] |= set(map(str, traces(rays)))
        time.sleep(0.2)
    assert variables
    return commands, list(variables.values()), written
