"""The files that a user requests."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ckconv_sweep.cli.output import write_out
from ckconv_sweep.errors import CannotWrite

OLD, NEW = "old\n" * 3_000, "new\n" * 5_000


def test_a_link_stays_a_link_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").write_text(OLD)
    (tmp_path / "link").symlink_to("there")
    write_out(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_text() == NEW


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_out(tmp_path / "pipe", "to a pipe")
    assert os.read(reading, 100) == b"to a pipe"
    os.close(reading)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_the_folders_on_the_way_are_made(tmp_path: Path) -> None:
    write_out(tmp_path / "a" / "b" / "file", NEW)
    assert (tmp_path / "a" / "b" / "file").read_text() == NEW


def test_a_place_where_nothing_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match=r"file/a\.png: cannot be written: "):
        write_out(tmp_path / "file" / "a.png", b"")
