"""Files that are no files: standard input, and the pipes of a shell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .commands import ended, environment, files_in, refused


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What a user types into bash, with `ckconv-sweep` as the program."""
    program = f'ckconv-sweep() {{ {sys.executable} -m ckconv_sweep "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", program + line],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("ckconv-sweep validate - < small.yaml", "standard input"),
        ("cat small.yaml | ckconv-sweep validate -", "standard input"),
        ("cat small.yaml | ckconv-sweep validate /dev/stdin", "standard input"),
        ("ckconv-sweep validate <(cat small.yaml)", "/dev/fd/63"),
    ],
)
def test_a_space_is_read_from_a_pipe_and_its_base_trial_from_the_current_folder(
    line: str, name: str, here: Path
) -> None:
    said = ended(shell(line, here))
    assert said.startswith(f"{name}: a space of 2 searched settings, 3 trials")


def test_a_trial_is_read_from_a_pipe(here: Path) -> None:
    said = ended(shell("cat trial.yaml | ckconv-sweep validate -", here))
    assert said == "standard input: a trial on digits, 3 epochs: valid\n"


def test_launch_takes_a_space_from_a_pipe(here: Path) -> None:
    before = files_in(here)
    line = "cat small.yaml | ckconv-sweep launch - --name piped --dry-run"
    assert f"it would be kept in {here}/sweeps/piped" in ended(shell(line, here))
    assert files_in(here) == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "ckconv-sweep launch - < small.yaml",
            "error: --name: needed here, because - has no name\n"
            "  name the sweep, as in --name mine\n",
        ),
        (
            "ckconv-sweep train - < trial.yaml",
            "error: --out: needed here, because - has no name\n"
            "  name a folder, as in --out runs/mine\n",
        ),
        (
            "sed s/dropout/dropuot/ small.yaml | ckconv-sweep launch - --name piped",
            "error: standard input:4: search: no setting is called 'model.dropuot'\n"
            "  did you mean 'model.dropout'?\n",
        ),
        (
            "ckconv-sweep launch - --name piped < trial.yaml",
            "error: standard input: this is a trial, not a search space\n"
            "  train it: ckconv-sweep train -\n",
        ),
        (
            "ckconv-sweep validate - < /dev/null",
            "error: standard input: a trial must be a block of settings\n",
        ),
        (
            "ckconv-sweep validate /dev/zero",
            "error: /dev/zero: a settings file of more than 262,144 bytes is refused\n",
        ),
    ],
)
def test_a_mistake_in_a_pipe_is_one_message(line: str, message: str, here: Path) -> None:
    before = files_in(here)
    assert refused(shell(line, here)) == message
    assert files_in(here) == before
