"""What a table looks like in LaTeX, and that no text in it is a command."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ckconv_sweep.report.latex import escape, to_latex

from .records import examples

SPECIAL = '\\{}$&#_^~%"<>|[*'
texts = st.text(st.sampled_from(SPECIAL + "ab \x00\x1b\x07\r\n") | st.characters(codec="utf-8"))

# What LaTeX prints for each piece that `escape` may write, and nothing else.
PRINTS = {
    r"\textbackslash{}": "\\",
    r"\textasciicircum{}": "^",
    r"\textasciitilde{}": "~",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"{\char34}": '"',
    "{}": "",
    **{f"\\{c}": c for c in "{}$&#_%"},
}
PIECE = re.compile("|".join(map(re.escape, PRINTS)) + r"|(?P<plain>[^\\{}$&#_^~%])", re.S)


def printed(written: str) -> str:
    """As LaTeX reads it; fails at a character that would be a command."""
    out, at = "", 0
    while at < len(written):
        piece = PIECE.match(written, at)
        assert piece, written[at:]
        out += piece["plain"] or PRINTS[piece[0]]
        at = piece.end()
    return out


@pytest.mark.fault("latex-escape")
@examples
@given(texts)
@example(SPECIAL)
@example("\x1b[31m")
def test_every_text_is_printed_as_it_is_and_control_codes_are_shown(text: str) -> None:
    one_line = re.sub(r"\r\n|[\r\n]", " ", text)
    visible = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in one_line)
    written = escape(text)
    assert printed(written) == visible
    assert written.isprintable()
    assert not written.startswith(("[", "*"))  # a part of the \\ before it


@examples
@given(st.lists(st.tuples(texts, st.floats(-1e9, 1e9)), min_size=1, max_size=4))
def test_a_table_has_as_many_cells_as_it_should(rows: list[tuple[str, float]]) -> None:
    table = pd.DataFrame(rows, columns=["a_b", "50 %"])
    _, head, *_ = body(to_latex(table))
    assert head == "a\\_b & 50 \\% \\\\"
    lines = body(to_latex(table))[3:-1]
    assert len(lines) == len(rows)
    assert [len(re.findall(r"(?<!\\)&", line)) for line in lines] == [1] * len(rows)
    assert all(line.endswith("\\\\") for line in lines)


def body(text: str) -> list[str]:
    """From \\toprule to \\bottomrule."""
    lines = text.splitlines()
    return lines[lines.index("\\toprule") : lines.index("\\bottomrule") + 1]


def test_a_table_with_its_rules_and_its_notes_as_comments() -> None:
    table = pd.DataFrame({"outcome": ["completed", "failed (x)"], "val/loss": [0.5, 12.25]})
    assert to_latex(table, ["all of\nthem"]).splitlines() == [
        "% needs \\usepackage{booktabs}",
        "\\begin{tabular}{lr}",
        "\\toprule",
        "outcome & val/loss \\\\",
        "\\midrule",
        "completed & 0.50 \\\\",
        "failed (x) & 12.25 \\\\",
        "\\bottomrule",
        "\\end{tabular}",
        "% all of them",
    ]


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        ([0.97222, 0.5], ["0.9722", "0.5000"]),
        ([0.0, 0.1, 0.2], ["0.0", "0.1", "0.2"]),
        ([1.0, 2.0], ["1", "2"]),
        ([17.184, 7.63, None], ["17.184", "7.630", ""]),
        ([-0.5, 0.25], ["$-$0.50", "0.25"]),
        ([1e-5, 0.5], ["$1.000 \\times 10^{-5}$", "$5.000 \\times 10^{-1}$"]),
        ([1e308, 0.0], ["$1.000 \\times 10^{308}$", "0"]),
        ([float("inf"), 0.5], ["$\\infty$", "0.5"]),
        ([3, 12, 10**30], ["3", "12", str(10**30)]),
    ],
)
def test_numbers_of_a_column_have_their_points_under_each_other(
    values: list[Any], cells: list[str]
) -> None:
    table = pd.DataFrame({"x": pd.Series(values, dtype=object), "y": ["z"] * len(values)})
    assert [line.partition(" & ")[0] for line in body(to_latex(table))[3:-1]] == cells


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
def test_a_real_latex_takes_it(tmp_path: Path) -> None:
    table = pd.DataFrame({SPECIAL: ["[x]", "*", SPECIAL], "n": [-1.5, 1e-9, 2.0]})
    document = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n%s\\end{document}\n"
    )
    (tmp_path / "t.tex").write_text(document % to_latex(table))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
