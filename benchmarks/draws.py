"""What a draw costs: milliseconds of CPU of each sampler after so many ended trials.

The view is built once; then each trial is drawn, shown as a running one and shown as an ended one,
as a driver does it. Five settings are searched, for grid three. No trial is trained.

    python -m benchmarks.draws
    python -m benchmarks.draws --sampler gp --trials 100 1000
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time

import numpy as np

from benchmarks.machine import processor
from ckconv_sweep.config.domains import from_unit
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.sampling import SAMPLERS
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.search.view import View

RANGES = """
  model.kernel.omega_0: {low: 1.0, high: 70.0, log: true}
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.dropout: {low: 0.0, high: 0.5}
  model.input_dropout: {low: 0.0, high: 0.5}
  model.hidden_channels: {low: 4, high: 64}
"""
STEPS = """
  model.kernel.omega_0: {low: 1, high: 50, step: 1}
  optimizer.learning_rate: {choices: [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03]}
  model.dropout: {low: 0.0, high: 0.49, step: 0.01}
"""
"""15,000 points."""
TWO = "[{name: val/accuracy}, {name: model.parameters}]"


def space_of(sampler: str, metrics: str = "") -> Space:
    return parse_space(
        f"""
trial: {{data: {{name: digits}}, training: {{epochs: 1}}}}
search:{STEPS if SAMPLERS[sampler].ends else RANGES}
first: []
sampler: {{name: {sampler}}}
budget: {{trials: 20000}}
{f"metrics: {metrics}" if metrics else ""}
""",
        "draws",
    )


def ended(number: int, params: dict[str, object]) -> TrialRecord:
    """A trial that is better, the nearer its settings are to a point."""
    distance = abs(float(str(params["model.dropout"])) - 0.2)
    metrics = {"val/accuracy": 1 - distance, "model.parameters": 1000.0 + 10 * (number % 97)}
    epoch = Epoch(number=1, metrics=metrics, timestamp_ms=number)
    return TrialRecord(
        number=number,
        outcome="completed",
        params=params,
        history=(epoch,),
        position=number,
        ended_ms=number,
    )


def draw_ms(space: Space, trials: int, draws: int) -> float:
    """The median CPU time of a draw after so many trials."""
    rng, domains = np.random.default_rng(0), space.parameters()
    view = View(
        space,
        [
            ended(number, {name: from_unit(d, rng.random()) for name, d in domains.items()})
            for number in range(trials)
        ],
    )
    view.draw(trials)  # imports, and what is made once
    took = []
    for number in range(trials, trials + draws):
        start = time.process_time()
        drawn = view.draw(number, number)
        took.append(1000 * (time.process_time() - start))
        view.show(ended(number, dict(drawn.params)))
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [name for name in SAMPLERS if name != "auto"]
    parser.add_argument("--sampler", nargs="*", choices=names, default=names)
    parser.add_argument("--trials", nargs="*", type=int, default=[100, 1_000, 10_000])
    parser.add_argument("--draws", type=int, default=9)
    given = parser.parse_args()
    logging.getLogger("optuna").setLevel(logging.WARNING)
    print(f"{processor()}; ms of CPU of a draw, the median of {given.draws}\n")
    print(f"| sampler | {' | '.join(f'{n:,} trials' for n in given.trials)} |")
    print(f"|---|{'---|' * len(given.trials)}")
    for name in given.sampler:
        learns_from_two = name in ("tpe", "gp", "nsgaii")
        for metrics in ("", TWO)[: 1 + learns_from_two]:
            row = [draw_ms(space_of(name, metrics), n, given.draws) for n in given.trials]
            told = f"{name}, two metrics" if metrics else name
            print(f"| {told} | {' | '.join(f'{ms:.1f}' for ms in row)} |", flush=True)


if __name__ == "__main__":
    main()
