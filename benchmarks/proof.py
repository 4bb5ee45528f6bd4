"""What samplers and stopping rules are worth: trials, epochs and seconds until a sweep of `digits`
has a trial within two points of the best accuracy that there is.

    python -m benchmarks.proof
    python -m benchmarks.proof --sampler random tpe --rule none "{name: asha, grace_epochs: 3}"
    python -m benchmarks.proof --within 0.005

Sweeps are simulated on the table of curves that comes with the package, at one place: the nearest
setting of the table that was not tried stands for a sampler's draw. A sweep has reached the
accuracy when a trial that ran to its end has it. Of so many repetitions, each with a seed of the
sampler: means with their 95 % intervals (Student t). One that has tried all 400 settings and has
not reached it, because the rule stopped all trials that would have, counts with what it has spent.
"""

from __future__ import annotations

import argparse
import logging
import time
from statistics import fmean, stdev

from scipy.stats import t as student

from ckconv_sweep.config.read import read_rule, read_sampler
from ckconv_sweep.config.sampling import Sampler
from ckconv_sweep.config.stopping import StoppingRule
from ckconv_sweep.report.simulated import default_rules, in_words
from ckconv_sweep.search.curve_table import CurveTable, bundled
from ckconv_sweep.search.from_table import simulate_sampler

SAMPLERS = ("random", "qmc", "tpe", "gp")
WITHIN = 0.02
"""Of the best accuracy: what 288 validation sequences can hardly tell apart (the standard error of
0.98 is 0.008)."""


def goal_of(table: CurveTable, within: float) -> float:
    """The accuracy that is to be reached."""
    return max(record.value(table.space.metric) for record in table.records) - within


def interval(values: list[float]) -> str:
    """Mean and 95 % interval."""
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{fmean(values):.0f} ± {half:.0f}"


def row(
    table: CurveTable, sampler: Sampler, rule: StoppingRule, goal: float, repetitions: int
) -> str:
    """A line of the table."""
    metric = table.space.metric
    trials, epochs, seconds, reached = list[float](), list[float](), list[float](), 0
    began = time.perf_counter()
    for seed in range(repetitions):
        seeded = sampler.model_copy(update={"seed": seed})
        swept = simulate_sampler(table, seeded, rule, goal=goal)
        trials.append(len(swept.trials))
        epochs.append(swept.epochs)
        seconds.append(swept.seconds)
        reached += any(t.stop is None and t.record.value(metric) >= goal for t in swept.trials)
    cells = [sampler.name, in_words(rule), *map(interval, (trials, epochs, seconds))]
    cells += [f"{reached} of {repetitions}", f"{time.perf_counter() - began:.0f} s"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sampler", nargs="*", default=SAMPLERS)
    parser.add_argument("--rule", nargs="*", help="default: every rule, and asha from epoch 3 on")
    parser.add_argument("--within", type=float, default=WITHIN, help="of the best accuracy")
    parser.add_argument("--repetitions", type=int, default=100)
    given = parser.parse_args()
    logging.getLogger("optuna").setLevel(logging.WARNING)
    table = bundled("digits")
    rules = [read_rule(rule, "--rule") for rule in given.rule or ()]
    if not rules:
        rules, _ = default_rules(table.space)
        rules.append(read_rule("{name: asha, grace_epochs: 3}", "--rule"))
    goal = goal_of(table, given.within)
    there = sum(record.value(table.space.metric) >= goal for record in table.records)
    print(
        f"until {table.space.metric.name} >= {goal:.4f}, which {there} of {len(table.records)} have"
    )
    print("\n| sampler | rule | trials | epochs | seconds | reached | took |")
    print("|---|---|---|---|---|---|---|")
    for name in given.sampler:
        for rule in rules:
            sampler = read_sampler(name, "--sampler")
            print(row(table, sampler, rule, goal, given.repetitions), flush=True)


if __name__ == "__main__":
    main()
