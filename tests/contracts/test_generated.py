"""Documents and the JSON Schema say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli.commands import ckconv_sweep, ended

from ckconv_sweep import errors
from ckconv_sweep.config.environment import GIVEN, READ

from . import generated

ROOT = generated.ROOT
AGAIN = "is not what the code says: write it again with `make docs`"


@pytest.mark.parametrize("path", generated.DOCUMENTS, ids=lambda path: path.name)
def test_the_tables_of_a_document_are_up_to_date(path: Path) -> None:
    text = path.read_text()
    now = generated.with_tables(
        text, lambda command: ended(ckconv_sweep(*command.split(), cwd=ROOT))
    )
    assert now == text, f"{path.name} {AGAIN}"


def test_the_schema_is_up_to_date() -> None:
    now = ended(ckconv_sweep(*generated.COMMAND.split(), cwd=ROOT))
    assert now == generated.SCHEMA.read_text(), f"schema.json {AGAIN}"


def test_the_guide_has_every_setting_variable_and_exit_code() -> None:
    subjects = ("settings", "environment", "exit-codes")
    assert generated.tables((ROOT / "docs" / "guide.md").read_text()) == [
        f"show {subject} --markdown" for subject in subjects
    ]


SOURCE = {p: p.read_text() for p in sorted((ROOT / "ckconv_sweep").rglob("*.py"))}
NAMES = {
    name
    for path, text in SOURCE.items()
    for name in re.findall(r"\b(?:AWS|CKCONV|MLFLOW|RAY|SLURM)_[A-Z_]+[A-Z]\b|\bBROWSER\b", text)
    if path.name != "environment.py"
}


def test_every_variable_of_ours_is_in_the_table_and_none_else() -> None:
    named = {name for name in NAMES if name.startswith("CKCONV_")}
    assert named == {name for name in READ | GIVEN if name.startswith("CKCONV_")}
    assert READ.keys() | GIVEN.keys() <= NAMES


def test_every_exit_code_is_in_the_table() -> None:
    raised = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.CkconvSweepError)
    }
    assert raised <= errors.exit_codes().keys()
    assert [code for code, told in errors.exit_codes().items() if not all(told)] == []
