"""What is made from the code, and is written again by `make docs`: the tables of the documents, and
the JSON Schema."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
SCHEMA = ROOT / "schema.json"
COMMAND = "show schema"
_TABLE = re.compile(r"(<!-- made by: ckconv-sweep ([^\n]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str, answer: Callable[[str], str]) -> str:
    """A document with what each of the commands that it names prints."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{answer(found[2])}\n{found[3]}", text)


def tables(text: str) -> list[str]:
    """The commands that it names."""
    return [found[2] for found in _TABLE.finditer(text)]


def _answer(command: str) -> str:
    program = [sys.executable, "-m", "ckconv_sweep", *command.split()]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text(), _answer))
    SCHEMA.write_text(_answer(COMMAND))
