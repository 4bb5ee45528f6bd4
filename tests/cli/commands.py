"""The program as a user starts it: another process, in a folder of its own. Most commands run in a
fork (`forks`), which needs no second for its imports; `PROGRAM` is the installed one."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import forks

REPOSITORY = Path(__file__).parents[2]
PROGRAM = str(Path(sys.executable).with_name("ckconv-sweep"))
NOBODY = "http://127.0.0.1:1"
"""A tracking server that never answers; nothing waits for it."""

TRIAL = """\
data: {name: digits}
model: {hidden_channels: 4, blocks: 1, kernel: {hidden_channels: 8}}
optimizer: {name: adam, learning_rate: 5.0e-3}
training: {epochs: 3}
"""
SPACE = """\
trial: trial.yaml
search:
  optimizer.learning_rate: {low: 1.0e-3, high: 1.0e-2, log: true}
  model.dropout: {low: 0.0, high: 0.2, step: 0.1}
sampler: {name: random}
budget: {trials: 3}
"""


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would lead to the user's own data, sweeps and servers."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CKCONV_", "MLFLOW_"))}
    return kept | {"OMP_NUM_THREADS": "1"} | more


def ckconv_sweep(
    *args: object, cwd: Path, timeout: float = 120, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a shell that forbids nobody anything (`test_modes`)."""
    return forks.run(list(map(str, args)), cwd, environment(**more), timeout)


def typed_here(*words: object) -> str:
    """A command in this process and its current folder; returns what it printed."""
    from typer.testing import CliRunner

    from ckconv_sweep.cli import app

    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def rows(said: str) -> list[dict[str, Any]]:
    """A table that was printed as JSON."""
    out = json.loads(said)
    assert isinstance(out, list)
    return out


def refused(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """What the program said when it refused: one message, and no more."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.lower().startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return done.stderr


def ended(done: subprocess.CompletedProcess[str]) -> str:
    """What the program said when all went well."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def copied(folder: Path, to: Path) -> None:
    """A copy of a folder of sweeps that other tests read at the same time: without the files that
    SQLite has beside a database that somebody has open."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.db-wal", "*.db-shm"))


def other_modes(folder: Path, *, folders: int = 0o700, files: int = 0o600) -> list[str]:
    """What has another mode than these, at or below a folder."""
    found = []
    for path in [folder, *folder.rglob("*")]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode != (folders if path.is_dir() else files):
            found.append(f"{path.relative_to(folder)} {mode:o}")
    return found
