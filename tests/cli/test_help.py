from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ckconv_sweep.cli import app

from .commands import REPOSITORY, ckconv_sweep, ended, environment

COMMANDS = ["launch", "resume", "watch", "status", "list", "table", "compare", "best", "plot"]
COMMANDS += [
    "report",
    "train",
    "evaluate",
    "import-checkpoint",
    "validate",
    "fit-kernel",
    "ui",
    "sync",
    "doctor",
]
_LOADED = """
import sys
from ckconv_sweep.cli import main
heavy = {"torch", "ray", "optuna", "mlflow", "pandas", "numpy", "sklearn", "scipy", "jinja2"}
heavy.add("matplotlib")
try:
    main()
except SystemExit as end:
    print(end.code, *sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""


def said_and_loaded(*args: str, cwd: Path) -> tuple[str, str]:
    """What a command printed, and its exit code with the heavy packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, *args],
        cwd=cwd,
        env=environment(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr.strip()


def test_these_are_the_commands() -> None:
    names = [c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands]
    assert sorted(names) == sorted(COMMANDS)


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    said, loaded = said_and_loaded("--help", cwd=tmp_path)
    assert loaded == "0"
    assert [name for name in COMMANDS if f"\n  {name} " not in said] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_nothing_heavy(command: str, tmp_path: Path) -> None:
    said, loaded = said_and_loaded(command, "--help", cwd=tmp_path)
    assert loaded == "0"
    assert said.startswith("Usage: ")
    assert command in said.splitlines()[0]


@pytest.mark.parametrize("file", ["digits.yaml", "smnist_98k"])
def test_validate_loads_nothing_heavy_unless_it_counts_parameters(
    file: str, tmp_path: Path
) -> None:
    space = "trial: digits\nsearch: {model.dropout: {low: 0.0, high: 0.1}}\nbudget: {trials: 3}\n"
    (tmp_path / "digits.yaml").write_text(space)
    said, loaded = said_and_loaded("validate", file, cwd=tmp_path)
    assert loaded == "0"
    assert said.startswith(f"{file}: a ")
    assert said.endswith(": valid\n")


def test_a_mistake_in_a_file_loads_nothing_heavy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", _LOADED, "launch", "missing.yaml"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
    )
    assert "| torch\n" not in done.stderr
    assert "| ray\n" not in done.stderr
    assert "error: missing.yaml: no such file" in done.stderr


def test_cli_py_in_the_checkout_is_the_same_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "cli.py"), "--help"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=""),
        capture_output=True,
        text=True,
    )
    installed = ended(ckconv_sweep("--help", cwd=tmp_path))
    assert ended(done).replace("Usage: cli.py", "Usage: ckconv-sweep") == installed


def test_without_a_command_the_help_is_shown(tmp_path: Path) -> None:
    done = ckconv_sweep(cwd=tmp_path)
    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
