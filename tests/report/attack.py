"""A sweep whose every text is an attack on the page that shows it."""

from __future__ import annotations

import textwrap
from dataclasses import replace

from ckconv_sweep.config import documents
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.results import Results

from .records import record, space

SCRIPT = "<script>alert(1)</script>"
BREAKOUT = """\"'><img src=x onerror=alert(2)><svg/onload=fetch('http://127.0.0.1:9/stolen')>"""
CODES = "\x1b[31m\x00\u202e{{ 7 * 7 }}</pre></style></title>"
LABEL = SCRIPT + "\" onmouseover=alert(3) x='"
SEARCH = {
    "schedule": {
        "choices": {
            LABEL: {"name": "plateau", "patience": {"low": 1, "high": 9}},
            BREAKOUT: {"name": "cosine"},
        }
    },
    "model.dropout": {"low": 0.0, "high": 0.5},
}


def attacking() -> Results:
    """Finished, with failed trials whose errors attack too."""
    of = space(search=textwrap.indent(documents.write(SEARCH), "  "), trials=30)
    labels = of.parameters()["schedule"].options  # type: ignore[union-attr]
    records: list[TrialRecord] = []
    for i in range(30):
        label = str(labels[i % 2])
        params = {"schedule": label, "model.dropout": i / 60}
        if i % 2 == 0:
            params[f"schedule.{label}.patience"] = 1 + i % 9
        made = record(i, [0.1 + i / 60, 0.2 + i / 60], params=params)
        if i % 5 == 0:
            error = f"Traceback\n{BREAKOUT}{SCRIPT}{CODES}"
            made = replace(made, outcome="failed", reason=SCRIPT, error=error)
        records.append(made)
    return Results(
        name="attack",
        uid="0" * 32,
        space=of,
        records=tuple(records),
        state="finished",
        source=f"http://{BREAKOUT}",
        notes=(f"a note {SCRIPT}",),
    )
