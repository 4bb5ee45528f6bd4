from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ckconv_sweep
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record import versions as module
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.versions import check, differences, note, noted, versions

NOW = {"ckconv-sweep": "1.4.0", "python": "3.11.7", "torch": "2.13.0", "code": "0123456789abcdef"}

Session = Callable[..., list[str]]


@pytest.fixture
def session(study: Study, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Lets a session of the study begin under versions of its own; returns what is said then."""
    sessions: list[int] = []

    def begin(allow_code_change: bool = False, **changes: str) -> list[str]:
        monkeypatch.setattr(module, "versions", lambda: NOW | changes)
        said = check(study, allow_code_change=allow_code_change)
        note(study, session=len(sessions) + 1)
        sessions.append(0)
        study.set_note("sessions", sessions)
        return said

    return begin


def test_the_versions_are_those_that_are_installed() -> None:
    import numpy
    import optuna

    found = versions()
    assert found["numpy"] == numpy.__version__
    assert found["optuna"] == optuna.__version__
    assert found["ckconv-sweep"] == ckconv_sweep.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert len(found["code"]) == 16


def test_asking_for_the_versions_imports_none_of_the_packages() -> None:
    code = (
        "import sys; from ckconv_sweep.record.versions import versions; versions(); "
        "assert not {'torch', 'ray', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.fault("unreleased-format")
@pytest.mark.parametrize("other", [None, module.FORMAT + 1])
def test_a_study_of_another_format_is_refused(other: int | None, study: Study) -> None:
    study.set_note("format", other)
    with pytest.raises(ConfigError, match="an unreleased version of ckconv-sweep began this") as no:
        check(study, allow_code_change=True)
    assert f"launch {study.folder.space} with another --name" in str(no.value)


@pytest.mark.fault("code-changed")
def test_the_hash_of_the_code_changes_with_any_byte_that_trains_and_with_nothing_else(
    tmp_path: Path,
) -> None:
    package = tmp_path / "ckconv_sweep"
    shutil.copytree(Path(ckconv_sweep.__file__).parent, package)

    def now() -> str:
        module._code.cache_clear()
        return module._code(package)

    before = now()
    (package / "cli" / "look.py").write_text("")
    (package / "training" / "__pycache__").mkdir(exist_ok=True)
    (package / "training" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert now() == before
    for folder in ("training", "models/kernel_nets", "data"):
        path = package / folder / "__init__.py"
        whole = path.read_bytes()
        path.write_bytes(whole + b"#")
        assert now() != before
        path.write_bytes(whole)
        assert now() == before
    (package / "models" / "ckcnn.py").rename(package / "models" / "ckcnn2.py")
    assert now() != before


@pytest.mark.parametrize(
    ("before", "now", "major"),
    [
        ("2.13.0", "2.13.1", False),
        ("2.13.0", "2.14.0+cpu", False),
        ("2.13.0", "3.0.0", True),
        ("3.0.0", "2.13.0", True),
        ("0.1.0", "0.1.9", False),
        ("0.1.0", "0.2.0", True),
        ("0.9.0", "1.0.0", True),
    ],
)
def test_a_major_version_is_the_first_number_or_the_second_before_one(
    before: str, now: str, major: bool
) -> None:
    (difference,) = differences({"torch": before}, {"torch": now})
    assert difference.major == major
    (difference,) = differences({"python": before}, {"python": now})
    assert not difference.major


@pytest.mark.fault("code-changed")
def test_the_same_versions_are_noted_once_and_nothing_is_said(
    session: Session, study: Study
) -> None:
    assert [session(), session()] == [[], []]
    assert noted(study) == [{"session": 1, **NOW}]


@pytest.mark.fault("code-changed")
def test_another_small_version_is_said_in_a_line_each_and_noted_with_its_session(
    session: Session, study: Study
) -> None:
    session()
    changes = {"torch": "2.13.1", "code": "f" * 16}
    assert session(**changes) == [
        "torch was 2.13.0, is 2.13.1; results of new epochs may differ",
        "the code that trains was 0123456789abcdef, is ffffffffffffffff; results of new epochs "
        "may differ",
    ]
    assert session(**changes) == []  # said once
    assert noted(study) == [{"session": 1, **NOW}, {"session": 2, **NOW, **changes}]


@pytest.mark.fault("code-changed")
@pytest.mark.parametrize("name", ["torch", "ckconv-sweep"])
def test_another_major_version_is_refused_unless_it_is_allowed(
    name: str, session: Session, study: Study
) -> None:
    session()
    with pytest.raises(ConfigError) as refused:
        session(**{name: "9.0.0"})
    assert f"another major version than the sweep was run with: {name} was" in str(refused.value)
    assert "--allow-code-change" in str(refused.value)
    assert len(noted(study)) == 1
    (line,) = session(allow_code_change=True, **{name: "9.0.0"})
    assert line.startswith(f"{name} was ")
    assert session(**{name: "9.0.0"}) == []  # from now on it is the sweep's


def test_a_session_that_was_killed_before_its_first_trial_is_noted_anew(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "versions", lambda: NOW)
    note(study, session=1)
    monkeypatch.setattr(module, "versions", lambda: NOW | {"torch": "2.14.0"})
    note(study, session=2)
    monkeypatch.setattr(module, "versions", lambda: NOW)
    note(study, session=2)
    assert noted(study) == [{"session": 1, **NOW}]
