"""A study whose file somebody removes, renames or replaces while it is open."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ckconv_sweep.errors import CannotWrite, DamagedData
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study

from .small import SPACE, ask, epoch

pytestmark = pytest.mark.fault("study-taken-away")


def remove(path: Path) -> None:
    for part in path.parent.glob("study.db*"):
        part.unlink()


def put_a_backup_back(path: Path) -> None:
    path.with_name("backup.db").rename(path)


def rename(path: Path) -> None:
    path.rename(path.with_name("old.db"))


TAKEN = {"removed or renamed": remove, "replaced by another file": put_a_backup_back}


def begin(study: Study) -> None:
    """A backup of a study with one epoch, then a second epoch."""
    ask(study)
    study.add_epoch(0, epoch(1), 0.5)
    connection = study._database.engine.raw_connection()
    connection.cursor().execute("VACUUM INTO ?", (str(study.folder.root / "backup.db"),))
    connection.close()
    study.add_epoch(0, epoch(2), 0.6)


WRITES: dict[str, Callable[[Study], object]] = {
    "an epoch": lambda study: study.add_epoch(0, epoch(3), 0.7),
    "an end": lambda study: study.end(0, "failed", reason="error"),
    "a new trial": lambda study: ask(study),
    "a note": lambda study: study.set_note("here", 1),
    "the space": lambda study: study.set_space(SPACE),
    "nothing": lambda study: None,
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("what", TAKEN)
def test_the_next_write_of_any_kind_and_the_end_of_the_session_notice_it(
    what: str, write: str, folder: SweepFolder
) -> None:
    with (
        pytest.raises(CannotWrite, match=f"the study was {what} while the sweep was") as caught,
        folder.records.create(SPACE) as study,
    ):
        begin(study)
        TAKEN[what](folder.records.path)
        WRITES[write](study)
    assert caught.value.exit_code == 73


@pytest.mark.parametrize("what", ["removed or renamed", "replaced by another file"])
def test_what_was_recorded_until_then_is_kept_beside_it_and_can_be_put_back(
    what: str, folder: SweepFolder
) -> None:
    with (
        pytest.raises(CannotWrite) as caught,
        folder.records.create(SPACE) as study,
    ):
        begin(study)
        TAKEN[what](folder.records.path)
        study.add_epoch(0, epoch(3), 0.7)
    (kept,) = folder.root.glob("study-rescued-*.db")
    assert kept.name in (caught.value.hint or "")
    assert kept.stat().st_mode & 0o777 == 0o600
    if what == "replaced by another file":  # and that is as it was
        with folder.records.open() as study:
            assert [e.number for e in study.trial(0).history] == [1]
    kept.rename(folder.records.path)
    with folder.records.create(SPACE) as study:
        assert [e.number for e in study.trial(0).history] == [1, 2, 3]
        study.add_epoch(0, epoch(4), 0.8)


def test_a_renamed_study_has_all_that_was_recorded(folder: SweepFolder) -> None:
    with pytest.raises(CannotWrite), folder.records.create(SPACE) as study:
        begin(study)
        rename(folder.records.path)
        study.add_epoch(0, epoch(3), 0.7)
    assert (folder.root / "old.db").exists()
    (kept,) = folder.root.glob("study-rescued-*.db")
    kept.rename(folder.records.path)
    with folder.records.open() as study:
        assert len(study.trial(0).history) == 3


def test_a_sweeps_folder_that_is_moved_is_noticed(folder: SweepFolder) -> None:
    with (
        pytest.raises(CannotWrite, match="the sweep's folder was moved or removed"),
        folder.records.create(SPACE) as study,
    ):
        begin(study)
        folder.root.rename(folder.root.with_name("elsewhere"))
        study.add_epoch(0, epoch(3), 0.7)


def test_a_backup_that_is_copied_over_the_file_is_noticed_at_the_end_at_last(
    folder: SweepFolder,
) -> None:
    """The file keeps its inode. SQLite may find it damaged before we count."""
    with (
        pytest.raises((CannotWrite, DamagedData)),
        folder.records.create(SPACE) as study,
    ):
        begin(study)
        shutil.copyfile(folder.root / "backup.db", folder.records.path)
        for part in folder.root.glob("study.db-*"):
            part.unlink()
        study.add_epoch(0, epoch(3), 0.7)


def test_a_file_that_grows_is_the_same(folder: SweepFolder) -> None:
    with folder.records.create(SPACE) as study:
        ask(study)
        for number in range(1, 400):
            study.add_epoch(0, epoch(number), 0.5)
    with folder.records.open() as study:
        assert len(study.trial(0).history) == 399
