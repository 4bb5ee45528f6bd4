"""The quickstart as a new user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import REPOSITORY, ckconv_sweep, ended, environment

SECTIONS = "advice best progress settings time trials asked"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_report_of_the_quickstart_has_every_section_and_tells_what_matters(
    tmp_path: Path,
) -> None:
    said = ended(ckconv_sweep("launch", "quickstart", cwd=tmp_path, timeout=600))
    found = re.search(r"(\d+) trials completed, (\d+) pruned, 0 failed", said)
    assert found
    assert int(found[1]) + int(found[2]) == 24
    ended(ckconv_sweep("report", "quickstart", cwd=tmp_path))
    page = (tmp_path / "quickstart-report.html").read_text()
    assert re.findall(r'<h2 id="(\w+)"', page) == SECTIONS.split()
    assert re.search(r'alt="Importance of the settings: model\.kernel\.omega_0 \d+%', page)
    assert "Too few trials" not in page


DRIVER = """
import atexit, pathlib, sys
atexit.register(lambda: pathlib.Path("modules").write_text(" ".join(sys.modules)))
from ckconv_sweep.__main__ import main
main()
"""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_driver_that_has_run_a_sweep_to_its_table_has_not_loaded_pytorch(tmp_path: Path) -> None:
    words = "launch quickstart --trials 3 --concurrency 1 --set training.epochs=4"
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *words.split()],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "3 trials completed" in done.stdout
    loaded = set((tmp_path / "modules").read_text().split())
    assert {"ray.tune", "optuna", "mlflow"} <= loaded
    assert "torch" not in loaded
