"""Snapshots of a study beside its trials' files, and whose those files are."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.errors import ConfigError, DamagedData, SweepBusy
from ckconv_sweep.record import backup, elsewhere
from ckconv_sweep.record.backup import PATTERN, Backup, put_snapshot, restore
from ckconv_sweep.record.blobs import blobs_at, place_of
from ckconv_sweep.record.elsewhere import Claim, forget_unknown, owner, settle
from ckconv_sweep.record.folder import SweepFolder
from tests.sweep.in_process import Machine, machine, make_space

pytestmark = pytest.mark.fault("driver-machine-lost")


@pytest.fixture
def one(tmp_path: Path) -> Machine:
    """A sweep that has ended, with its files elsewhere."""
    made = machine(tmp_path / "a", make_space(trials=3))
    made.folder.keep_files_at(tmp_path / "files")
    assert made.run()
    return made


def names(one: Machine) -> list[str]:
    return list(blobs_at(one.folder.files).list(PATTERN))


def claimed(one: Machine) -> Claim:
    claim = Claim(one.folder, "uid")
    blobs_at(one.folder.files).make()
    claim.make()
    return claim


def backup_of(one: Machine, claim: Claim) -> tuple[Backup, list[Exception], list[str]]:
    stopped, said = list[Exception](), list[str]()
    return Backup(one.folder, claim, stop=stopped.append, say=said.append), stopped, said


def test_a_trials_files_lie_where_the_sweep_was_launched_with(one: Machine, tmp_path: Path) -> None:
    assert one.folder.trial(2) == tmp_path / "files" / "trials" / "0002"
    assert (one.folder.trial(2) / "lease").is_file()
    assert not any((one.folder.root / "trials").iterdir())


def test_a_study_that_is_restored_is_the_one_of_the_snapshot(one: Machine, tmp_path: Path) -> None:
    blobs_at(one.folder.files).make()
    put_snapshot(one.folder.records.path, one.folder.files)
    folder = SweepFolder.of(tmp_path / "b", "sweep")
    restore(one.folder.files, folder)
    assert folder.files == one.folder.files
    with folder.records.open() as study, one.folder.records.open() as before:
        assert study.trials() == before.trials()
        assert study.notes() == before.notes()
    with pytest.raises(ConfigError, match="a sweep of this name is here already"):
        restore(one.folder.files, folder)


def test_a_snapshot_is_taken_while_the_study_is_written_to(one: Machine) -> None:
    blobs_at(one.folder.files).make()
    with sqlite3.connect(one.folder.records.path) as writer:
        writer.execute("begin immediate")
        writer.execute("delete from trials")
        put_snapshot(one.folder.records.path, one.folder.files)
        writer.rollback()
    (name,) = names(one)
    restored = sqlite3.connect(one.folder.files / name)
    assert restored.execute("select count(*) from trials").fetchone() == (3,)


@pytest.mark.fault("damaged-study")
def test_of_damaged_snapshots_an_older_one_is_taken_and_none_is_parsed(
    one: Machine, tmp_path: Path
) -> None:
    place = one.folder.files
    blobs_at(place).make()
    for _ in range(3):
        put_snapshot(one.folder.records.path, place)
    first, last = names(one)  # the two newest are kept
    (place / last).write_bytes((place / last).read_bytes()[:-100])
    restore(place, SweepFolder.of(tmp_path / "b", "sweep"))
    (place / first).write_bytes(b"")
    with pytest.raises(DamagedData, match=r"no snapshot is whole: .* its SHA-256 begins with"):
        restore(place, SweepFolder.of(tmp_path / "c", "sweep"))
    assert not (tmp_path / "c").exists()
    shutil.rmtree(place)
    with pytest.raises(ConfigError, match="no snapshot of a sweep is here"):
        restore(place, SweepFolder.of(tmp_path / "c", "sweep"))


def test_there_is_a_snapshot_at_the_start_after_each_end_and_at_the_close(one: Machine) -> None:
    made, stopped, said = backup_of(one, claimed(one))
    one.listeners = (made,)
    made.start()
    assert len(names(one)) == 1
    one.space = make_space(trials=5)
    assert one.run()
    made.close()
    copy = sqlite3.connect(one.folder.files / names(one)[-1])
    assert copy.execute("select count(*) from trials").fetchone() == (5,)
    assert (stopped, said) == ([], [])


@pytest.mark.fault("two-drivers")
def test_a_driver_ends_whose_sweep_was_continued_elsewhere(one: Machine) -> None:
    first = claimed(one)
    made, stopped, _ = backup_of(one, first)
    made.start()
    before = names(one)
    claimed(one).check()
    with pytest.raises(SweepBusy, match="the sweep was continued on"):
        first.check()
    made._wanted.set()
    made._thread.join()
    assert [type(error) for error in stopped] == [SweepBusy]
    assert names(one) == before


def test_a_snapshot_that_cannot_be_written_is_reported_once_and_tried_again(
    one: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_AGAIN_SECONDS", 0.0)
    made, stopped, said = backup_of(one, claimed(one))
    made.start()
    (before,) = names(one)
    real, failures = backup.put_snapshot, iter([True, True, False])

    def failing(*given: Any) -> None:
        if next(failures, False):
            raise sqlite3.OperationalError("disk I/O error")
        real(*given)

    monkeypatch.setattr(backup, "put_snapshot", failing)
    made._wanted.set()
    while names(one)[-1] == before:
        pass
    made.close()
    assert said == ["no snapshot of the study can be written: disk I/O error"]
    assert stopped == []


def test_the_files_of_trials_that_a_snapshot_does_not_know_are_forgotten(one: Machine) -> None:
    for number in (1, 3, 12):
        blobs_at(one.folder.trial(number)).make()
        (one.folder.trial(number) / "best-0123456789abcdef.pt").touch()
    assert forget_unknown(one.folder, [0, 1, 2]) == 2
    assert (one.folder.trial(1) / "best-0123456789abcdef.pt").exists()
    assert not any((one.folder.trial(3)).iterdir())


def test_files_of_another_sweep_are_left_alone(one: Machine, tmp_path: Path) -> None:
    with one.folder.records.open() as study:
        uid = study.uid
    Claim(one.folder, uid).make()
    settle(one.folder, None, uid)
    new = SweepFolder.of(tmp_path / "b", "files")
    with pytest.raises(
        ConfigError, match=r"the files of another sweep are in .*/files, last"
    ) as no:
        settle(new, str(tmp_path), None)
    assert f"ckconv-sweep resume --from {one.folder.files}" in str(no.value)
    with pytest.raises(ConfigError, match=r"trials are in .*/files, not in .*/x/sweep"):
        settle(one.folder, str(tmp_path / "x"), uid)
    ordinary = SweepFolder.of(tmp_path / "e", "a")
    with pytest.raises(ConfigError, match="there are other files in"):
        settle(ordinary, str(tmp_path), None)
    copy = SweepFolder.of(tmp_path / "c", "sweep")
    shutil.copytree(one.folder.root, copy.root)
    with pytest.raises(ConfigError, match=r"this is a copy of the sweep in .*, and both have"):
        settle(copy, None, uid, copy_of=one.folder.root)
    assert owner(one.folder.files)["folder"] == str(one.folder.root)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("gs://bucket/x", "gs:// was not tried"),
        ("s3://key:secret@bucket/x", "with a password"),
        ("s3://", "no address of an object store"),
        ("s3://bucket/a b", "no address of an object store"),
        ("s3://bucket/x?tls=1", "unknown after the question mark: tls"),
    ],
)
def test_an_address_that_was_not_tried_is_refused(uri: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        place_of(uri)


def test_an_address_is_read_as_it_is_written() -> None:
    for uri in ("s3://bucket", "s3://bucket/a/b", "s3://b-1.x/a?endpoint_override=localhost:9000"):
        assert str(place_of(uri)) == uri
    place = place_of("s3://bucket/a/?scheme=http") / "trials" / "0001"
    assert str(place) == "s3://bucket/a/trials/0001?scheme=http"
    assert (place.name, str(place.parent)) == ("0001", "s3://bucket/a/trials?scheme=http")
    assert elsewhere.asked_place("s3://bucket/a", "mine") == place_of("s3://bucket/a/mine")
