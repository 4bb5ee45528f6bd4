"""`ui`: MLflow's pages, for this machine and its own pages only, and nothing of it stays behind."""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.chaos.ports import free_port
from ckconv_sweep.record.folder import SweepFolder

from .commands import PROGRAM, ckconv_sweep, copied, environment
from .test_signals import family, processes

pytestmark = [
    pytest.mark.fault("ui-loopback"),
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="asks /proc"),
]

OPEN_TO_ALL = {
    "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "*",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true",
    "MLFLOW_UVICORN_OPTS": "--host 0.0.0.0",
    "MLFLOW_HOST": "0.0.0.0",
    "UVICORN_HOST": "0.0.0.0",
}
"""What a user may have set for another server."""


@dataclass
class Pages:
    """A running `ui`."""

    process: subprocess.Popen[str]
    port: int

    def ask(self, method: str, path: str, **headers: str) -> int:
        """The status of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, "{}" if method == "POST" else None, headers)
            with connection.getresponse() as answer:
                return answer.status

    def end(self) -> None:
        """With all that it started."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)


def started(here: Path, **more: str) -> Pages:
    port = free_port()
    process = subprocess.Popen(
        [PROGRAM, "ui", "--port", str(port)],
        cwd=here,
        env=environment(**more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    pages, deadline = Pages(process, port), time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            assert process.poll() is None, "it ended too early"
            try:
                assert pages.ask("GET", "/health") == 200
                return pages
            except OSError:
                time.sleep(0.1)
        raise AssertionError("it did not start")
    except BaseException:
        pages.end()
        raise


@pytest.fixture(scope="module")
def pages(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    here = tmp_path_factory.mktemp("ui")
    copied(finished / "sweeps", here / "sweeps")
    running = started(here, **OPEN_TO_ALL)
    try:
        yield running
    finally:
        running.end()


def test_the_pages_listen_on_loopback_only_whatever_the_user_set_for_another_server(
    pages: Pages,
) -> None:
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            host, _, port = address.partition(":")
            if state == "0A" and int(port, 16) == pages.port:
                listening.append(host)
    assert listening == ["0100007F"]


def test_a_foreign_host_or_origin_is_refused(pages: Pages) -> None:
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert pages.ask("GET", search) == 200
    assert pages.ask("GET", search, Host="evil.example.com") == 403
    create = "/api/2.0/mlflow/experiments/create"
    as_json = {"Content-Type": "application/json"}
    assert pages.ask("POST", create, Origin="http://evil.example.com", **as_json) == 403


def test_the_server_has_one_worker_and_no_job_runner(pages: Pages) -> None:
    commands = [
        Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        for pid, _ in family(pages.process.pid)
    ]
    assert len(commands) <= 4, commands  # ours, MLflow's, uvicorn's, its worker
    assert not [c for c in commands if "huey" in c or "jobs" in c or "0.0.0.0" in c]


@pytest.mark.fault("telemetry")
def test_the_server_reports_home_to_nobody_and_unpickles_nothing(pages: Pages) -> None:
    servers = [pid for pid, _ in family(pages.process.pid) if pid != pages.process.pid]
    assert servers
    for pid in servers:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert b"MLFLOW_DISABLE_TELEMETRY=true" in variables
        assert b"MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false" in variables


@pytest.mark.parametrize(
    ("number", "whose"),
    [
        (signal.SIGINT, "ours"),
        pytest.param(signal.SIGKILL, "ours", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, "MLflow's", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "ours", marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, "ours", marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_however_it_ends_no_process_of_it_is_left(
    number: signal.Signals, whose: str, finished: Path, tmp_path: Path
) -> None:
    copied(finished / "sweeps", tmp_path / "sweeps")
    pages = started(tmp_path)
    ours = pages.process.pid
    all_of_it = family(ours)
    assert len(all_of_it) >= 3
    try:
        if whose == "ours":
            pages.process.send_signal(number)
        else:
            alive = processes()
            (child,) = [key[0] for key, (parent, _) in alive.items() if parent == ours]
            subprocess.run(["kill", f"-{number.value}", str(child)], check=True)
        code = pages.process.wait(timeout=15)
        deadline = time.monotonic() + 10
        while (left := all_of_it & processes().keys()) and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        pages.process.kill()
    assert left == set()
    if number is not signal.SIGKILL:
        assert code == 128 + number


def opened_by(command: list[str], here: Path, **more: str) -> tuple[list[str], list[str], int]:
    """What `ui` printed, and which pages its browser was given, up to the moment when it was; then
    Ctrl-C. The browser is one that never returns."""
    browser = here / "browser"
    browser.write_text('#!/bin/sh\necho "$1" >> opened\nexec sleep 20 > /dev/null 2>&1\n')
    browser.chmod(0o700)
    process = subprocess.Popen(
        [PROGRAM, "ui", *command],
        cwd=here,
        env=environment(BROWSER=f"{browser} %s", **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.strip())
            if line.startswith("table:"):
                break
        deadline = time.monotonic() + (2 if "--no-open" in command else 30)
        while not (here / "opened").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
    assert complaint in ("", "stopped by SIGINT\n")  # by MLflow's server, by us
    pages = (here / "opened").read_text().splitlines() if (here / "opened").exists() else []
    return said, pages, process.returncode


@pytest.mark.parametrize("no_open", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_when_it_answers_the_addresses_are_printed_and_the_charts_opened(
    no_open: bool, finished: Path, tmp_path: Path
) -> None:
    copied(finished / "sweeps", tmp_path / "sweeps")
    command = ["small", "--port", str(port := free_port()), *["--no-open"] * no_open]
    said, pages, code = opened_by(command, tmp_path)
    assert said[0] == "MLflow is starting, for this machine only; end it with Ctrl-C"
    charts, table = (line.split()[-1] for line in said[1:])
    assert table.startswith(f"http://127.0.0.1:{port}/#/experiments/")
    assert "?workflowType=machine_learning&viewStateShareKey=sweep-" in table
    assert charts == f"{table}&compareRunsMode=CHART"
    assert pages == ([] if no_open else [charts])
    assert code == 130


def test_the_pages_of_a_sweep_on_a_server_are_opened_there_and_no_server_is_started(
    finished: Path, tmp_path: Path
) -> None:
    copied(finished / "sweeps", tmp_path / "sweeps")
    with SweepFolder.existing(tmp_path / "sweeps", "small").records.open() as study:
        kept = study.note("mlflow") | {"uri": "https://me:***@mlflow.example.org/team/"}
        study.set_note("mlflow", kept)
    said, pages, code = opened_by(["small"], tmp_path)
    page = f"https://mlflow.example.org/team/#/experiments/{kept['experiment_id']}/runs?"
    assert [line.split()[0] for line in said] == ["charts:", "table:"]
    assert all(line.split()[-1].startswith(page) for line in said)
    assert pages == [said[0].split()[-1]]
    assert code in (0, 130)


@pytest.mark.slow
def test_before_mlflow_has_heard_of_a_sweep_its_first_page_is_named(
    finished: Path, tmp_path: Path
) -> None:
    copied(finished / "sweeps", tmp_path / "sweeps")
    with SweepFolder.existing(tmp_path / "sweeps", "small").records.open() as study:
        study.set_note("mlflow", {})  # as before MLflow has answered
    process = subprocess.Popen(
        [PROGRAM, "ui", "small", "--port", str(port := free_port())],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline().strip() for _ in range(2)]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert said[1] == f"MLflow: http://127.0.0.1:{port}/?workflowType=machine_learning"


def test_a_server_that_ends_by_itself_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mlflow.db").write_text("no database")
    done = ckconv_sweep("ui", "--port", free_port(), cwd=tmp_path)
    assert done.returncode == 75
    assert "MLflow's server ended by itself (exit code 1)" in done.stderr
    assert "file is not a database" in done.stderr
    assert "Traceback" not in done.stderr
