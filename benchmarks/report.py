"""How long `ckconv-sweep report` takes for a sweep of 1,000 recorded trials of 30 epochs.

    python -m benchmarks.report --trials 1000 --epochs 30

The trials are made up, their study is real. Prints the seconds of the whole command, the start of
Python included, and what they are made of.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ckconv_sweep.record.folder import SweepFolder
from tests.report.made_up import made_up, recorded

PROGRAM = Path(sys.executable).with_name("ckconv-sweep")


def main() -> None:
    """Record the sweep, then time the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        sweep = made_up(asked.trials, epochs=asked.epochs, stopping=True, failing=0.05)
        start = time.perf_counter()
        recorded(SweepFolder.of(Path(root), "made_up"), sweep.records, sweep.space)
        epochs, took = sum(len(r.history) for r in sweep.records), time.perf_counter() - start
        print(f"{asked.trials} trials, {epochs} epochs; recorded in {took:.1f} s")
        for _ in range(asked.repeats):
            start, cpu = time.perf_counter(), os.times()
            subprocess.run(
                [PROGRAM, "report", "made_up", "--sweeps-dir", root, "--out", f"{root}/r.html"],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            now = os.times()
            used = now.children_user + now.children_system - cpu.children_user - cpu.children_system
            size = Path(root, "r.html").stat().st_size / 2**20
            print(
                f"report: {time.perf_counter() - start:.2f} s, of them {used:.2f} s of CPU; "
                f"{size:.1f} MiB"
            )


if __name__ == "__main__":
    main()
