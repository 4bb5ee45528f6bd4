"""What is published of the package agrees with itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from ckconv_sweep import __version__

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"].values()
NEEDED = {line for lines in (PROJECT["dependencies"], *EXTRAS) for line in lines}


def pinned() -> dict[str, str]:
    """The name of each package in constraints.txt, as PyPI compares them -> its version."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert len({plain(name) for name, _ in pairs}) == len(pairs)
    return {plain(name): version for name, version in pairs}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("line", sorted(NEEDED))
def test_what_is_needed_is_pinned_to_a_version_that_is_allowed(line: str) -> None:
    needed = Requirement(line)
    assert pinned()[plain(needed.name)] in needed.specifier


def test_no_version_is_of_one_build() -> None:
    assert [version for version in pinned().values() if "+" in version] == []


def test_torch_may_be_any_2_from_2_10_on() -> None:
    (torch,) = (r for r in map(Requirement, PROJECT["dependencies"]) if r.name == "torch")
    assert [v in torch.specifier for v in ("2.9.1", "2.10.0", "2.15.0", "2.99", "3.0")] == [
        False, True, True, True, False,
    ]  # fmt: skip


def test_make_installs_with_the_constraints() -> None:
    makefile = (ROOT / "Makefile").read_text()
    installs = [line for line in makefile.splitlines() if "pip install" in line or "$(PIP)" in line]
    assert len(installs) >= 3
    assert all("--constraint constraints.txt" in x or "$(PIP)" in x for x in installs)


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == citation["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert citation["license"] == PROJECT["license"]


def test_the_minor_versions_of_python_begin_with_the_lowest() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert PROJECT["requires-python"] == f">={named[0]}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", *sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")
)])  # fmt: skip
def test_what_a_document_links_to_exists(name: str) -> None:
    path = ROOT / name
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    assert [x for x in links if "://" not in x and not (path.parent / x).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_target_of_make_that_a_document_names_is_one(name: str) -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"^make (\w+)|`make (\w+)", (ROOT / name).read_text(), re.MULTILINE)
    assert {first or second for first, second in named} - {"PYTHON"} <= set(targets)
    assert named
