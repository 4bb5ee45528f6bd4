from __future__ import annotations

from pathlib import Path

import pytest

from ckconv_sweep.config import bundled
from ckconv_sweep.errors import ConfigError

from .conftest import Write


@pytest.fixture(autouse=True)
def shipped(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships two spaces and one trial, looked at from an empty folder."""
    write("shipped/search_spaces/quickstart.yaml", "search: {}\n")
    write("shipped/search_spaces/smnist.yaml", "search: {}\n")
    write("shipped/trials/smnist_98k.yaml", "data: {}\n")
    monkeypatch.setattr(bundled, "folder", lambda kind: tmp_path / "shipped" / kind)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "shipped"


def test_names_are_those_of_the_files_in_order() -> None:
    assert bundled.names("search_spaces") == ["quickstart", "smnist"]


def test_a_bundled_file_is_found_by_its_name(shipped: Path) -> None:
    assert bundled.locate("smnist_98k", "trials") == shipped / "trials/smnist_98k.yaml"


def test_a_file_is_found_by_its_path(write: Write) -> None:
    path = write("mine.yaml", "")
    assert bundled.locate(str(path), "trials") == path


def test_a_file_here_comes_before_a_bundled_one() -> None:
    Path("quickstart").write_text("search: {}\n")
    assert bundled.locate("quickstart", "search_spaces") == Path("quickstart")


def test_a_folder_here_does_not_hide_a_bundled_file(shipped: Path) -> None:
    Path("quickstart").mkdir()
    expected = shipped / "search_spaces/quickstart.yaml"
    assert bundled.locate("quickstart", "search_spaces") == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("quickstrt", "neither a file nor a bundled space\n  did you mean 'quickstart'?"),
        ("zzz", "neither a file nor a bundled space\n  there are: quickstart, smnist"),
        ("quickstart.yaml", "no such file\n  bundled spaces: quickstart, smnist"),
        ("my/space", "no such file\n  bundled spaces: quickstart, smnist"),
        (
            "smnist_98k",
            "this is a bundled trial, not a space\n  bundled spaces: quickstart, smnist",
        ),
        ("x" * 300, "neither a file nor a bundled space\n  there are: quickstart, smnist"),
        ("a\0b", "neither a file nor a bundled space\n  there are: quickstart, smnist"),
        ("../here", "this is a folder, not a file"),
        ("../here/", "this is a folder, not a file"),
        ("*", "neither a file nor a bundled space\n  there are: quickstart, smnist"),
    ],
)
def test_what_is_not_found_is_told_with_what_there_is(given: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        bundled.locate(given, "search_spaces")
    assert str(refusal.value) == f"{given}: {message}"


def test_the_folder_is_beside_the_package_in_a_checkout_and_in_it_in_a_wheel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(bundled, "__file__", str(tmp_path / "package/config/bundled.py"))
    assert bundled.folder("trials") == tmp_path / "trials"
    (tmp_path / "package/bundled/trials").mkdir(parents=True)
    assert bundled.folder("trials") == tmp_path / "package/bundled/trials"
