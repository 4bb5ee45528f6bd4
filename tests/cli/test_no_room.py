"""Commands on a disk that is full or read-only."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep import cli
from ckconv_sweep.errors import CannotWrite

from .commands import PROGRAM, copied, ended, environment, refused

FILL = 'cat /dev/zero > "$1/fill" 2> /dev/null; '
READ_ONLY = 'mount -o remount,ro "$1"; '


@pytest.fixture
def on_a_disk(finished: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs commands in a copy of the finished sweep's folder, which lies in a file system of its
    own of 8 MiB; `before` is done to that first. Nothing else has room for temporary files."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    copied(finished, kept)
    disk.mkdir()

    def run(before: str, *commands: str) -> subprocess.CompletedProcess[str]:
        script = (
            'mount -t tmpfs -o size=8m none "$1" && cp -R "$2"/. "$1" || exit 99; '
            f'{before} cd "$1"; '
            + " && ".join(f"{shlex.quote(PROGRAM)} {command}" for command in commands)
        )
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", script, "sh", str(disk), str(kept)],
            env=environment(TMPDIR=str(disk)),
            capture_output=True,
            text=True,
            timeout=120,
        )
        if "unshare" in done.stderr or "mount:" in done.stderr:
            pytest.skip("this system lets nobody mount a file system of his own")
        return done

    return run


@pytest.mark.slow
@pytest.mark.fault("disk-full")
@pytest.mark.fault("read-only-storage")
@pytest.mark.parametrize("before", [FILL, READ_ONLY], ids=["full", "read-only"])
def test_a_finished_sweep_is_read_where_nothing_can_be_written(
    before: str, on_a_disk: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    said = ended(
        on_a_disk(
            before,
            "status small",
            "table small",
            "best small",
            f"report small --out {shlex.quote(str(report))}",
            "resume small",
        )
    )
    assert said.startswith("small: finished, 3 trials requested\n  3 completed")
    assert said.count("completed │") == 6
    assert report.stat().st_size > 10_000


@pytest.mark.fault("disk-full")
def test_a_launch_on_a_full_disk_is_one_message_and_leaves_nothing(
    on_a_disk: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = on_a_disk(FILL, "launch small.yaml --name other || (c=$?; ls sweeps >&2; exit $c)")
    said = refused(done, 73)
    assert "sweeps/other: a file here cannot be written: No space left on device" in said
    assert said.split()[-3:] == ["mlflow.db", "mlflow.lock", "small"]


@pytest.mark.fault("disk-full")
@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 73), (errno.EROFS, 73), (0, None)])
def test_a_library_that_finds_the_disk_full_is_no_traceback(
    number: int, code: int | None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def app() -> None:
        raise OSError(number or errno.ENOTCONN, "its own words", "/cache/fonts.json")

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(cli.Output, "install", lambda: None)
    mask = os.umask(0)
    try:
        if code is None:
            with pytest.raises(OSError, match="its own words"):
                cli.main()
            return
        with pytest.raises(SystemExit) as end:
            cli.main()
    finally:
        os.umask(mask)
    assert end.value.code == code == CannotWrite.exit_code
    said = capsys.readouterr().err
    assert said == f"error: /cache/fonts.json: a file cannot be written: {os.strerror(number)}\n"
