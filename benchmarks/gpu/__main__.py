"""All that has to be known of a GPU, in at most nine minutes: first whether it computes what it
should, then how fast.

    git clone https://github.com/dwromero/ckconv
    python -m benchmarks.gpu --reference ckconv --json gpu.json
    python -m benchmarks.gpu --only graphs packs-98K
    python -m benchmarks.gpu --device cpu --quick               # what a CPU can do, tiny

Without `--reference` the authors' code is left out. Nothing is downloaded: sequences are drawn.
Each check runs in a process of its own, so that one that breaks the GPU's state or takes all of its
memory disturbs no other. One that no longer fits into `--seconds` is `not run: out of time`. A
line is printed as each check ends, then everything in one table; `--json` writes the same, with
every digit. Ends with 1 if a check failed.

A number is followed by its tolerance, if it has one. Errors and differences are relative. Of packs
`steps/s` are those of all members together, `of one` is that in rates of one trial, `kernels` is
how many a step launches, and `busy` the share of the time in which the GPU computes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.check import PATIENCE, Check, Row
from benchmarks.gpu.checks import CHECKS
from benchmarks.machine import where

FAILED = "failed"
WIDTH = 100


@dataclass(frozen=True)
class Result:
    """What became of a check."""

    check: Check
    state: str
    """`passed`; `measured`, where there is nothing to pass; `failed`; or why it was not run."""
    rows: Sequence[Row] = ()
    seconds: float = 0.0
    error: str = ""

    def line(self) -> str:
        """In a line: what failed, or how much there is."""
        wrong = [row.what for row in self.rows if row.passed is False]
        said = self.error or f"wrong: {'; '.join(wrong)}" if self.state == FAILED else ""
        took = f"{self.seconds:6.1f} s  " if self.seconds else " "
        line = f"{self.check.name:16}{self.state:9}{took}{said or self.check.compares}"
        return line[:WIDTH]

    def as_json(self) -> dict[str, Any]:
        """All of it, for `--json`."""
        return {
            "name": self.check.name,
            "compares": self.check.compares,
            "state": self.state,
            "seconds": round(self.seconds, 2),
            "error": self.error,
            "rows": [row.as_json() for row in self.rows],
        }


def main(given: Sequence[str], checks: Sequence[Check] = CHECKS) -> int:
    """Run the checks, print and write what they found; the exit code."""
    options = arguments(given, checks)
    if options.inside:
        return inside(options)
    start, results = time.time(), list[Result]()
    machine = described(options.device)
    print(f"{machine['device']}\ncommit {machine['commit']}, driver {machine['driver']}\n")
    for check in checks:
        if check.name in options.only:
            left = start + options.seconds - time.time()
            results.append(result_of(check, options, given, left))
            print(results[-1].line(), flush=True)
    seconds = time.time() - start
    print(f"\n{table(results)}\n\n{seconds:.0f} s of {options.seconds:.0f}")
    if options.json:
        told = {"machine": machine, "command": list(given), "seconds": round(seconds, 2)}
        told["checks"] = [result.as_json() for result in results]
        options.json.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")
    return int(any(result.state == FAILED for result in results))


def arguments(given: Sequence[str], checks: Sequence[Check]) -> argparse.Namespace:
    """The options of the command."""
    description = (__doc__ or "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=description)
    names = [check.name for check in checks]
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--reference", type=Path, help="a checkout of dwromero/ckconv")
    parser.add_argument("--seconds", type=float, default=540, help="for everything; default 540")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CHECK")
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # module:function of one check
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here; `--device cpu --quick` runs what a CPU can")
    if options.reference and not (options.reference / "ckconv").is_dir():
        parser.error(f"{options.reference} is no checkout of dwromero/ckconv")
    return options


def described(device: str) -> dict[str, Any]:
    """What the numbers depend on."""
    commit = _first_line("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    driver = _first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {
        "device": where(device),
        "driver": driver or "none",
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "commit": commit or "unknown",
    }


def _first_line(*command: str) -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:  # no such program
        return ""
    return said.partition("\n")[0]


def result_of(
    check: Check, options: argparse.Namespace, given: Sequence[str], left: float
) -> Result:
    """Run a check in a process of its own, if it can be run and there is time for it."""
    if check.needs_cuda and options.device != "cuda":
        return Result(check, "needs CUDA")
    if left < check.seconds:
        return Result(check, "not run: out of time")
    seconds = min(left, PATIENCE * check.seconds)
    start = time.time()
    command = [sys.executable, "-m", "benchmarks.gpu", *given, "--until", str(start + seconds)]
    command += ["--inside", f"{check.rows.__module__}:{check.rows.__name__}"]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        running = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        code, stopped = None, ""
        try:
            code = running.wait(seconds)
        except subprocess.TimeoutExpired:
            stopped = f"stopped after {seconds:.0f} s"
        finally:
            if code != 0:
                with contextlib.suppress(ProcessLookupError):  # it and all that it started
                    os.killpg(running.pid, signal.SIGKILL)
                running.wait()
        out.seek(0)
        err.seek(0)
        rows = [Row(**json.loads(line)) for line in out.read().splitlines()]
        said = [line for line in err.read().splitlines() if line.strip()]
    took = time.time() - start
    if code != 0:
        error = stopped or (said[-1].strip() if said else f"ended with {code}")
        return Result(check, FAILED, rows, took, error)
    passed = [row.passed for row in rows if row.passed is not None]
    state = ("passed" if all(passed) else FAILED) if passed else "measured"
    return Result(check, state, rows, took)


def inside(options: argparse.Namespace) -> int:
    """In its process: a line of JSON for each row. What else is printed goes to standard error."""
    rows = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    module, _, name = options.inside.partition(":")
    for row in getattr(importlib.import_module(module), name)(options):
        print(json.dumps(asdict(row)), file=rows, flush=True)
    return 0


def table(results: Sequence[Result]) -> str:
    """Every number of every check."""
    lines = list[str]()
    for result in results:
        lines += [f"{result.check.name}: {result.check.compares}: {result.state}"]
        for row in result.rows:
            verdict = {None: "", True: "ok", False: "WRONG"}[row.passed]
            said = "  ".join([*(shown(name, row) for name in row.numbers), row.note])
            lines.append(f"  {row.what:34}{verdict:6}{said}")
        lines += [f"  {result.error}"] if result.error else []
    return "\n".join(line[:WIDTH].rstrip() for line in lines)


def shown(name: str, row: Row) -> str:
    """A number, and its tolerance."""
    number = row.numbers[name]
    written = f"{number:.0f}" if number >= 100 else f"{number:.3g}"
    if 0.0 < number < 1e-2:
        written = f"{number:.1e}"
    within = f" ({row.within[name]:.1g})" if name in row.within else ""
    return f"{name} {written}{within}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no check is left running
    sys.exit(main(sys.argv[1:]))
