from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ckconv_sweep import __version__
from ckconv_sweep.cli import app
from ckconv_sweep.cli.help import BUDGET, CHANGES, HOOKS, PLACES, RESOURCES

from .commands import REPOSITORY, ckconv_sweep, ended, environment

COMMANDS = [
    *("launch", "resume", "extend", "confirm", "watch", "status", "list"),
    *("add", "retry", "pause", "stop", "concurrency"),
    *("table", "compare", "simulate", "best", "promote", "why", "plot", "report", "ui"),
    *("train", "evaluate", "predict", "kernels", "import-checkpoint"),
    *("show", "validate", "fit-kernel"),
    *("doctor", "verify", "sync", "gc", "delete"),
]
_LOADED = """
import sys
from ckconv_sweep.cli import main
heavy = {"torch", "ray", "optuna", "mlflow", "pandas", "numpy", "sklearn", "scipy", "jinja2"}
heavy.add("matplotlib")
def run():
    try:
        main()
    except SystemExit as end:
        print(end.code, *sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""
_ONE = _LOADED + "run()"
_HELPS = _LOADED + "for sys.argv[1:] in [[name, '--help'] for name in sys.argv[1:]]: run()"


def said_and_loaded(*args: str, cwd: Path, program: str = _ONE) -> tuple[str, str]:
    """What a command printed, and its exit code with the heavy packages that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        cwd=cwd,
        env=environment(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr.strip()


def test_these_are_the_commands() -> None:
    assert [command.name for command in app.registered_commands] == COMMANDS


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    said, loaded = said_and_loaded("--help", cwd=tmp_path)
    assert loaded == "0"
    assert [line.split()[0] for line in lines_of_commands(said)] == COMMANDS


def lines_of_commands(said: str) -> list[str]:
    """Those below the first section, which has the options."""
    lines = said.partition("Run a sweep:")[2].splitlines()
    return [line for line in lines if line.startswith("  ")]


@pytest.mark.parametrize("columns", [80, 200])
def test_every_command_is_one_whole_line(columns: int, tmp_path: Path) -> None:
    said = ended(ckconv_sweep("--help", cwd=tmp_path, COLUMNS=str(columns)))
    assert max(map(len, said.splitlines())) < 80
    lines = lines_of_commands(said)
    assert len(lines) == len(COMMANDS)
    assert [line for line in lines if not line.endswith(".") or line.endswith("..")] == []


@pytest.mark.parametrize("command", [[], ["launch"]])
def test_h_is_help(command: list[str], tmp_path: Path) -> None:
    assert ended(ckconv_sweep(*command, "-h", cwd=tmp_path)) == ended(
        ckconv_sweep(*command, "--help", cwd=tmp_path)
    )


def test_the_options_of_launch_are_in_sections(tmp_path: Path) -> None:
    said = ended(ckconv_sweep("launch", "--help", cwd=tmp_path))
    sections = re.findall(r"^(\S.*):$", said, re.MULTILINE)
    assert sections == ["Arguments", "Options", BUDGET, RESOURCES, PLACES, CHANGES, HOOKS]
    assert re.search(rf"^{BUDGET}:\n  --trials N .*\n  --hours HOURS ", said, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_stands_for_a_value_is_one_word_of_capitals(command: str, tmp_path: Path) -> None:
    said = ended(ckconv_sweep(command, "--help", cwd=tmp_path))
    usage = said.splitlines()[0].partition(command)[2]
    stands = re.findall(r"[{[]([^]}]+)[]}]", usage)
    options = said[said.index("Options:") :]
    stands += re.findall(r"^  (?:-\w, )?--\S+ (\S+)", options, re.MULTILINE)
    assert stands
    assert [word for word in stands if not re.fullmatch(r"[A-Z0-9_]+|KEY=VALUE", word)] == []


def test_version_is_the_packages_and_loads_nothing_heavy(tmp_path: Path) -> None:
    assert said_and_loaded("--version", cwd=tmp_path) == (
        f"ckconv-sweep {importlib.metadata.version('ckconv-sweep')}\n",
        "0",
    )


def test_the_package_is_a_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ckconv_sweep", "--version"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
    )
    assert ended(done) == f"ckconv-sweep {__version__}\n"


def test_the_help_of_a_command_loads_nothing_heavy(tmp_path: Path) -> None:
    said, loaded = said_and_loaded(*COMMANDS, cwd=tmp_path, program=_HELPS)
    assert loaded.split("\n") == ["0"] * len(COMMANDS)
    usages = [line.split()[2] for line in said.splitlines() if line.startswith("Usage: ")]
    assert usages == COMMANDS
    assert len(re.findall(r"^  -v, --verbose ", said, re.MULTILINE)) == len(COMMANDS)


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
        [sys.executable, "-X", "importtime", "-c", _ONE, "launch", "missing.yaml"],
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
    assert "Run a sweep:" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
