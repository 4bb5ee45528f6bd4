from __future__ import annotations

from pathlib import Path

import pytest

from .commands import NOBODY, SPACE, TRIAL, ckconv_sweep, ended


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a small space, `small.yaml`, and its base trial."""
    return _with_files(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the sweep `small` was launched, and ran to its end. Not to be changed."""
    folder = _with_files(tmp_path_factory.mktemp("finished"))
    said = ended(ckconv_sweep("launch", "small.yaml", cwd=folder))
    (folder / "said").write_text(said)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `trial.yaml` was trained. Not to be changed."""
    folder = _with_files(tmp_path_factory.mktemp("trained"))
    said = ended(ckconv_sweep("train", "trial.yaml", "--tracking-uri", NOBODY, cwd=folder))
    (folder / "said").write_text(said)
    return folder


def _with_files(folder: Path) -> Path:
    (folder / "trial.yaml").write_text(TRIAL)
    (folder / "small.yaml").write_text(SPACE)
    return folder
