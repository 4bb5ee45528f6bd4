from __future__ import annotations

import os
from pathlib import Path

import pytest

from ckconv_sweep.config.names import SWEEPS_DIR
from ckconv_sweep.errors import CannotWrite, ConfigError
from ckconv_sweep.record.folder import SweepFolder, all_sweeps


def sweep(sweeps: Path, name: str) -> SweepFolder:
    folder = SweepFolder.of(sweeps, name)
    folder.make()
    folder.records.path.touch()
    return folder


def test_everything_of_a_sweep_lies_in_its_folder(tmp_path: Path) -> None:
    folder = SweepFolder.of(tmp_path, "digits")
    root = tmp_path.resolve() / "digits"
    assert folder.root == root
    assert [folder.records.path, folder.space, (folder.root / "lock")] == [
        root / "study.db",
        root / "space.yaml",
        root / "lock",
    ]
    assert folder.trial(4) == root / "trials" / "0004"
    assert folder.trial(12345) == root / "trials" / "12345"


def test_the_root_is_absolute_and_the_home_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert SweepFolder.of(Path("sweeps"), "a").root == tmp_path.resolve() / "sweeps" / "a"
    assert SweepFolder.of(Path("~/sweeps"), "a").root == tmp_path.resolve() / "home/sweeps/a"


@pytest.mark.fault("path-in-name")
@pytest.mark.parametrize("name", ["../x", "/abs", "a/b", "a\\b", "..", ".", "", "CON", "a\0b", "é"])
def test_a_name_that_is_no_folders_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a sweep"):
        SweepFolder.of(tmp_path, name)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_folders_are_the_owners_alone(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        folder = SweepFolder.of(tmp_path / "sweeps", "digits")
        folder.make()
        folder.make()  # again changes nothing
    finally:
        os.umask(before)
    for path in (folder.root.parent, folder.root, folder.root / "trials"):
        assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.fault("read-only-storage")
def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "sweeps").write_text("a file")
    with pytest.raises(
        CannotWrite, match=r"sweeps/digits: cannot be made: (File exists|Not a dir)"
    ):
        SweepFolder.of(tmp_path / "sweeps", "digits").make()


@pytest.mark.fault("study-taken-away")
@pytest.mark.parametrize("beside", [True, False])
def test_what_was_made_for_a_sweep_that_did_not_begin_is_taken_away(
    beside: bool, tmp_path: Path
) -> None:
    if beside:
        SweepFolder.of(tmp_path / "sweeps", "other").make()
    folder = SweepFolder.of(tmp_path / "sweeps", "digits")
    made = folder.make()
    (folder.root / "lock").touch()
    folder.remove_if_unused(made)
    assert not folder.root.exists()
    assert folder.root.parent.exists() == beside


@pytest.mark.fault("study-taken-away")
@pytest.mark.parametrize(
    "left", ["study.db", "notes.txt", "trials/0000/best-0123456789abcdef.pt", ".tmp-study.db"]
)
def test_a_folder_that_holds_anything_is_left_as_it_is(left: str, tmp_path: Path) -> None:
    folder = SweepFolder.of(tmp_path / "sweeps", "digits")
    made = folder.make()
    (folder.root / "lock").touch()
    (folder.root / left).parent.mkdir(exist_ok=True)
    (folder.root / left).write_text("results")
    folder.remove_if_unused(made)
    assert (folder.root / left).read_text() == "results"


def test_a_folder_that_was_there_before_is_not_taken_away(tmp_path: Path) -> None:
    folder = SweepFolder.of(tmp_path / "sweeps", "digits")
    folder.make()
    (folder.root / "lock").touch()
    folder.remove_if_unused(folder.make())
    assert (folder.root / "lock").exists()


def test_a_sweep_that_is_there_is_found(tmp_path: Path) -> None:
    assert SweepFolder.existing(tmp_path, sweep(tmp_path, "digits").name).records.exists()


@pytest.mark.parametrize(
    ("there", "hint"),
    [
        ([], "no sweep was launched here yet"),
        (["digits", "mnist"], "did you mean 'digits'?"),
        (["mnist", "copy"], "there are: copy, mnist"),
    ],
)
def test_a_sweep_that_is_missing_is_said_with_the_ones_that_are_there(
    there: list[str], hint: str, tmp_path: Path
) -> None:
    for name in there:
        sweep(tmp_path, name)
    with pytest.raises(ConfigError) as caught:
        SweepFolder.existing(tmp_path, "digit")
    assert str(caught.value) == f"{tmp_path.resolve()}: there is no sweep 'digit'\n  {hint}"


def test_a_folder_without_a_study_is_no_sweep(tmp_path: Path) -> None:
    SweepFolder.of(tmp_path, "half").make()
    assert all_sweeps(tmp_path) == []
    with pytest.raises(ConfigError, match="there is no sweep 'half'"):
        SweepFolder.existing(tmp_path, "half")


def test_all_sweeps_are_listed_by_name(tmp_path: Path) -> None:
    made = [sweep(tmp_path, name) for name in ("b", "a", "c")]
    assert all_sweeps(tmp_path) == sorted(made, key=lambda folder: folder.name)
    with pytest.raises(ConfigError, match="no such folder"):
        all_sweeps(tmp_path / "nowhere")


def test_the_default_folder_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert all_sweeps(SWEEPS_DIR) == []
