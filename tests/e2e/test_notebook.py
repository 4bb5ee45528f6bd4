"""docs/python.ipynb, as it lies there and run again. To renew it: `jupyter execute --inplace` on a
copy in an empty folder, which is then copied back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import environment

NOTEBOOK = Path(__file__).parents[2] / "docs" / "python.ipynb"


def outputs_of(notebook: Path) -> list[list[dict[str, Any]]]:
    """What stands below each cell of code, which were run in order, each once."""
    cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    return [cell["outputs"] for cell in cells]


def kinds(outputs: list[dict[str, Any]]) -> set[str]:
    return {kind for output in outputs for kind in output.get("data", {output["output_type"]: ""})}


def check(cells: list[list[dict[str, Any]]]) -> None:
    outputs = [output for cell in cells for output in cell]
    assert [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"] == []
    pages = ["".join(o["data"]["text/html"]) for o in outputs if "text/html" in o.get("data", {})]
    assert any("from_python: finished, 24 of 24 trials ended" in page for page in pages)
    assert any("from_python: interrupted, " in page for page in pages)
    assert sum("image/png" in kinds([output]) for output in outputs) == 2
    first, second = "".join(cells[-2][-1]["data"]["text/plain"]).strip("()").split(", ")
    assert first == second  # trained again, bit for bit
    assert "did you mean 'model.kernel.omega_0'?" in cells[-1][0]["text"][-1]


def test_it_was_run_from_its_first_cell_to_its_last() -> None:
    check(outputs_of(NOTEBOOK))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_it_runs_and_shows_the_same_kinds_of_things(tmp_path: Path) -> None:
    copy = tmp_path / NOTEBOOK.name
    copy.write_bytes(NOTEBOOK.read_bytes())
    code = "from nbclient.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--inplace", "--kernel_name=python3", copy],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    again = outputs_of(copy)
    check(again)
    assert [kinds(cell) for cell in again] == [kinds(cell) for cell in outputs_of(NOTEBOOK)]
