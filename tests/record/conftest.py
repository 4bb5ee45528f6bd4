from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study

from .small import SPACE


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    folder = SweepFolder.of(tmp_path / "sweeps", "digits")
    folder.make()
    return folder


@pytest.fixture(scope="session")
def new_study(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a study without trials; copying it is quicker than making one."""
    folder = SweepFolder.of(tmp_path_factory.mktemp("sweeps"), "digits")
    folder.make()
    with folder.records.create(SPACE):
        pass
    return folder.records.path.read_bytes()


@pytest.fixture
def study(folder: SweepFolder, new_study: bytes) -> Iterator[Study]:
    folder.records.path.write_bytes(new_study)
    with folder.records.create(SPACE) as study:
        yield study
