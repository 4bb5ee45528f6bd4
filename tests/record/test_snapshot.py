from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from ckconv_sweep.errors import SweepBusy
from ckconv_sweep.record import snapshot
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.snapshot import copied, damage

from .small import forked, in_a_mount, writing


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file()}


def killed_after(folder: SweepFolder, epochs: int) -> None:
    with forked(writing(folder)) as driver:
        for _ in range(epochs):
            assert driver.line()


def history_of(copy: Path) -> list[int]:
    with SweepFolder(copy.parent, "digits").records.open() as study:
        return [e.number for record in study.trials() for e in record.history]


def test_a_copy_has_what_is_still_in_the_log_and_the_original_is_not_touched(
    folder: SweepFolder,
) -> None:
    killed_after(folder, 5)
    before = content(folder.root)
    assert "study.db-wal" in before
    with copied(folder.records.path) as copy:
        assert damage(copy) is None
        assert len(history_of(copy)) >= 5
    assert content(folder.root) == before
    assert not copy.exists()


def test_a_copy_of_a_stopped_writers_file_is_whole_wherever_it_stopped(
    folder: SweepFolder,
) -> None:
    import signal

    with forked(writing(folder)) as driver:
        for _ in range(10):
            said = int(driver.line())
            os.kill(driver.pid, signal.SIGSTOP)
            os.waitpid(driver.pid, os.WUNTRACED)  # it may be amid a write
            before = content(folder.root)
            with copied(folder.records.path) as copy:
                assert damage(copy) is None
                found = history_of(copy)
            assert found == list(range(1, len(found) + 1))
            assert len(found) >= said
            assert content(folder.root) == before
            os.kill(driver.pid, signal.SIGCONT)


def test_a_file_that_never_rests_is_not_copied_in_pieces(
    folder: SweepFolder, new_study: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.records.path.write_bytes(new_study)
    times = itertools.count()
    monkeypatch.setattr(snapshot, "_TRIES", 3)
    monkeypatch.setattr(snapshot, "_state", lambda parts: {folder.records.path: (0, next(times))})
    with pytest.raises(SweepBusy, match="written to all the time"), copied(folder.records.path):
        pass


@pytest.mark.fault("read-only-storage")
def test_a_study_on_a_read_only_file_system_is_read(folder: SweepFolder) -> None:
    killed_after(folder, 3)
    kept = folder.root.parent.parent / "kept"
    shutil.copytree(folder.root, kept / "digits")
    code = """
import shutil, subprocess, sys
from pathlib import Path
from ckconv_sweep.record.snapshot import copied, damage
shutil.copytree(KEPT, sys.argv[1], dirs_exist_ok=True)
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
with copied(Path(sys.argv[1]) / "digits" / "study.db") as copy:
    print(damage(copy))
""".replace("KEPT", repr(str(kept)))
    assert in_a_mount(folder.root.parent.parent / "mount", "size=4m", code) == ["None"]


@pytest.mark.fault("damaged-study")
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"no database at all" * 100, "file is not a database"),
        (b"SQLite format 3\0" + bytes(5_000), "database disk image is malformed|not a database"),
    ],
)
def test_what_is_wrong_with_a_copy_is_said(content: bytes, why: str, tmp_path: Path) -> None:
    import re

    path = tmp_path / "study.db"
    path.write_bytes(content)
    assert re.search(why, damage(path) or "")


def test_a_whole_database_has_no_damage(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("create table a (b)")
    connection.close()
    assert damage(tmp_path / "x.db") is None
