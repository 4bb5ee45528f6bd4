"""What a trial costs its driver late in a long sweep, over what it cost at the beginning.

A real coordinator over a real study on disk; trials whose metric is a formula, one after the
other, each of them in MLflow at once as far as the study's marks tell.

    python -m benchmarks.growth
    python -m benchmarks.growth --case random none --commands   # and what reads such a study
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from benchmarks.machine import processor
from ckconv_sweep import keys
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Listener, Rejected
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.sweep.coordinator import Coordinator
from ckconv_sweep.sweep.delivery import AfterTrial
from ckconv_sweep.tracking.marks import Mark
from ckconv_sweep.tracking.outbox import RunOfSweep, Tracker

EPOCHS = 3
SEARCH = """
  model.kernel.omega_0: {low: 1, high: 70, step: 1}
  optimizer.learning_rate: {choices: [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]}
  model.dropout: {low: 0.0, high: 0.49, step: 0.01}
"""
"""24,500 points."""
RULES = {
    "none": "{name: none}",
    "asha": "{name: asha, grace_epochs: 1, reduction_factor: 3}",
    "hyperband": "{name: hyperband, brackets: 2}",
    "median": "{name: median, warmup_epochs: 1}",
}
CASES = (
    ("random", "none"),
    ("qmc", "none"),
    ("grid", "none"),
    ("random", "asha"),
    ("random", "hyperband"),
    ("random", "median"),
)


def space_of(sampler: str, rule: str, trials: int) -> Space:
    return parse_space(
        f"""
trial:
  data: {{name: digits}}
  model: {{hidden_channels: 4, blocks: 1, kernel: {{hidden_channels: 4, layers: 2}}}}
  training: {{epochs: {EPOCHS}}}
search:{SEARCH}
sampler: {{name: {sampler}, seed: 0}}
scheduler: {RULES[rule]}
budget: {{trials: {trials}}}
""",
        "growth",
    )


class DeliveredAtOnce(Listener):
    """MLflow's marks as they are where it keeps up."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def hear(self, event: Event) -> None:
        if not isinstance(event, Rejected):
            mark = self._tracker.marks.setdefault(event.number, Mark())
            if isinstance(event, EpochEnded):
                mark.epochs = event.epoch.number
            mark.ended = isinstance(event, Ended)
            self._tracker.moved.append(event.number)


def held() -> float:
    """MiB that this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_of_trials(folder: SweepFolder, space: Space) -> tuple[list[float], list[float], float]:
    """Seconds of CPU of each trial, and seconds of the clock until each epoch was acknowledged, in
    their order; and how many MiB more the driver has in memory at the end than after 100 trials."""
    spent, took, at_first = [], [], 0.0
    with folder.records.create(space) as study:
        run = RunOfSweep(
            name="growth", uid=study.uid, role=keys.ROLE_SWEEP, params={}, artifacts={}
        )
        tracker = Tracker("http://127.0.0.1:9", run, base=space.trial, say=print)
        after = AfterTrial(folder, study, tracker)
        coordinator = Coordinator(
            study,
            count_parameters=lambda trial: 1,
            listeners=(DeliveredAtOnce(tracker), after),
        )
        while True:
            began = time.process_time()
            assignment = coordinator.next()
            if assignment is None:
                return spent, took, held() - at_first
            if len(spent) == 100:
                at_first = held()
            number = assignment.number
            for epoch in range(1, EPOCHS + 1):
                accuracy = zlib.crc32(f"{number}/{epoch}".encode()) / 2**32
                metrics = {
                    "val/accuracy": accuracy,
                    "val/loss": 1 - accuracy,
                    "train/loss": 1 - accuracy,
                    "time/epoch_seconds": 0.1,
                }
                now = time.time_ns() // 1_000_000
                told = Epoch(number=epoch, metrics=metrics, timestamp_ms=now)
                heard = time.perf_counter()
                goes_on = coordinator.epoch(number, told)
                took.append(time.perf_counter() - heard)
                if not goes_on:
                    break
            coordinator.end(number)
            spent.append(time.process_time() - began)


def show_commands(folder: SweepFolder) -> None:
    """Seconds of CPU of whole commands that read the study, three times each."""
    program = Path(sys.executable).with_name("ckconv-sweep")
    for command in ("status", "table"):
        spent = []
        for _ in range(3):
            before = os.times()
            subprocess.run(
                [program, command, folder.name, "--sweeps-dir", folder.root.parent],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            now = os.times()
            spent.append(sum(now[2:4]) - sum(before[2:4]))
        print(f"  {command}: {', '.join(f'{seconds:.2f}' for seconds in spent)} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--case", nargs=2, metavar=("SAMPLER", "RULE"))
    parser.add_argument("--commands", action="store_true", help="also time status and table")
    asked = parser.parse_args()
    print(f"{processor()}; load {os.getloadavg()[0]:.1f}; ms of CPU of a trial of {EPOCHS} epochs")
    late = f"last 100 of {asked.trials}"
    print(f"{'':16}{'50-149':>10}{late:>22}{'ratio':>8}{'epoch, clock':>18}{'MiB more':>12}")
    for sampler, rule in [asked.case] if asked.case else CASES:
        with tempfile.TemporaryDirectory() as root:
            folder, short = (SweepFolder.of(Path(root), name) for name in ("growth", "short"))
            folder.make()
            late_ones, took, more = cpu_of_trials(folder, space_of(sampler, rule, asked.trials))
            short.make()  # after it, so that both are measured while the machine does the same
            early_ones, _, _ = cpu_of_trials(short, space_of(sampler, rule, 150))
            parts = early_ones[50:], late_ones[-100:]
            early, later = (1000 * sum(part) / len(part) for part in parts)
            epoch = 1000 * statistics.median(took)
            numbers = f"{early:10.2f}{later:22.2f}{later / early:8.2f}{epoch:18.2f}{more:12.0f}"
            print(f"{f'{sampler} {rule}':16}{numbers}", flush=True)
            if asked.commands:
                show_commands(folder)


if __name__ == "__main__":
    main()
