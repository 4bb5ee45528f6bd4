from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.errors import CannotWrite
from ckconv_sweep.record.filesystem import check_writable, is_local

from .small import in_a_mount


def mounts(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "mounts"
    path.write_text("".join(f"{line} rw,relatime 0 0\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.fault("network-file-system")
@pytest.mark.parametrize("kind", ["nfs", "nfs4", "lustre", "cifs", "gpfs", "fuse.sshfs", "9p"])
def test_a_folder_on_a_network_is_not_local(kind: str, tmp_path: Path) -> None:
    table = mounts(tmp_path, "/dev/sda1 / ext4", f"server:/x /far {kind}")
    assert not is_local(Path("/far"), table)
    assert not is_local(Path("/far/deep/er"), table)
    assert is_local(Path("/farther"), table)
    assert is_local(Path("/"), table)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "zfs", "fuseblk"])
def test_a_folder_on_a_disk_is_local(kind: str, tmp_path: Path) -> None:
    assert is_local(Path("/near/by"), mounts(tmp_path, "server:/ / nfs4", f"disk /near {kind}"))


def test_the_deepest_mount_decides_in_whatever_order(tmp_path: Path) -> None:
    lines = ["a / ext4", "b /far nfs", "c /far/near ext4", "d /far/near/far nfs"]
    for order in (lines, lines[::-1]):
        table = mounts(tmp_path, *order)
        assert not is_local(Path("/far/x"), table)
        assert is_local(Path("/far/near/x"), table)
        assert not is_local(Path("/far/near/far/x"), table)


def test_of_two_mounts_at_one_place_the_later_one_decides(tmp_path: Path) -> None:
    table = mounts(tmp_path, "a / ext4", "auto /far autofs", "b /far 9p")
    assert not is_local(Path("/far/x"), table)
    table = mounts(tmp_path, "a / ext4", "b /far nfs4", "c /far ext4")
    assert is_local(Path("/far/x"), table)


@pytest.mark.parametrize(
    ("written", "point"), [(r"/a\040b", "/a b"), (r"/a\134b", r"/a\b"), ("/donn\u00e9es", None)]
)
def test_a_mount_point_is_read_as_the_kernel_writes_it(
    written: str, point: str | None, tmp_path: Path
) -> None:
    table = mounts(tmp_path, "a / ext4", f"b {written} nfs4")
    assert not is_local(Path(point or written) / "x", table)


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    table = mounts(tmp_path, "a / ext4", f"b {tmp_path.resolve()}/real nfs4")
    assert not is_local(tmp_path / "link", table)


def test_a_system_that_does_not_tell_is_taken_for_local(tmp_path: Path) -> None:
    assert is_local(tmp_path, tmp_path / "nothing")


def test_this_machines_own_table_is_read(tmp_path: Path) -> None:
    assert isinstance(is_local(tmp_path), bool)


# Whether a folder can be written to


def test_a_folder_that_can_be_written_to_is_left_as_it_was(tmp_path: Path) -> None:
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


CHECK = """
import os, sys
from pathlib import Path
from ckconv_sweep.errors import CannotWrite
from ckconv_sweep.record.filesystem import check_writable
try:
    check_writable(Path(sys.argv[1]))
except CannotWrite as error:
    print(error.exit_code, error.message)
    print(os.listdir(sys.argv[1]))
"""


@pytest.mark.fault("read-only-storage")
def test_a_read_only_file_system_is_said(tmp_path: Path) -> None:
    said = in_a_mount(tmp_path, "ro", CHECK)
    assert said == ["73 a file here cannot be written: Read-only file system", "[]"]


@pytest.mark.fault("disk-full")
def test_a_disk_without_room_is_said_before_anything_starts(tmp_path: Path) -> None:
    full = CHECK.replace("try:", "(Path(sys.argv[1]) / 'x').write_bytes(bytes(4096))\ntry:", 1)
    said = in_a_mount(tmp_path, "size=4k", full)
    assert said == ["73 a file here cannot be written: No space left on device", "['x']"]


@pytest.mark.fault("read-only-storage")
@pytest.mark.parametrize(
    ("name", "step"), [("fsync", "synced"), ("rename", "renamed"), ("open", "written")]
)
def test_each_step_that_a_sweep_needs_is_tried_and_named(
    name: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    owner = Path if name == "rename" else os
    monkeypatch.setattr(owner, name, fails)
    with pytest.raises(CannotWrite, match=f"cannot be {step}: Read-only") as caught:
        check_writable(tmp_path)
    monkeypatch.undo()
    assert caught.value.where == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("network-file-system")
def test_a_file_system_that_cannot_lock_as_sqlite_does_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", no_locks)
    with pytest.raises(CannotWrite, match="cannot be locked: No locks available"):
        check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
