"""`resume --from`: a sweep whose folder is lost is continued from its snapshot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ckconv_sweep.record.backup import put_snapshot
from ckconv_sweep.record.folder import SweepFolder

from .commands import ckconv_sweep, copied, ended, refused

pytestmark = pytest.mark.ray  # the sweep is a real one


@pytest.mark.fault("driver-machine-lost")
def test_a_sweep_is_restored_from_its_snapshot_alone_and_known_by_its_name(
    finished: Path, here: Path
) -> None:
    place = here / "files" / "small"
    copied(finished / "sweeps", here / "sweeps")
    folder = SweepFolder.existing(here / "sweeps", "small")
    shutil.copytree(folder.root / "trials", place / "trials")
    put_snapshot(folder.records.path, place)
    shutil.rmtree(folder.root)
    said = ended(ckconv_sweep("resume", "--from", "files/small", cwd=here))
    assert f"restored from {place} to {folder.root}" in said
    assert "small: 3 trials completed" in said
    assert folder.files == place
    best = ended(ckconv_sweep("best", "small", "--out", "best.yaml", cwd=here))
    assert f"its weights: {place / 'trials'}" in best
    again = refused(ckconv_sweep("resume", "--from", "files/small", cwd=here))
    assert f"a sweep of this name is here already: {folder.root}" in again


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--from", "nothing"], "no snapshot of a sweep is here"),
        (["--from", "gs://bucket/x"], "gs:// was not tried"),
    ],
)
def test_what_cannot_be_restored_is_refused_and_makes_nothing(
    arguments: list[str], told: str, here: Path
) -> None:
    assert told in refused(ckconv_sweep("resume", *arguments, cwd=here))
    assert not (here / "sweeps").exists()


def test_resume_needs_a_name_or_a_place(here: Path) -> None:
    done = ckconv_sweep("resume", cwd=here)
    assert done.returncode == 2
    assert "needed, unless --from is given" in done.stderr
