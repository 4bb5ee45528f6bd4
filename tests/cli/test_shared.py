"""A sweep that is shared with a group: what its members read, and that nobody else does."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .commands import ckconv_sweep, ended, environment, other_modes, refused

AS_ANOTHER = """
import contextlib, io, os, sys
from ckconv_sweep.cli import main

group = int(sys.argv.pop(1))
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()  # imports all that it needs: another user may not be allowed to read this Python
os.setgroups([])
os.setgid(group)
os.setuid(54_321)
main()
"""

pytestmark = [pytest.mark.fault("modes"), pytest.mark.ray]


@pytest.fixture
def copied(finished: Path) -> Iterator[Path]:
    """A copy of the finished sweep's folder, to which everybody finds the way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(finished, folder, dirs_exist_ok=True)
        folder.chmod(0o711)
        yield folder


@pytest.mark.slow
def test_a_shared_sweep_and_its_database_are_readable_for_the_group_and_stay_so(here: Path) -> None:
    ended(ckconv_sweep("launch", "small.yaml", "--shared", "--trials", 1, cwd=here))
    assert {p.name for p in (here / "sweeps").iterdir()} >= {"small", "mlflow.db", "mlartifacts"}
    assert other_modes(here / "sweeps", folders=0o2750, files=0o640) == []
    ended(ckconv_sweep("resume", "small", "--trials", 2, cwd=here))
    assert (here / "sweeps" / "small" / "trials" / "0001").is_dir()
    assert other_modes(here / "sweeps", folders=0o2750, files=0o640) == []
    said = ended(ckconv_sweep("doctor", "small", cwd=here))
    assert "only its group can read it" in said


def test_a_finished_sweep_is_shared_alone(copied: Path) -> None:
    before = stat.S_IMODE((copied / "sweeps" / "mlflow.db").stat().st_mode)
    said = refused(ckconv_sweep("launch", "small.yaml", "--shared", cwd=copied), code=73)
    assert "its group cannot enter the folder of all sweeps" in said
    assert f"chmod g+rx {copied / 'sweeps'}" in said
    assert stat.S_IMODE((copied / "sweeps" / "small").stat().st_mode) == 0o700
    (copied / "sweeps").chmod(0o750)
    ended(ckconv_sweep("launch", "small.yaml", "--shared", cwd=copied))
    assert other_modes(copied / "sweeps" / "small", folders=0o2750, files=0o640) == []
    assert stat.S_IMODE((copied / "sweeps" / "mlflow.db").stat().st_mode) == before == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_member_of_the_group_reads_a_shared_sweep_and_nobody_else_does(copied: Path) -> None:
    (copied / "sweeps").chmod(0o750)
    ended(ckconv_sweep("launch", "small.yaml", "--shared", cwd=copied))
    sweeps, group = copied / "sweeps", 54_321
    for path in [sweeps, *sweeps.rglob("*")]:
        mode = path.stat().st_mode
        os.chown(path, -1, group)
        path.chmod(stat.S_IMODE(mode))

    def as_another(command: str, their_group: int) -> subprocess.CompletedProcess[str]:
        arguments = [command, "small", "--sweeps-dir", str(sweeps)]
        return subprocess.run(
            [sys.executable, "-c", AS_ANOTHER, str(their_group), *arguments],
            cwd="/",
            env=environment(HOME="/nonexistent"),
            capture_output=True,
            text=True,
        )

    for command in ("status", "table"):
        assert "val/accuracy" in ended(as_another(command, group))
        assert "is not readable" in refused(as_another(command, 54_322))
