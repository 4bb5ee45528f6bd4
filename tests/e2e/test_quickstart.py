"""The quickstart as a new user runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.commands import ckconv_sweep, ended

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
