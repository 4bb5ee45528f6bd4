"""What a relay costs, the process that stands for one trial of a pack: how long it takes to start,
how much memory it has, and how late the driver hears of an epoch.

    python -m benchmarks.relays --trials 16 --pack 8

Real Ray, a real sweep on `digits`. For comparison the same of a worker that trains itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ckconv_sweep.config.read import parse_space
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.executor import RayExecutor
from ckconv_sweep.record.events import EpochEnded, Event, Listener, Started
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.sweep.driver import run_sweep

SPACE = """
trial:
  data: {{name: digits}}
  model: {{hidden_channels: 10, kernel: {{hidden_channels: 16}}}}
  training: {{epochs: {epochs}}}
search:
  optimizer.learning_rate: {{low: 1.0e-4, high: 1.0e-2, log: true}}
sampler: {{name: random}}
scheduler: {{name: none}}
budget: {{trials: {trials}}}
"""


@dataclass
class Clock(Listener):
    """When the driver hears what."""

    started: dict[int, float] = field(default_factory=dict)
    first_epoch: dict[int, float] = field(default_factory=dict)
    delays_ms: list[float] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        now = time.time()
        if isinstance(event, Started):
            self.started[event.number] = now
        elif isinstance(event, EpochEnded):
            self.delays_ms.append(1000 * now - event.epoch.timestamp_ms)
            seconds = event.epoch.metrics["time/epoch_seconds"]
            self.first_epoch.setdefault(event.number, now - seconds)


@dataclass(eq=False)
class Memory(threading.Thread):
    """The private memory of Ray Tune's processes, one for each trial that runs, at most, in MiB."""

    most: dict[int, float] = field(default_factory=dict)
    """By process."""
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        while not self.over.wait(0.5):
            for path in Path("/proc").glob("[0-9]*"):
                try:
                    if not (path / "cmdline").read_bytes().startswith(b"ray::ImplicitFunc"):
                        continue
                    rollup = (path / "smaps_rollup").read_text()
                except OSError:
                    continue
                private = sum(
                    int(line.split()[1])
                    for line in rollup.splitlines()
                    if line.startswith(("Private_Clean", "Private_Dirty"))
                )
                pid = int(path.name)
                self.most[pid] = max(self.most.get(pid, 0.0), private / 1024)


def measure(name: str, placement: Placement, trials: int, epochs: int) -> None:
    clock, memory = Clock(), Memory()
    memory.start()
    with tempfile.TemporaryDirectory() as folder:
        run_sweep(
            SweepFolder.of(Path(folder), "relays"),
            parse_space(SPACE.format(trials=trials, epochs=epochs), "space"),
            RayExecutor(placement),
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            data_dir=None,
            listeners=(clock,),
        )
    memory.over.set()
    waits = [clock.first_epoch[n] - clock.started[n] for n in clock.first_epoch]
    print(
        f"{name:28} {len(memory.most):9} {statistics.median(memory.most.values()):12.0f} "
        f"{statistics.median(waits):12.2f} {min(waits):12.2f} "
        f"{statistics.median(clock.delays_ms):11.0f} {max(clock.delays_ms):9.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--pack", type=int, default=8)
    options = parser.parse_args()
    print(f"{os.cpu_count()} CPUs; {options.trials} trials, packs of {options.pack}")
    print(
        f"{'':28} {'processes':>9} {'private MiB':>12} {'start s':>12} {'least s':>12} "
        f"{'delay ms':>11} {'most ms':>9}"
    )
    for name, pack in [("relay", options.pack), ("worker that trains itself", None)]:
        measure(name, Placement(pack=pack), options.trials, options.epochs)


if __name__ == "__main__":
    main()
