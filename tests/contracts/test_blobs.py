"""What blobs promise: put whole or not at all, synced, the owner's alone, and given back only as
they were put. Another place for them than a folder must keep the same."""

from __future__ import annotations

import errno
import io
import os
import pickletools
import resource
import signal
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ckconv_sweep.errors import CannotWrite, DamagedData
from ckconv_sweep.record.blobs import UNFINISHED, Blobs, digest
from ckconv_sweep.training import checkpoint

from .system_calls import hear_steps

OLD, NEW = "old\n" * 3_000, "new\n" * 5_000


STEPS = ["open", "fdopen", "write", "write the rest", "fsync", "rename", "open", "fsync", "close"]


def failing_at(number: int, fail: Callable[[], None]) -> Callable[[str], None]:
    left = iter(range(number))

    def hear(step: str) -> None:
        if next(left, None) is None:
            fail()

    return hear


def test_a_blob_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path: Path) -> None:
    heard: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        hear_steps(patched, heard.append)
        Blobs(tmp_path).put("file", NEW)
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
                Blobs(tmp_path).put("file", NEW)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert path.read_text() == (OLD if number <= STEPS.index("rename") else NEW)
    Blobs(tmp_path).put("file", NEW)
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
            Blobs(tmp_path).put("file", NEW)
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
def test_a_blob_that_has_no_room_leaves_the_old_one(limited: None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(CannotWrite, match="file: cannot be written: File too large") as refusal:
        Blobs(tmp_path).put("file", NEW)
    assert refusal.value.exit_code == 73
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_signal_that_becomes_an_exception_leaves_nothing_half(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        hear_steps(patched, failing_at(STEPS.index("write the rest"), interrupt))
        with pytest.raises(KeyboardInterrupt):
            Blobs(tmp_path).put("file", NEW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("modes")
@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_a_blob_is_its_owners_alone(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        Blobs(tmp_path).put("file", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_what_is_put_is_got_listed_and_deleted(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    for name in ("b", "a", "x" * 255):
        blobs.put(name, f"this is {name}")
    assert blobs.list("*") == ["a", "b", "x" * 255]
    assert blobs.list("?") == ["a", "b"]
    assert blobs.get("a") == b"this is a"
    blobs.delete("a", "never there")
    assert blobs.list("?") == ["b"]
    with pytest.raises(FileNotFoundError):
        blobs.get("a")


def test_what_a_killed_writer_leaves_is_in_no_list_but_its_own(tmp_path: Path) -> None:
    (tmp_path / ".tmp-of-a-killed-writer").touch()
    blobs = Blobs(tmp_path)
    blobs.put("checkpoint-1.pt", "x")
    assert blobs.list("checkpoint-*") == ["checkpoint-1.pt"]
    assert blobs.list(UNFINISHED) == [".tmp-of-a-killed-writer"]


@pytest.mark.fault("damaged-checkpoint")
def test_a_name_with_a_digest_gives_that_content_or_nothing(tmp_path: Path) -> None:
    content, blobs = bytes(range(256)), Blobs(tmp_path)
    path = blobs.put(f"best-{digest(content)}.pt", content)
    assert blobs.get(path.name) == content
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DamagedData, match="damaged: its SHA-256 begins with"):
            blobs.get(path.name)


@pytest.mark.fault("damaged-checkpoint")
def test_a_blob_whose_hash_is_wrong_is_never_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = checkpoint.save(tmp_path, 1, {"weights": torch.ones(3)})
    parsed: list[object] = []
    monkeypatch.setattr(torch, "load", lambda *args, **_: parsed.append(args))
    checkpoint.load(tmp_path / name)
    assert len(parsed) == 1
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b"x")
    with pytest.raises(DamagedData):
        checkpoint.load(tmp_path / name)
    assert len(parsed) == 1


@pytest.mark.fault("no-unsafe-load")
def test_a_checkpoint_holds_tensors_and_plain_values_and_no_other_class(tmp_path: Path) -> None:
    state = {"trial": {"a": [1, None, "b"]}, "weights": {"w": torch.ones(3)}}
    names = [checkpoint.save(tmp_path, 1, state), checkpoint.save_best(tmp_path, {}, state)]
    for name in names:
        with zipfile.ZipFile(io.BytesIO(Blobs(tmp_path).get(name))) as archive:
            (pickled,) = [n for n in archive.namelist() if n.endswith("data.pkl")]
            used = [
                argument
                for code, argument, _ in pickletools.genops(archive.read(pickled))
                if code.name == "GLOBAL"
            ]
        assert {str(each).split()[0] for each in used} <= {"collections", "torch", "torch._utils"}
