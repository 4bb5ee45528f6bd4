"""How many epochs a second a sweep's driver can take from many places, more than fit a machine.

    python -m benchmarks.crowd --seats 512 --places 16 --epochs 10

Seats that train nothing: each reports an epoch of all its places at a time, one seat after the
other, as fast as it is answered, until each place has ended a trial. Behind them are the real desk,
coordinator, stopping rule and a study on disk, in this process; Ray, which would carry the reports,
and MLflow, which is told later and in a thread of its own, are left out.

Printed for each part: seconds of the wall and of the processor, and how many trials or epochs a
second that is; at last what the process held at most.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna

from benchmarks.machine import processor
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.execution.desk import Desk
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.roster import Roster
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.sweep.coordinator import Coordinator

SPACE = """
trial: {{data: {{name: digits}}, training: {{epochs: {epochs}}}}}
search:
  model.kernel.omega_0: {{low: 1.0, high: 70.0, log: true}}
  optimizer.learning_rate: {{low: 1.0e-4, high: 1.0e-1, log: true}}
sampler: {{name: random, seed: 0}}
scheduler: {{name: {rule}}}
budget: {{trials: {trials}}}
"""


class Seat:
    """What its trials are at, by attempt."""

    def __init__(self) -> None:
        self.at: dict[str, tuple[int, float]] = {}

    def take(self, orders: dict[str, Any]) -> None:
        for attempt in orders["gone"]:
            self.at.pop(attempt, None)
        for new in orders["new"]:
            rate = json.loads(new["trial"])["optimizer"]["learning_rate"]
            self.at[new["attempt"]] = (0, rate)

    def said(self, epochs: int) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = []
        for attempt, (number, rate) in self.at.items():
            now = time.time_ns() // 1_000_000
            accuracy = 1 - abs(rate - 0.01) - 0.5 / (number + 1)
            metrics = {"val/accuracy": accuracy, "val/loss": 1 - accuracy, "train/loss": accuracy}
            metrics |= {"train/accuracy": accuracy, "train/learning_rate": rate}
            epoch = {"number": number + 1, "timestamp_ms": now}
            epoch["metrics"] = metrics | {"time/epoch_seconds": 5.0}
            said.append(
                {"attempt": attempt, "epoch": epoch, "warnings": [], "memory_gib": 1.0, "data": ""}
            )
            self.at[attempt] = (number + 1, rate)
            if number + 1 == epochs:
                said.append({"attempt": attempt, "ended": True})
        return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seats", type=int, default=512)
    parser.add_argument("--places", type=int, default=16, help="of a seat")
    parser.add_argument("--epochs", type=int, default=10, help="of a trial")
    parser.add_argument("--rule", default="none", help="the stopping rule")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{processor()}; {asked.seats} seats of {asked.places} places, rule {asked.rule}")
    print(f"{'':12}{'count':>9}{'wall s':>9}{'CPU s':>9}{'a second':>10}")
    trials = asked.seats * asked.places
    text = SPACE.format(epochs=asked.epochs, rule=asked.rule, trials=trials)
    with tempfile.TemporaryDirectory() as out:
        folder, space = SweepFolder.of(Path(out), "crowd"), parse_space(text, "space")
        folder.make()
        with folder.records.lock(), folder.records.create(space) as study:
            coordinator = Coordinator(study, count_parameters=lambda trial: 0)
            known = KnownData(space, {"digest": ""})
            desk = Desk(coordinator, known, places=asked.places, at_a_time=trials, roster=Roster())
            seats = {str(number): Seat() for number in range(asked.seats)}
            measured = _Measured("starts")
            for name, seat in seats.items():
                desk.open(name, asked.places)
                seat.take(desk.heard(name, [{"ready": 1, "node": name}]) or {"gone": [], "new": []})
            measured.print(sum(len(seat.at) for seat in seats.values()))
            measured, count = _Measured("epochs"), 0
            while any(seat.at for seat in seats.values()):
                for name, seat in seats.items():
                    if seat.at:
                        said = seat.said(asked.epochs)
                        count += sum("epoch" in one for one in said)
                        orders = desk.heard(name, said)
                        for one in said:
                            if "ended" in one:
                                seat.at.pop(one["attempt"], None)
                        if orders is not None:
                            seat.take(orders)
            measured.print(count)
            assert len(study.trials()) == trials
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


class _Measured:
    def __init__(self, name: str) -> None:
        self._name, self._wall, self._cpu = name, time.perf_counter(), time.process_time()

    def print(self, count: int) -> None:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        print(f"{self._name:12}{count:9}{wall:9.1f}{cpu:9.1f}{count / wall:10.0f}", flush=True)


if __name__ == "__main__":
    main()
