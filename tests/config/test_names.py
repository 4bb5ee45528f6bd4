from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ckconv_sweep.config.names import check_sweep_name, expanded
from ckconv_sweep.errors import ConfigError

from .conftest import examples


@pytest.mark.parametrize("name", ["smnist", "a", "2024-run_3.b", "A" * 80, "console", "com10"])
def test_a_plain_word_is_a_name(name: str) -> None:
    assert check_sweep_name(name) == name


@pytest.mark.fault("strange-names")
@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/abs",
        "a/b",
        "a\\b",
        "C:",
        "-x",
        "_x",
        ".x",
        "a b",
        "a\n",
        "x.",
        "a\0",
    ]
    + ["CON", "nul", "com1", "Lpt9.txt", "x" * 81, "x" * 300, "swe\N{COMBINING ACUTE ACCENT}p"]
    + ["\N{ROCKET}", "~", "$HOME", "a;b", "%41", "\ud800", "a\udcff", "\N{CYRILLIC SMALL LETTER A}"]
    + ["a\N{RIGHT-TO-LEFT OVERRIDE}b", "a\x1b[31m", "aux.b.c", "NUL ", "x" * 100_000],
)
def test_what_could_be_another_folder_or_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"--name: .* cannot be the name of a sweep") as refusal:
        check_sweep_name(name)
    assert "letters, digits" in (refusal.value.hint or "")
    str(refusal.value).encode()  # can be printed
    assert len(str(refusal.value)) < 300


@pytest.mark.fault("path-in-name")
@examples
@given(st.text(max_size=90) | st.text("aZ0._-/\\: \n", max_size=12))
@example("..")
@example("a\n")
def test_an_accepted_name_is_a_direct_child_of_the_sweeps_folder(name: str) -> None:
    try:
        accepted = check_sweep_name(name)
    except ConfigError:
        return
    sweeps = Path("/sweeps")
    assert accepted == name
    assert (sweeps / accepted).resolve().parent == sweeps
    assert (sweeps / accepted).name == name


@pytest.mark.fault("odd-surroundings")
def test_a_home_folder_that_nobody_knows_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded(Path("~/sweeps")) == tmp_path / "sweeps"
    assert expanded(Path("a/~")) == Path("a/~")
    with pytest.raises(ConfigError, match="~nobody-of-this-name/x: no home folder") as refused:
        expanded(Path("~nobody-of-this-name/x"))
    assert "set HOME" in (refused.value.hint or "")
