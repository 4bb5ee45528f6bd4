"""The program in forks of one process that has imported what its commands import.

A fork has arguments, an environment, a folder and an output of its own, and ends as any Python
does. What it saves is the seconds of importing PyTorch, MLflow and Optuna, command after command.
Ray is not imported before the fork; where a command is given WITHOUT_RAY, threads are in its place
(`benchmarks.chaos.driver`).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

WITHOUT_RAY = "TEST_WITHOUT_RAY"
IMPORTED = (
    "alembic.command",  # by MLflow, where a database is opened
    "benchmarks.chaos.driver",
    "ckconv_sweep.cli",
    "ckconv_sweep.cli.feasible",
    "ckconv_sweep.cli.hooks",
    "ckconv_sweep.cli.pages",
    "ckconv_sweep.cli.progress",
    "ckconv_sweep.cli.result",
    "ckconv_sweep.cli.evaluate",
    "ckconv_sweep.cli.train",
    "ckconv_sweep.data.digits",
    "ckconv_sweep.doctor",
    "ckconv_sweep.models.blocks",
    "ckconv_sweep.models.ckcnn",
    "ckconv_sweep.models.kernel_nets.mlp",
    "ckconv_sweep.models.parameters",
    "ckconv_sweep.report.advice",
    "ckconv_sweep.report.plots.fitted_kernels",
    "ckconv_sweep.report.page",
    "ckconv_sweep.sweep.driver",
    "ckconv_sweep.sweep.single",
    "ckconv_sweep.tracking.store",
    "ckconv_sweep.training.allocator",
    "ckconv_sweep.training.weights",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "pyarrow.pandas_compat",  # by pandas
    "sqlalchemy.dialects.sqlite",
    "torch._dynamo",  # by the first optimiser
)


def run(
    arguments: Sequence[str], cwd: Path, environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` answers of a command that ends, with `umask=0` and without input."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as complaint:
        asked = json.dumps([arguments, str(cwd), environment]).encode()
        server = _server()
        server.settimeout(timeout)
        socket.send_fds(server, [len(asked).to_bytes(8)], [out.fileno(), complaint.fileno()])
        server.sendall(asked)
        pid = _number(server)
        try:
            code = _number(server)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            server.settimeout(None)
            _number(server)
            raise subprocess.TimeoutExpired(list(arguments), timeout) from None
        said = []
        for file in (out, complaint):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess(list(arguments), code, *said)


@cache
def _server() -> socket.socket:
    """Ends when this process does, because nobody asks it any more."""
    ours, its = socket.socketpair()
    with its, warnings.catch_warnings(action="ignore"):  # of a process that nobody waits for
        subprocess.Popen(
            [sys.executable, __file__, str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if not k.startswith(("CKCONV_", "MLFLOW_"))},
        )
    atexit.register(ours.close)
    return ours


def _number(asker: socket.socket) -> int:
    answer = asker.recv(8, socket.MSG_WAITALL)
    assert len(answer) == 8, "the process that forks has ended"
    return int.from_bytes(answer, signed=True)


def _serve(asker: socket.socket, own: dict[str, str]) -> None:
    """Fork for each request; returns in the forks. `own`: variables that the imports have set."""
    while True:
        size, descriptors, *_ = socket.recv_fds(asker, 8, 2)
        if not size:
            sys.exit()
        asked = asker.recv(int.from_bytes(size), socket.MSG_WAITALL)
        if (pid := os.fork()) == 0:
            asker.close()
            arguments, cwd, environment = json.loads(asked)
            _become(arguments, cwd, own | environment, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        asker.sendall(pid.to_bytes(8, signed=True))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        asker.sendall(code.to_bytes(8, signed=True))


def _become(
    arguments: list[str], cwd: str, environment: dict[str, str], descriptors: list[int]
) -> None:
    for standard, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.chdir(cwd)
    os.umask(0)
    os.environ.clear()
    os.environ |= environment
    sys.argv = ["ckconv-sweep", *arguments]


def _end() -> int:
    """Run the command as Python runs a program, but for tearing down what was imported."""
    from ckconv_sweep.__main__ import main

    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        code = 1
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    before = dict(os.environ)
    sys.path[0] = str(Path(__file__).parents[2])
    for name in IMPORTED:
        importlib.import_module(name)
    driver = sys.modules["benchmarks.chaos.driver"]
    driver.read_migrations_once()
    own = {k: v for k, v in os.environ.items() if k not in before}
    assert "ray" not in sys.modules
    sys.path[0] = str(Path(sys.executable).parent)  # as where the program lies
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])), own)
    if WITHOUT_RAY in os.environ:
        driver._without_ray(in_turn=True)
    os._exit(_end())
