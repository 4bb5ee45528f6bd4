"""Files for a person: there whole or as before, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ckconv_sweep.errors import CannotWrite
from ckconv_sweep.record.filesystem import write_whole

from .system_calls import hear_steps

OLD, NEW = "old\n" * 3_000, "new\n" * 5_000


STEPS = ["open", "fdopen", "write", "write the rest", "fsync", "rename", "open", "fsync", "close"]


def failing_at(number: int, fail: Callable[[], None]) -> Callable[[str], None]:
    left = iter(range(number))

    def hear(step: str) -> None:
        if next(left, None) is None:
            fail()

    return hear


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path: Path) -> None:
    heard: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        hear_steps(patched, heard.append)
        write_whole(tmp_path / "file", NEW)
    assert heard == STEPS
    assert (tmp_path / "file").read_text() == NEW


@pytest.mark.fault("killed-while-writing")
@pytest.mark.parametrize("number", range(len(STEPS)), ids=lambda n: f"{n} {STEPS[n]}")
def test_a_kill_at_any_step_leaves_the_old_file_or_the_new_one(number: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(OLD)
    pid = os.fork()
    if pid == 0:
        try:
            with pytest.MonkeyPatch.context() as patched:
                hear_steps(patched, failing_at(number, lambda: os._exit(42)))
                write_whole(path, NEW)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert path.read_text() == (OLD if number <= STEPS.index("rename") else NEW)
    write_whole(path, NEW)
    assert path.read_text() == NEW


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(errno.ENOSPC, marks=pytest.mark.fault("disk-full")),
        pytest.param(errno.EIO, marks=pytest.mark.fault("write-error")),
    ],
)
@pytest.mark.parametrize("number", range(len(STEPS) - 1), ids=lambda n: f"{n} {STEPS[n]}")
def test_an_error_at_any_step_is_said_and_leaves_a_whole_file(
    number: int, code: int, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text(OLD)

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    with pytest.MonkeyPatch.context() as patched:
        hear_steps(patched, failing_at(number, fail))
        with pytest.raises(CannotWrite, match=f"file: cannot be written: {os.strerror(code)}"):
            write_whole(path, NEW)
    assert path.read_text() == (OLD if number <= STEPS.index("rename") else NEW)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def limited() -> Iterator[None]:
    """No file may grow beyond 4,096 bytes."""
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.RLIMIT_FSIZE
    soft, hard = resource.getrlimit(limits)
    resource.setrlimit(limits, (4_096, hard))
    yield
    resource.setrlimit(limits, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.fault("disk-full")
def test_a_file_that_has_no_room_leaves_the_old_one(limited: None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(CannotWrite, match="file: cannot be written: File too large") as refusal:
        write_whole(path, NEW)
    assert refusal.value.exit_code == 73
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_signal_that_becomes_an_exception_leaves_nothing_half(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        hear_steps(patched, failing_at(STEPS.index("write the rest"), interrupt))
        with pytest.raises(KeyboardInterrupt):
            write_whole(tmp_path / "file", NEW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("modes")
@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_a_file_for_a_person_is_its_owners_alone(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "file", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_link_stays_a_link_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").write_text(OLD)
    (tmp_path / "link").symlink_to("there")
    write_whole(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_text() == NEW


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", "to a pipe")
    assert os.read(reading, 100) == b"to a pipe"
    os.close(reading)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_name_of_255_letters_is_written(tmp_path: Path) -> None:
    write_whole(tmp_path / ("x" * 255), b"bytes")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"bytes"
