"""Every row of docs/reliability.md has a test, and every mark has a row."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "reliability.md"
ROW = re.compile(r"\| `(?P<fault>[a-z-]+)` \|.*\| (?P<where>[^|]*) \|")


def rows() -> dict[str, list[str]]:
    """Fault -> the files that the document names for it."""
    found = [ROW.fullmatch(line) for line in DOCUMENT.read_text().splitlines()]
    return {m["fault"]: re.findall(r"`([^`]+)`", m["where"]) for m in found if m is not None}


def marks() -> dict[str, set[str]]:
    """Fault -> the test files in which a test, or a whole file, carries its name."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="fault", value=ast.Attribute(attr="mark")),
                    args=[ast.Constant(value=str() as name)],
                ):
                    found[name].add(str(path.relative_to(ROOT / "tests")))
    return found


def test_every_fault_has_a_test_and_every_mark_a_fault() -> None:
    assert len(rows()) > 40
    assert rows().keys() == marks().keys()


def test_the_document_names_the_files_that_prove_a_fault() -> None:
    assert {fault: set(files) for fault, files in rows().items()} == marks()
