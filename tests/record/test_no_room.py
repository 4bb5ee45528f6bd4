"""Reading where nothing can be written: SQLite keeps files beside a study that it only reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ckconv_sweep.errors import CannotWrite, DamagedData
from ckconv_sweep.record import snapshot
from ckconv_sweep.record.folder import SweepFolder

from .small import SPACE, ask, epoch, forked, in_a_mount, writing

READ = """
import shutil, subprocess, sys
from pathlib import Path
from ckconv_sweep.record.folder import SweepFolder
place = Path(sys.argv[1])
shutil.copytree(KEPT, place, dirs_exist_ok=True)
BEFORE
with SweepFolder(place / "digits", "digits").records.open() as study:
    print(*(len(record.history) for record in study.trials()))
print(*sorted(path.name for path in Path("/dev/shm").glob("ckconv-sweep-*")))
"""
FULL = """
with contextlib.suppress(OSError), (place / "fill").open("wb", buffering=0) as file:
    while file.write(bytes(4096)):
        pass
"""
READ_ONLY = 'subprocess.run(["mount", "-o", "remount,ro", place], check=True)'
NO_TEMPORARY = "import tempfile\ntempfile.tempdir = str(place)"


@pytest.fixture(params=["closed", "killed"])
def kept(request: pytest.FixtureRequest, folder: SweepFolder) -> Path:
    """A folder of sweeps; their driver ended, or was killed and left a write-ahead log."""
    if request.param == "closed":
        with folder.records.create(SPACE) as study:
            ask(study)
            for number in range(1, 4):
                study.add_epoch(0, epoch(number), 0.5)
    else:
        with forked(writing(folder)) as driver:
            for _ in range(3):
                assert driver.line()
        assert folder.records.path.with_name("study.db-wal").stat().st_size
    to = folder.root.parent.parent / "kept"
    shutil.copytree(folder.root, to / "digits")
    return to


def read_after(kept: Path, *before: str) -> int:
    """The epochs that are read of a copy of the sweeps after some lines of Python."""
    code = READ.replace("KEPT", repr(str(kept))).replace("BEFORE", "\n".join(before))
    epochs, left = in_a_mount(kept.with_name("mount"), "size=4m", f"import contextlib\n{code}")
    assert left == ""
    return int(epochs)


@pytest.mark.fault("disk-full")
def test_a_study_on_a_full_disk_is_read(kept: Path) -> None:
    assert read_after(kept, FULL) >= 3


@pytest.mark.fault("disk-full")
def test_a_study_is_read_where_the_temporary_folder_is_full_too(kept: Path) -> None:
    assert read_after(kept, FULL, NO_TEMPORARY) >= 3


@pytest.mark.fault("read-only-storage")
def test_a_study_on_a_read_only_disk_is_read(kept: Path) -> None:
    assert read_after(kept, READ_ONLY, NO_TEMPORARY) >= 3


@pytest.fixture
def without_room(kept: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A sweep that SQLite cannot open in its place."""
    from ckconv_sweep.record import database

    real, folder = database.storage_at, SweepFolder(kept / "digits", "digits")

    def elsewhere(path: Path) -> object:
        if path == folder.records.path:
            raise CannotWrite("the study cannot be written: disk I/O error", where=str(path))
        return real(path)

    monkeypatch.setattr(database, "storage_at", elsewhere)
    return folder


@pytest.mark.fault("disk-full")
def test_a_reader_takes_a_copy_where_sqlite_cannot_open_the_study(
    without_room: SweepFolder,
) -> None:
    before = {path.name: path.read_bytes() for path in without_room.root.glob("study.db*")}
    with without_room.records.open() as study:
        assert len(study.trials()[0].history) >= 3
        assert study.folder == without_room
    assert {p.name: p.read_bytes() for p in without_room.root.glob("study.db*")} == before


@pytest.mark.fault("disk-full")
def test_who_writes_is_never_given_a_copy(without_room: SweepFolder) -> None:
    with (
        pytest.raises(CannotWrite, match="disk I/O error"),
        without_room.records.open_for_writing(),
    ):
        pass


@pytest.mark.fault("disk-full")
def test_where_there_is_no_room_for_a_copy_either_that_is_said(
    without_room: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_places", lambda: [Path("/proc"), Path("/nowhere")])
    with pytest.raises(CannotWrite, match="disk I/O error") as refused, without_room.records.open():
        pass
    assert refused.value.where == str(without_room.records.path)
    assert "no room for a copy of it: /proc, /nowhere" in (refused.value.hint or "")


@pytest.mark.fault("damaged-study")
def test_damage_of_a_study_that_is_read_from_a_copy_is_named_in_its_place(
    without_room: SweepFolder,
) -> None:
    without_room.records.path.write_bytes(b"no database" * 1000)
    with pytest.raises(DamagedData) as damaged, without_room.records.open():
        pass
    assert damaged.value.where == str(without_room.records.path)
