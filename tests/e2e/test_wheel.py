"""The built wheel in environments that have nothing else: with the versions that are tested, and
with the lowest that are allowed. Two gigabytes each, deleted at the end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import environment

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Path]:
    """Where the programs of a new, empty environment are."""
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    yield tmp_path / "venv" / "bin"
    shutil.rmtree(tmp_path / "venv")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def run(*command: object, cwd: Path | None = None) -> str:
    """What a command that succeeds prints. It finds nothing of this checkout by itself."""
    clean = {k: v for k, v in environment().items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=clean
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def finish_a_sweep(programs: Path, empty: Path) -> None:
    program = programs / "ckconv-sweep"
    said = run(program, "launch", "quickstart", "--trials=2", "--set=training.epochs=4", cwd=empty)
    assert "quickstart: 2 trials completed, 0 pruned, 0 failed" in said
    for command in (
        ("table", "quickstart", "--pareto", "parameters"),
        ("plot", "quickstart", "curves"),
        ("report", "quickstart"),
        ("doctor", "quickstart"),
        ("best", "quickstart", "--out", "best.yaml"),
        ("train", "best.yaml"),
        ("evaluate", "runs/best"),
    ):
        run(program, *command, cwd=empty)
    python = "from ckconv_sweep import Sweep; print(Sweep.open('quickstart'))"
    said = run(programs / "python", "-c", python, cwd=empty)
    assert said == "<Sweep quickstart: finished, 2 of 2 trials ended>\n"


def test_the_wheel_brings_all_that_a_sweep_needs(wheel: Path, programs: Path, empty: Path) -> None:
    run(programs / "pip", "install", "--constraint", CONSTRAINTS, wheel)
    said = run(programs / "ckconv-sweep", "validate", "quickstart", cwd=empty)
    assert said.startswith("quickstart: a space of 6 searched settings, ")
    run(programs / "ckconv-sweep", "launch", "smnist", "--dry-run", cwd=empty)
    assert list(empty.iterdir()) == []
    finish_a_sweep(programs, empty)


def test_a_sweep_finishes_with_the_lowest_versions_but_of_pytorch(
    wheel: Path, programs: Path, empty: Path, tmp_path: Path
) -> None:
    """PyTorch is the one that is tested: older builds for a CPU are on no package index. Beside the
    sweep, tests of what draws, records and reports."""
    (tmp_path / "without.txt").write_text("torch; python_version < '3'")
    run(
        *(Path(sys.executable).with_name("uv"), "pip", "compile", "--resolution", "lowest-direct"),
        *("--override", tmp_path / "without.txt", "--python", programs / "python"),
        *("--extra", "dev", "--output-file", tmp_path / "lowest.txt", ROOT / "pyproject.toml"),
    )
    lowest = (tmp_path / "lowest.txt").read_text()
    assert "\ntorch" not in lowest
    assert "\nnumpy==2.0.0\n" in lowest
    (torch,) = (x for x in CONSTRAINTS.read_text().splitlines() if x.startswith("torch=="))
    run(programs / "pip", "install", torch, "--requirement", tmp_path / "lowest.txt")
    run(programs / "pip", "install", "--no-deps", wheel)
    run(programs / "pip", "check")
    for command in ("launch", "table", "train"):
        run(programs / "ckconv-sweep", command, "--help", cwd=empty)
    finish_a_sweep(programs, empty)
    run(
        *(programs / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore"),
        *("-m", "not slow and not ray", "tests/search", "tests/record/test_study.py"),
        *("tests/report/test_plots.py", "tests/report/test_importance.py"),
        cwd=ROOT,
    )
