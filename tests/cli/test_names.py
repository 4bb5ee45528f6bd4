"""What a sweep may be called, asked of the program itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .commands import ckconv_sweep, files_in, refused

STRANGE = {
    "emoji": "\N{ROCKET}",
    "accents": "größe",
    "300 letters": "x" * 300,
    "half a character": os.fsdecode(b"a\xff"),
    "escape code": "a\x1b[31m",
    "line break": "a\nb",
    "nothing": "",
    "a device of Windows": "con",
    "a query": "r' AND params.lr = '0.1",
}
OUTSIDE = ["../x", "/abs", "a/../../b", "..", "a\\..\\b", "sweeps/../../x"]


@pytest.mark.fault("strange-names")
@pytest.mark.parametrize("name", STRANGE.values(), ids=STRANGE.keys())
def test_a_strange_name_is_refused_with_the_rule(name: str, here: Path) -> None:
    before = files_in(here)
    said = refused(ckconv_sweep("launch", "small.yaml", f"--name={name}", cwd=here))
    assert said.startswith("error: --name: ")
    assert "cannot be the name of a sweep\n  use letters, digits, '.', '_' and '-'" in said
    assert len(said) < 400
    assert files_in(here) == before


@pytest.mark.fault("strange-names")
def test_a_file_whose_name_cannot_be_a_sweeps_is_refused_with_the_rule(here: Path) -> None:
    (here / "small.yaml").rename(here / "größe.yaml")
    said = refused(ckconv_sweep("launch", "größe.yaml", cwd=here))
    assert said.startswith("error: --name: 'größe' cannot be the name of a sweep\n  use letters")


@pytest.mark.fault("path-in-name")
@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_the_sweeps_folder(name: str, tmp_path: Path, here: Path) -> None:
    before = files_in(here)
    said = refused(ckconv_sweep("launch", "small.yaml", f"--name={name}", cwd=here))
    assert "cannot be the name of a sweep" in said
    assert files_in(here) == before
    assert {path.name for path in tmp_path.iterdir()} == {"small.yaml", "trial.yaml"}


@pytest.mark.fault("path-in-name")
@pytest.mark.parametrize("command", ["status", "table", "best", "resume", "sync"])
def test_no_command_looks_outside_the_sweeps_folder(command: str, here: Path) -> None:
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "study.db").write_bytes(b"")
    (here / "sweeps").mkdir()
    said = refused(ckconv_sweep(command, "../elsewhere", cwd=here))
    assert "'../elsewhere' cannot be the name of a sweep" in said
