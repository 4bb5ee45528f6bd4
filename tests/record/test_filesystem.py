from __future__ import annotations

from pathlib import Path

import pytest

from ckconv_sweep.record.filesystem import is_local


def mounts(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "mounts"
    path.write_text("".join(f"{line} rw,relatime 0 0\n" for line in lines), encoding="utf-8")
    return path


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
