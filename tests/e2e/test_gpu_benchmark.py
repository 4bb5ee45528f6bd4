"""`python -m benchmarks.gpu` on a CPU: everything but what needs CUDA."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.check import Check, Row, Rows
from benchmarks.gpu.checks import CHECKS

ROOT = Path(__file__).parents[2]
ON_A_CPU = "--device", "cpu", "--quick"


def run(folder: Path, *words: str) -> tuple[str, dict[str, Any]]:
    """The command in a process of its own: what it printed, and its JSON."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        *ON_A_CPU,
        "--json",
        str(folder / "gpu.json"),
    ]
    ran = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout, json.loads((folder / "gpu.json").read_text())


def check_all_is_said(printed: str, told: dict[str, Any], checks: Sequence[Check]) -> None:
    assert told["machine"].keys() == {"device", "driver", "cuda", "torch", "commit"}
    assert [each["name"] for each in told["checks"]] == [check.name for check in checks]
    for check, each in zip(checks, told["checks"], strict=True):
        assert f"{check.name}: {check.compares}: {each['state']}" in printed
        if check.needs_cuda:
            assert (each["state"], each["rows"]) == ("needs CUDA", [])
            continue
        assert each["state"] in ("passed", "measured")
        assert each["rows"]
        for row in each["rows"]:
            assert row["what"] in printed
            assert row["passed"] is (True if each["state"] == "passed" else None)
            assert row["numbers"].keys() >= row["within"].keys()


def test_a_check_on_a_cpu_passes_and_what_needs_cuda_is_listed(tmp_path: Path) -> None:
    names = "masks", "graphs", "precision"
    printed, told = run(tmp_path, "--only", *names)
    check_all_is_said(printed, told, [check for check in CHECKS if check.name in names])
    assert all(len(line) <= 100 for line in printed.splitlines()[1:])


@pytest.mark.slow
def test_all_that_a_cpu_can_do_passes(tmp_path: Path) -> None:
    printed, told = run(tmp_path)
    check_all_is_said(printed, told, CHECKS)
    rows = {each["name"]: each["rows"] for each in told["checks"]}
    files = {path.stem for path in (ROOT / "trials").glob("*.yaml")}
    assert files <= {row["what"] for row in rows["trial-files"]}
    assert [row["note"] for row in rows["step-98K"]] == ["", *["not run: needs --reference"] * 2]


def wrong(_: Namespace) -> Rows:
    sys.stdout.write("what a library prints is no row\n")
    yield Row("right", {"apart": 1e-3}, {"apart": 1e-2})
    yield Row("wrong", {"apart": math.nan}, {"apart": 1e-2})
    yield Row("told", {"apart": 7.0})


def raises(_: Namespace) -> Rows:
    yield Row("before")
    raise ValueError("of two lines,\nthe last one is shown")


def hangs(_: Namespace) -> Rows:
    yield Row("never")
    time.sleep(600)


def fine(_: Namespace) -> Rows:
    yield Row("after all of them", right=True)


@pytest.mark.slow  # a process for each check
def test_what_is_wrong_raises_or_hangs_is_failed_and_the_next_check_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))  # where each process finds this file
    checks = [Check(each.__name__, "a comparison", each, 60) for each in (wrong, raises, fine)]
    checks.insert(2, Check("hangs", "a comparison", hangs, 0.1))
    file = tmp_path / "gpu.json"
    assert main([*ON_A_CPU, "--json", str(file)], checks) == 1

    told = {each["name"]: each for each in json.loads(file.read_text())["checks"]}
    states = {name: (each["state"], each["error"]) for name, each in told.items()}
    assert states == {
        "wrong": ("failed", ""),
        "raises": ("failed", "the last one is shown"),
        "hangs": ("failed", "stopped after 0 s"),
        "fine": ("passed", ""),
    }
    assert [row["passed"] for row in told["wrong"]["rows"]] == [True, False, None]
    assert [row["what"] for row in told["raises"]["rows"]] == ["before"]
    printed = capsys.readouterr().out
    assert "wrong: wrong" in printed
    assert "WRONG apart nan (0.01)" in printed


def test_what_does_not_fit_into_the_time_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpu.json"
    assert main([*ON_A_CPU, "--seconds", "0", "--json", str(file)]) == 0
    states = [each["state"] for each in json.loads(file.read_text())["checks"]]
    expected = ["needs CUDA" if c.needs_cuda else "not run: out of time" for c in CHECKS]
    assert states == expected
    assert capsys.readouterr().out.count(": not run: out of time") == expected.count(expected[1])
