"""The commands on a sweep whose folder was copied, then renamed, then moved with all the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .commands import ckconv_sweep, copied, ended
from .forks import WITHOUT_RAY

pytestmark = [pytest.mark.ray, pytest.mark.fault("folder-renamed")]


def test_every_command_knows_a_sweep_that_was_copied_renamed_and_moved(
    finished: Path, tmp_path: Path
) -> None:
    copied(finished / "sweeps", tmp_path / "sweeps")
    original = tmp_path / "sweeps" / "small"
    shutil.copytree(original, tmp_path / "sweeps" / "copy")

    def said(*words: str) -> tuple[str, str]:
        done = ckconv_sweep(*words, cwd=tmp_path, **{WITHOUT_RAY: "1"})
        return ended(done), done.stderr

    def is_whole(name: str) -> None:
        assert json.loads(said("status", name, "--json")[0])["name"] == name
        rows = json.loads(said("table", name, "--format", "json")[0])
        assert sorted(row["trial"] for row in rows) == [0, 1, 2]
        assert " has every record" in said("doctor", name)[0]

    assert said("sync", "small")[1] == ""  # a copy of all sweeps goes on by itself
    assert f"a copy of the sweep in {original}" in said("doctor", "copy")[0]
    out, err = said("sync", "copy")
    assert err == f"this is a copy of the sweep in {original}; it gets runs of its own in MLflow\n"
    assert out.endswith("has all of copy\n")
    is_whole("copy")

    (tmp_path / "sweeps" / "copy").rename(tmp_path / "sweeps" / "renamed")
    was = f"this sweep was in {tmp_path / 'sweeps' / 'copy'}; it keeps its runs in MLflow"
    out, err = said("resume", "renamed")  # it is finished
    assert err.splitlines() == [was]
    is_whole("renamed")

    (tmp_path / "sweeps").rename(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "sweeps 2")
    moved = ("--sweeps-dir", "sweeps 2")
    out, err = said("resume", "renamed", "--trials", "4", *moved)
    assert f"this sweep was in {tmp_path / 'sweeps' / 'renamed'}" in out + err
    assert " has every record" in said("doctor", "renamed", *moved)[0]
    rows = json.loads(said("table", "renamed", "--format", "json", *moved)[0])
    assert sorted(row["trial"] for row in rows) == [0, 1, 2, 3]
    assert not (tmp_path / "sweeps").exists()
