"""The files that a user requests, and how wide standard output is."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from ckconv_sweep.cli.output import write_new, write_out
from ckconv_sweep.errors import CannotWrite, ConfigError

from .commands import REPOSITORY, environment

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


def test_a_file_that_people_edit_is_written_over_only_where_that_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    write_new(path, OLD, force=False)
    write_new(path, OLD, force=False)  # the same again
    with pytest.raises(ConfigError, match="holds something else") as refused:
        write_new(path, NEW, force=False)
    assert "--force" in str(refused.value.hint)
    assert path.read_text() == OLD
    write_new(path, NEW, force=True)
    assert path.read_text() == NEW


WIDTH = "from ckconv_sweep.cli import words; print(words.console().width)"


def test_what_a_pager_shows_is_as_wide_as_its_terminal_and_a_file_is_not(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    kept = {k: v for k, v in environment(TERM="xterm").items() if k not in ("COLUMNS", "LINES")}

    def width(stdin: int, stdout: int) -> bytes | None:
        done = subprocess.run(
            [sys.executable, "-c", WIDTH],
            env=kept,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return done.stdout

    assert width(theirs, subprocess.PIPE) == b"80\n"
    assert width(subprocess.DEVNULL, subprocess.PIPE) == b"200\n"
    with (tmp_path / "file").open("w") as file:
        width(theirs, file.fileno())
    assert (tmp_path / "file").read_text() == "200\n"
    os.close(ours)
    os.close(theirs)


WITHOUT_STREAMS = """
import os, sys
from pathlib import Path
from ckconv_sweep.cli import main
sys.argv = ["ckconv-sweep", "--help"]
try:
    main()
except SystemExit as end:
    said = [end.code, *(os.get_inheritable(stream) for stream in range(3))]
descriptor = os.open(os.environ["SAID"], os.O_WRONLY | os.O_CREAT)
os.write(descriptor, repr([descriptor > 2, *said]).encode())
"""


@pytest.mark.fault("no-terminal")
@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_number_of_a_standard_stream_that_is_closed(
    closed: str, tmp_path: Path
) -> None:
    subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", WITHOUT_STREAMS],
        env=environment(SAID=str(tmp_path / "said"), PYTHONPATH=str(REPOSITORY)),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    assert (tmp_path / "said").read_text() == "[True, 0, True, True, True]"
