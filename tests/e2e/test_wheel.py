"""The built wheel, in an environment that has nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_brings_what_it_needs_and_its_bundled_files(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / "bin"
    subprocess.run([programs / "pip", "install", "--quiet", "--no-compile", wheel], check=True)

    empty = tmp_path / "empty"
    empty.mkdir()
    said = subprocess.run(
        [programs / "ckconv-sweep", "validate", "quickstart"],
        cwd=empty,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("quickstart: a space of 7 searched settings, 16 trials")
    listed = subprocess.run(
        [programs / "ckconv-sweep", "launch", "smnist", "--dry-run"],
        cwd=empty,
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stderr
    assert "nothing was started" in listed.stdout
    assert list(empty.iterdir()) == []
