"""A sweep that an unreleased version began: it is read, and not gone on with."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from ckconv_sweep.record.folder import SweepFolder
from tests.sweep.in_process import machine, make_space

from .commands import ckconv_sweep, ended, files_in, refused

pytestmark = pytest.mark.fault("unreleased-format")

BEFORE = """
delete from study_user_attributes where key not in ('space', 'uid', 'created_ms', 'sessions');
update studies set study_name = 'sweep';
delete from trial_user_attributes where key in ('position', 'digest');
update trial_user_attributes set value_json =
    json_remove(value_json, '$.session', '$.spent_seconds', '$.data', '$.verdict')
    where key like 'epoch:%';
"""
"""What no version recorded at first."""


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    one = machine(tmp_path / "sweeps", make_space(trials=3))
    assert one.run()
    with contextlib.closing(sqlite3.connect(one.folder.records.path)) as database:
        database.executescript(BEFORE)
    return one.folder


def test_it_is_read_and_doctor_reports_it(sweep: SweepFolder) -> None:
    here = sweep.root.parents[1]
    rows = json.loads(ended(ckconv_sweep("table", "sweep", "--format", "json", cwd=here)))
    assert sorted(row["trial"] for row in rows) == [0, 1, 2]
    ended(ckconv_sweep("best", "sweep", "--out", "best.yaml", cwd=here))
    ended(ckconv_sweep("report", "sweep", cwd=here))
    said = ckconv_sweep("doctor", "sweep", cwd=here).stdout
    assert "an unreleased version of ckconv-sweep began it: it can be read, not resumed" in said


def test_a_resume_is_refused_in_one_message_and_changes_nothing(sweep: SweepFolder) -> None:
    before = files_in(sweep.root)
    done = ckconv_sweep("resume", "sweep", "--trials", 4, cwd=sweep.root.parents[1])
    done.stdout = ""
    said = refused(done)
    assert "error: sweep: an unreleased version of ckconv-sweep began this sweep" in said
    assert f"launch {sweep.space} with another --name" in said
    after = files_in(sweep.root)
    assert {name: after[name] for name in before if name != "lock"} == {
        name: content for name, content in before.items() if name != "lock"
    }
