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
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ckconv_sweep.errors import CannotWrite, DamagedData
from ckconv_sweep.record.blobs import (
    UNFINISHED,
    FolderBlobs,
    Place,
    blobs_at,
    digest,
    place_of,
)
from ckconv_sweep.training import checkpoint
from tests.moto import needs_moto, object_store

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
        FolderBlobs(tmp_path).put("file", NEW)
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
                FolderBlobs(tmp_path).put("file", NEW)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert path.read_text() == (OLD if number <= STEPS.index("rename") else NEW)
    FolderBlobs(tmp_path).put("file", NEW)
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
            FolderBlobs(tmp_path).put("file", NEW)
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
        FolderBlobs(tmp_path).put("file", NEW)
    assert refusal.value.exit_code == 73
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_signal_that_becomes_an_exception_leaves_nothing_half(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        hear_steps(patched, failing_at(STEPS.index("write the rest"), interrupt))
        with pytest.raises(KeyboardInterrupt):
            FolderBlobs(tmp_path).put("file", NEW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("modes")
@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_a_blob_is_its_owners_alone(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        FolderBlobs(tmp_path).put("file", NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


# What every place for blobs must keep


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An object store, found by this process and what it starts."""
    with (
        object_store(tmp_path_factory.mktemp("moto") / "log") as found,
        pytest.MonkeyPatch.context() as patched,
    ):
        for name, value in found.items():
            patched.setenv(name, value)
        yield


@pytest.fixture(
    params=["folder", pytest.param("objects", marks=[pytest.mark.slow, needs_moto])],
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return tmp_path
    request.getfixturevalue("store")
    return place_of(f"s3://bucket/{uuid.uuid4().hex}")


def test_what_is_put_is_got_listed_and_deleted(place: Place) -> None:
    blobs = blobs_at(place)
    blobs.make()
    for name in ("b", "a", "x" * 255):
        blobs.put(name, f"this is {name}")
    assert blobs.list("*") == ["a", "b", "x" * 255]
    assert blobs.list("?") == ["a", "b"]
    assert blobs.get("a") == b"this is a"
    blobs.put("a", b"new")
    assert blobs.get("a") == b"new"
    blobs.delete("a", "never there")
    assert blobs.list("?") == ["b"]
    with pytest.raises(FileNotFoundError) as missing:
        blobs.get("a")
    assert missing.value.strerror is not None


def test_files_below_have_their_sizes_and_are_in_no_list(place: Place) -> None:
    assert blobs_at(place / "never there").sizes() == {}
    assert blobs_at(place / "never there").list("*") == []
    for number in ("0000", "0001"):
        blobs_at(place / "trials" / number).make()
        blobs_at(place / "trials" / number).put("lease", f"1:{number}")
    blobs = blobs_at(place)
    blobs.put("driver.json", "{}")
    assert blobs.sizes() == {"driver.json": 2, "trials/0000/lease": 6, "trials/0001/lease": 6}
    assert blobs.list("*.json") == ["driver.json"]
    blobs.delete("trials/0000/lease")
    assert list(blobs_at(place / "trials").sizes()) == ["0001/lease"]


def test_a_place_is_written_as_text_and_read_again(place: Place) -> None:
    assert place_of(str(place / "trials")) == place / "trials"


def test_a_large_blob_comes_back_whole(place: Place) -> None:
    content = os.urandom(12_000_000)  # several parts of an upload
    name = f"best-{digest(content)}.pt"
    blobs_at(place).put(name, content)
    assert blobs_at(place).get(name) == content


@pytest.mark.fault("killed-while-writing")
@pytest.mark.parametrize("size", [100, 12_000_000])
def test_a_writer_that_is_killed_leaves_the_old_blob(place: Place, size: int) -> None:
    blobs = blobs_at(place)
    blobs.put("file", OLD)
    code = (
        "import sys; from ckconv_sweep.record.blobs import *; "
        f"blobs_at(place_of(sys.argv[1])).put('file', bytes({size}))"
    )
    for point in ["blob.written"] if isinstance(place, Path) else ["object.begun", "object.sent"]:
        crash = {**os.environ, "CKCONV_CRASH_AT": point}
        done = subprocess.run([sys.executable, "-c", code, str(place)], env=crash, check=False)
        assert done.returncode == -signal.SIGKILL
        assert blobs.get("file") == OLD.encode()
        assert blobs.list("[!.]*") == ["file"]


@pytest.mark.slow
@needs_moto
@pytest.mark.fault("disk-full")
def test_an_object_store_that_does_not_take_a_blob_is_named(
    store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        CannotWrite, match=r"s3://nobucket/x/file: cannot be written: .*NO_SUCH_BUCKET"
    ):
        blobs_at(place_of("s3://nobucket/x")).put("file", NEW)
    gone = place_of("s3://gone/x?endpoint_override=127.0.0.1:1&scheme=http")
    with pytest.raises(CannotWrite, match="NETWORK_CONNECTION") as refused:
        blobs_at(gone).put("file", NEW)
    assert "AWS_ENDPOINT_URL" in str(refused.value.hint)
    with pytest.raises(OSError, match="s3://gone/x"):
        blobs_at(gone).get("file")


def test_what_a_killed_writer_leaves_is_in_no_list_but_its_own(tmp_path: Path) -> None:
    (tmp_path / ".tmp-of-a-killed-writer").touch()
    blobs = FolderBlobs(tmp_path)
    blobs.put("checkpoint-1.pt", "x")
    assert blobs.list("checkpoint-*") == ["checkpoint-1.pt"]
    assert blobs.list(UNFINISHED) == [".tmp-of-a-killed-writer"]


@pytest.mark.fault("damaged-checkpoint")
def test_a_name_with_a_digest_gives_that_content_or_nothing(place: Place) -> None:
    content, blobs = bytes(range(64)), blobs_at(place)
    name = f"best-{digest(content)}.pt"
    blobs.put(name, content)
    assert blobs.get(name) == content
    for at in range(len(content)):
        blobs.put(name, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(DamagedData, match="damaged: its SHA-256 begins with"):
            blobs.get(name)


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
        with zipfile.ZipFile(io.BytesIO(FolderBlobs(tmp_path).get(name))) as archive:
            (pickled,) = [n for n in archive.namelist() if n.endswith("data.pkl")]
            used = [
                argument
                for code, argument, _ in pickletools.genops(archive.read(pickled))
                if code.name == "GLOBAL"
            ]
        assert {str(each).split()[0] for each in used} <= {"collections", "torch", "torch._utils"}
