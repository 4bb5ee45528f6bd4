"""Kill and disturb real sweeps, and compare each with one that nobody disturbed.

    python -m benchmarks.chaos
    python -m benchmarks.chaos --kills 1000 --ray-kills 100 --seed 7 --minutes 60
    python -m benchmarks.chaos --faults disk-full two-drivers

One line a fault. A hit is a fault that found a trial running: the study right after it is not
complete. lost: an acknowledged epoch or an ended trial that is gone or different, in the study or
in MLflow; twice: one that is there twice; wrong: anything else that differs from what is promised
or from the undisturbed sweep; again: epochs trained a second time. Ends with 1 if anything is
lost, twice or wrong.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.chaos.campaign import Campaign, Tally, last_line
from benchmarks.chaos.faults import FAULTS


def main() -> int:
    asked = _arguments()
    deadline = time.monotonic() + 60 * asked.minutes
    tallies: list[Tally] = []
    print(f"seed {asked.seed}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(Tally.heading(), flush=True)
    folder = Path(tempfile.mkdtemp(prefix="ckconv-chaos-", dir=asked.folder))
    campaign = Campaign(folder, seed=asked.seed, deadline=deadline)
    for name in asked.faults:
        if wanted := _wanted(name, asked):
            tallies.append(campaign.run(name, wanted))
            print(tallies[-1].line(), flush=True)
    for sentence in (s for tally in tallies for s in tally.sentences[:5]):
        print(sentence, file=sys.stderr)
    print(last_line(tallies))
    broken = any(tally.broken for tally in tallies)
    if broken:
        print(f"what broke lies in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return int(broken)


def _wanted(name: str, asked: argparse.Namespace) -> int:
    if name == "driver-sigkill":
        return int(asked.kills)
    return int(asked.ray_kills if FAULTS[name].plan.ray else asked.others)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"{name:22} {fault.what}" for name, fault in FAULTS.items()),
    )
    parser.add_argument("--kills", type=int, default=100, help="of the driver, without Ray")
    parser.add_argument(
        "--ray-kills", type=int, default=10, help="of the driver, of workers and of nodes"
    )
    parser.add_argument("--others", type=int, default=20, help="of each other fault")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no sweep after these")
    parser.add_argument("--folder", type=Path, help="where the sweeps lie; else the system's")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
