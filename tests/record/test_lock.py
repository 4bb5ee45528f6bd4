from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.errors import CannotWrite, SweepBusy
from ckconv_sweep.record.lock import held, holder

from .small import line_of, program

HOLD = """
import sys, time
from pathlib import Path
from ckconv_sweep.record.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "digits").mkdir()
    return tmp_path / "digits" / "lock"


@pytest.mark.fault("two-drivers")
def test_a_second_process_is_refused_and_told_who_holds_the_lock(path: Path) -> None:
    with program(HOLD, path) as first:
        assert line_of(first) == "held"
        begin = time.monotonic()
        with pytest.raises(SweepBusy) as caught, held(path):
            pass
        assert time.monotonic() - begin < 2.0
        who = f"process {first.pid} on {socket.gethostname()} (since 20"
        assert str(caught.value).startswith(f"digits: {who}")
        assert "runs this sweep" in str(caught.value)
        assert caught.value.exit_code == 75
        assert (holder(path) or "").startswith(who)


@pytest.mark.fault("two-drivers")
def test_a_lock_is_free_after_its_holder_was_killed(path: Path) -> None:
    with program(HOLD, path) as first:
        assert line_of(first) == "held"
    assert path.read_text() != ""  # what the dead one said does not matter
    assert holder(path) is None
    with held(path):
        assert f"process {os.getpid()} on" in (holder(path) or "")


def test_a_lock_is_free_after_its_block_also_when_that_raised(path: Path) -> None:
    with held(path):
        assert holder(path) is not None
    assert holder(path) is None
    with pytest.raises(ZeroDivisionError), held(path):
        raise ZeroDivisionError
    assert holder(path) is None
    assert path.read_text() == ""  # nobody was killed
    with held(path):
        pass


def test_the_same_process_cannot_hold_a_lock_twice(path: Path) -> None:
    with held(path):
        with pytest.raises(SweepBusy, match=f"process {os.getpid()} on"), held(path):
            pass
        assert holder(path) is not None  # the one that was refused freed nothing


def test_programs_that_the_holder_starts_do_not_inherit_the_lock(path: Path) -> None:
    with held(path):
        sleeper = subprocess.Popen(
            [sys.executable, "-c", "print('up', flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == b"up\n"
    try:
        assert holder(path) is None
        with held(path):
            pass
        assert sleeper.poll() is None
    finally:
        sleeper.communicate(b"\n")


def test_nobody_holds_a_lock_that_was_never_made_and_asking_makes_none(path: Path) -> None:
    assert holder(path) is None
    assert not path.exists()


def test_a_holder_that_has_not_said_who_it_is_is_another_process(path: Path) -> None:
    with held(path):
        path.write_text("")
        assert holder(path) == "another process"
        path.write_text("[]")
        assert holder(path) == "another process"


def test_only_the_owner_may_read_the_lock(path: Path) -> None:
    before = os.umask(0)
    try:
        with held(path):
            assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


ASK = """
import sys
from pathlib import Path
from ckconv_sweep.record.lock import holder
print("asking", flush=True)
while True:
    holder(Path(sys.argv[1]))
"""


def test_somebody_who_keeps_asking_for_the_holder_keeps_no_driver_out(path: Path) -> None:
    with held(path):
        pass
    with program(ASK, path) as asking:
        assert line_of(asking) == "asking"
        for _ in range(100):
            with held(path):
                pass


RACE = """
import sys
from pathlib import Path
from ckconv_sweep.errors import SweepBusy
from ckconv_sweep.record.lock import held
sys.stdin.readline()
try:
    with held(Path(sys.argv[1])):
        print("won", flush=True)
        sys.stdin.read()
except SweepBusy:
    print("busy", flush=True)
"""


@pytest.mark.fault("two-drivers")
def test_of_many_that_start_at_once_one_runs(path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = sorted(line_of(racer) for racer in racers)  # the winner holds it until it is told
    for racer in racers:
        racer.communicate()
    assert said == ["busy"] * 4 + ["won"]


def test_a_lock_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(CannotWrite, match="nowhere/lock: cannot be made: No such file"),
        held(tmp_path / "nowhere" / "lock"),
    ):
        pass


@pytest.mark.fault("network-file-system")
def test_a_file_system_without_locks_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (
        pytest.raises(CannotWrite, match="cannot be locked: No locks available") as refused,
        held(path),
    ):
        pass
    assert refused.value.exit_code == 73
    assert "--sweeps-dir" in (refused.value.hint or "")
    assert holder(path) is None


@pytest.mark.fault("network-file-system")
def test_a_file_system_that_grants_a_lock_to_everybody_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with (
        pytest.raises(CannotWrite, match="is locked, and could be locked once more"),
        held(path),
    ):
        pass


@pytest.mark.fault("disk-full")
def test_a_lock_is_held_where_there_is_no_room_to_say_by_whom(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", no_room)
    with held(path):
        assert holder(path) == "another process"
    assert holder(path) is None


@pytest.mark.fault("read-only-storage")
def test_the_holder_is_told_to_who_may_only_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def only_to_read(path: Path, flags: int, *mode: int) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *mode)

    with held(path):
        monkeypatch.setattr(os, "open", only_to_read)
        assert f"process {os.getpid()} on" in (holder(path) or "")
        monkeypatch.undo()
