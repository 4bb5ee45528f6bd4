"""A process of the command line: what it tells, how it ends, and that it never outlives Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from without_ray import PROGRAM

from ckconv_sweep import Sweep, errors, own_process
from ckconv_sweep.cli.from_python import ToPython
from ckconv_sweep.errors import (
    CkconvSweepError,
    ConfigError,
    SpaceChanged,
    UnknownNameError,
    as_it_was,
)
from ckconv_sweep.own_process import OwnProcess
from ckconv_sweep.record.folder import SweepFolder
from tests.cli.commands import NOBODY, SPACE, TRIAL, environment

TELLS = "import os, sys, time; fd = int(sys.argv[2]); told = lambda x: os.write(fd, x + b'\\n'); "


def program(monkeypatch: pytest.MonkeyPatch, code: str) -> OwnProcess:
    monkeypatch.setattr(own_process, "_PROGRAM", TELLS + code)
    return OwnProcess([])


def subclasses(tree: type[CkconvSweepError]) -> list[type[CkconvSweepError]]:
    """Those that leave the room that raises them."""
    found = [tree, *(found for child in tree.__subclasses__() for found in subclasses(child))]
    return [kind for kind in found if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", subclasses(CkconvSweepError), ids=lambda kind: kind.__name__)
def test_every_error_comes_back_as_it_was(kind: type[CkconvSweepError], tmp_path: Path) -> None:
    if kind is UnknownNameError:
        error: CkconvSweepError = UnknownNameError(
            "setting", "omga", ["omega"], where="file.yaml:3"
        )
    else:
        error = kind("it is wrong", where="--somewhere", hint="do\nthat")
    assert getattr(errors, kind.__name__) is kind
    with (tmp_path / "told").open("w+b") as file:
        ToPython(file.fileno()).fail(error)
        told = (tmp_path / "told").read_bytes()
    import json

    back = as_it_was(**json.loads(told)["error"])
    assert type(back) is kind
    assert (back.message, back.where, back.hint) == (error.message, error.where, error.hint)


def test_it_tells_until_its_end_and_raises_what_it_failed_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = program(
        monkeypatch,
        'told(b\'{"begun": true}\'); time.sleep(0.2); told(b\'{"error": {"kind": "SpaceChanged", '
        '"message": "another", "where": null, "hint": null}}\'); sys.exit(2)',
    )
    news = process.news_until_the_end()
    assert next(news) == {"begun": True}
    with pytest.raises(SpaceChanged, match="another"):
        list(news)
    with pytest.raises(SpaceChanged, match="another"):
        process.check()


def test_what_nobody_has_read_yet_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    process = program(monkeypatch, 'os.write(fd, b\'{"begun": true}\\n{"said": "hello"}\\n\')')
    assert next(process.news_until_the_end()) == {"begun": True}
    assert list(process.news()) == [{"said": "hello"}]
    assert list(process.news()) == []


def test_half_a_line_waits_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    process = program(
        monkeypatch, "os.write(fd, b'{\"said\"'); time.sleep(0.3); told(b': \"hello\"}')"
    )
    assert list(process.news_until_the_end()) == [{"said": "hello"}]


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [
        ("print('Usage: x\\nError: no such option', file=sys.stderr); sys.exit(2)", ConfigError,
         "no such option"),
        ("1 / 0", CkconvSweepError, "its process ended with exit code 1\n  Traceback"),
        ("os.kill(os.getpid(), 9)", CkconvSweepError, "its process was ended by SIGKILL"),
    ],
)  # fmt: skip
def test_an_end_without_an_error_is_told_by_its_last_words(
    code: str, kind: type[CkconvSweepError], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CkconvSweepError) as caught:
        list(program(monkeypatch, code).news_until_the_end())
    assert type(caught.value) is kind
    assert str(caught.value).startswith(expected)


STOPS = """
import signal
def stop(*_): told(b'{"said": "stopped"}'); sys.exit(143)
signal.signal(signal.SIGTERM, stop)
told(b'{"begun": true}')
time.sleep(60)
"""


def test_stopped_from_any_thread_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    process = program(monkeypatch, "\n" + STOPS)
    next(process.news_until_the_end())
    thread = threading.Thread(target=process.stop)
    thread.start()
    thread.join(timeout=30)
    assert process.ended_within(0)
    assert list(process.news()) == [{"said": "stopped"}]
    process.check()  # a signal is no error
    process.stop()  # and once more changes nothing


def test_an_interrupt_while_it_starts_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    process = program(monkeypatch, "\n" + STOPS)

    def interrupt() -> None:
        while process._read == 0:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(process.news_until_the_end())
    assert process.ended_within(0)


@pytest.mark.fault("python-ends")
def test_it_ends_with_the_python_that_started_it_but_not_with_a_fork(tmp_path: Path) -> None:
    code = f"""
    import os, sys
    from ckconv_sweep import own_process
    own_process._PROGRAM = {TELLS + chr(10) + STOPS!r}
    process = own_process.OwnProcess([])
    next(process.news_until_the_end())
    if os.fork() == 0:
        sys.exit()  # with everything that is to be done at the end
    os.wait()
    assert not process.ended_within(0.2)
    print(process._process.pid)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


@pytest.mark.fault("python-ends")
def test_it_stops_by_itself_when_the_python_that_started_it_was_killed(tmp_path: Path) -> None:
    code = """
    import sys
    from ckconv_sweep import own_process
    own_process._PROGRAM = sys.argv[1]
    process = own_process.OwnProcess(["launch", "small.yaml"])
    next(process.news_until_the_end())
    print(process._process.pid, flush=True)
    sys.stdin.read()
    """
    (tmp_path / "small.yaml").write_text(SPACE.replace("trials: 3", "trials: 1000"))
    (tmp_path / "trial.yaml").write_text(TRIAL)
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), PROGRAM],
        cwd=tmp_path,
        env=environment(MLFLOW_TRACKING_URI=NOBODY, PYTHONPATH=os.pathsep.join(sys.path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert starter.stdout is not None
    with starter.stdout, starter.stdin:  # type: ignore[union-attr]
        pid = int(starter.stdout.readline())
        starter.kill()
        starter.wait()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    sweep = Sweep.open("small", sweeps_dir=tmp_path / "sweeps")
    assert sweep.state == "interrupted"
    assert not SweepFolder.of(tmp_path / "sweeps", "small").records.holder_was_killed()


def test_no_password_is_among_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        own_process, "_PROGRAM", "import os; print(os.environ['MLFLOW_TRACKING_URI'])"
    )
    process = OwnProcess(["launch", "a"], password_uri="http://me:S3CRET@host")
    assert "S3CRET" not in " ".join(map(str, process._process.args))  # type: ignore[arg-type]
    assert process.ended_within(30)
    assert process.output() == ["http://me:S3CRET@host"]


def test_modules_that_lie_in_the_current_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('mine')")
    monkeypatch.chdir(tmp_path)
    process = OwnProcess(["--version"])
    assert process.ended_within(60)
    assert process.output()[0].startswith("ckconv-sweep ")
