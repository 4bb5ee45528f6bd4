"""What it costs TPE that the next trial is drawn before the last one has ended.

    python -m benchmarks.draw_ahead --trials 60 --places 2 --seeds 200

A place whose trial is in its last epoch, and short, is given the next one meanwhile
(`execution.desk.AHEAD_SECONDS`), so the sampler does not know that trial's result yet: it sees it
as one that runs. Here sweeps are made of a formula with noise, in a time of their own, once so and
once with every result known; each pair has the same seed and the same lengths of trials.

Printed: the best value without its noise after so many trials, the mean over the seeds, and the
difference of the pairs with its 95 % interval. The best that the formula can give is 1.
"""

from __future__ import annotations

import argparse
import heapq
import math
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna

from benchmarks.machine import processor
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.search.view import Draw, View

SPACE = """
trial: {{data: {{name: digits}}, training: {{epochs: 1}}}}
search:
  model.hidden_channels: {{low: 8, high: 40, step: 4}}
  model.kernel.omega_0: {{low: 1.0, high: 70.0, log: true}}
  model.dropout: {{low: 0.0, high: 0.3}}
  optimizer.learning_rate: {{low: 1.0e-4, high: 1.0e-1, log: true}}
sampler: {{name: {sampler}, seed: {seed}}}
budget: {{trials: {trials}}}
"""
NOISE = 0.01
"""The standard deviation of what another seed of a trial would give."""


def value(params: Mapping[str, Any]) -> float:
    """A hill over omega_0 and learning rate, on a slope to wider networks; 1 at its top."""
    omega = math.log10(params["model.kernel.omega_0"] / 25)
    rate = math.log10(params["optimizer.learning_rate"] / 4e-3)
    width = (40 - params["model.hidden_channels"]) / 32
    dropout = params["model.dropout"] - 0.1
    lost = 0.3 * omega**2 + 0.2 * (rate + 0.3 * omega) ** 2 + 0.05 * width + dropout**2
    return float(1 - lost)


def sweep(sampler: str, trials: int, places: int, seed: int, *, ahead: bool) -> float:
    """The value of the trial that this sweep calls its best."""
    text = SPACE.format(sampler=sampler, seed=seed, trials=trials)
    view, rng = View(parse_space(text, "space")), np.random.default_rng(seed)
    running: list[tuple[float, int]] = []
    seen: list[tuple[float, float]] = []
    drawn: list[Draw] = []
    lengths, noises = rng.uniform(0.5, 1.5, trials), rng.normal(0, NOISE, trials)

    def begin(now: float) -> None:
        if (number := len(drawn)) < trials:
            drawn.append(view.draw(number, number))
            heapq.heappush(running, (now + lengths[number], number))

    def end(number: int) -> None:
        params = drawn[number].params
        true = value(params)
        seen.append((true + noises[number], true))
        epoch = Epoch(number=1, metrics={"val/accuracy": seen[-1][0]}, timestamp_ms=0)
        view.show(TrialRecord(number=number, outcome="completed", params=params, history=(epoch,)))

    for _ in range(places):
        begin(0.0)
    while running:
        now, number = heapq.heappop(running)
        if ahead:
            begin(now)
        end(number)
        if not ahead:
            begin(now)
    return max(seen)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[20, 60])
    parser.add_argument("--places", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--sampler", default="tpe")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{processor()}; {asked.sampler}, {asked.seeds} seeds")
    print(f"{'trials':>7}{'places':>8}{'all known':>12}{'ahead':>10}  difference")
    for trials in asked.trials:
        for places in asked.places:
            known, ahead = (
                [sweep(asked.sampler, trials, places, s, ahead=so) for s in range(asked.seeds)]
                for so in (False, True)
            )
            pairs = [b - a for a, b in zip(known, ahead, strict=True)]
            mean = statistics.fmean(pairs)
            half = 1.96 * statistics.stdev(pairs) / math.sqrt(len(pairs))
            told = f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"
            means = (statistics.fmean(known), statistics.fmean(ahead))
            print(f"{trials:7}{places:8}{means[0]:12.4f}{means[1]:10.4f}  {told}", flush=True)


if __name__ == "__main__":
    main()
