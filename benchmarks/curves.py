"""What stopping rules save, and what they lose, on recorded curves; and whether a rule that
extrapolates a trial's curve would do better. It would not (docs/decisions.md), so it stands here.

Random sweeps are drawn from a table of curves that ran to their end and replayed epoch by epoch,
some trials side by side. Numbers beside a rule are the settings it was given; asha's are
`grace_epochs` and `reduction_factor`. `loss` is by how much the best completed trial is worse than
the best of all that began, mean and standard error.

    python -m benchmarks.curves
    python -m benchmarks.curves --metric val/loss --repetitions 100
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from ckconv_sweep import config
from ckconv_sweep.config.history import Go, Stop, Verdict
from ckconv_sweep.config.metrics import METRICS
from ckconv_sweep.config.stopping import RULES, Asha
from ckconv_sweep.search.rules import Curve, Curves

TABLE = Path(config.__file__).parents[1] / "search" / "tables" / "digits.json.gz"
"""400 settings of digits, each trained to its end."""
Values = NDArray[np.float64]
Judge = Callable[[Curves, int, str], Verdict]
OTHERS: list[dict[str, Any]] = [
    {"name": "hyperband"},
    {"name": "hyperband", "grace_epochs": 2, "reduction_factor": 2},
    {"name": "median"},
    {"name": "median", "startup_trials": 2, "warmup_epochs": 2},
    {"name": "percentile"},
    {"name": "percentile", "percentile": 10.0, "warmup_epochs": 2},
    {"name": "patient", "epochs": 2, "rule": RULES["percentile"](name="percentile")},
]
ASHA = [
    Asha(grace_epochs=grace, reduction_factor=f) for f in (2, 3, 4) for grace in (1, 2, 3, 4, 6)
]


def table(path: Path, metric: str) -> Values:
    """A curve a row."""
    trials = json.loads(gzip.decompress(path.read_bytes()))["trials"]
    return np.array([trial[metric] for trial in trials])


@dataclass
class Extrapolation:
    """Stop a trial whose chance to beat the best completed trial is below `chance`, as in Domhan et
    al. 2015 (IJCAI) and Klein et al. 2017 (ICLR), whose curves are extrapolated by Markov chains;
    Adriaensen et al. 2023 (LC-PFN, arXiv:2310.20447) do it with a trained network. Here, in less
    than a millisecond, by Bayesian linear regression: what a trial still gains until its end
    follows from its best value so far and from what it gained since half of its epochs.

    A value enters as -log(1 + distance to the best completed trial / scale), so that good trials
    and bad ones err alike; the scale is a quarter of what the best trial gained over the median of
    all trials after their first epoch. The regression learns from the trials that have completed,
    and from a prior that says as much as `PRIOR_TRIALS` of them: of a trial the share `s` of whose
    epochs has passed, a gain of `2.8 exp(-4.5 s)` times the last one, with a variance of
    `0.2 exp(-4.5 s)`. These numbers were fitted on the first 200 curves of digits.
    """

    chance: float = 0.05
    warmup_epochs: int = 1
    stated: list[tuple[int, float, float]] = field(default_factory=list)
    """Of each verdict the trial, its chance, and the value to beat, as `more is better`."""

    PRIOR_TRIALS = 4.0

    def __call__(self, curves: Curves, number: int, mode: str) -> Verdict:
        """The verdict after a trial's last epoch."""
        sign = 1.0 if mode == "max" else -1.0
        own = np.maximum.accumulate(sign * np.array(curves[number].values))
        epoch = len(own)
        ended = [c.values for _, c in sorted(curves.items()) if c.completed]
        if epoch <= self.warmup_epochs or not ended:
            return Go()
        known = np.maximum.accumulate(sign * np.array(ended), axis=1)
        best = float(known[:, -1].max())
        if own[-1] >= known[:, epoch - 1].max():
            return Go()
        scale = max(best - float(np.median(sign * np.array(curves.reached(1)))), 1e-12) / 4
        chance = self._chance(-np.log1p((best - own) / scale), -np.log1p((best - known) / scale))
        self.stated.append((number, chance, best))
        return Stop(f"extrapolated, epoch {epoch}: {chance}") if chance < self.chance else Go()

    def _chance(self, own: Values, known: Values) -> float:
        """That the end is more than 0, which is where the best one ended."""
        epoch, half = len(own), (len(own) + 1) // 2
        fallen = np.exp(-4.5 * epoch / known.shape[1])
        prior, weight = np.array([0.0, 0.0, 2.8 * fallen]), self.PRIOR_TRIALS

        def features(curves: Values) -> Values:
            now = curves[:, epoch - 1]
            return np.stack([np.ones(len(curves)), now, now - curves[:, half - 1]], axis=1)

        x, gains = features(known), known[:, -1] - known[:, epoch - 1]
        precision = weight * np.eye(3) + x.T @ x
        mean = np.linalg.solve(precision, x.T @ gains + weight * prior)
        freedom = weight + len(gains)
        squares = weight * (0.2 * fallen + prior @ prior) + gains @ gains - mean @ precision @ mean
        mine = features(own[None])[0]
        error = np.sqrt(squares / freedom * (1 + mine @ np.linalg.solve(precision, mine)))
        return float(t.sf((-own[-1] - mine @ mean) / error, freedom))


def replayed(judge: Judge, drawn: Values, mode: str, at_a_time: int) -> tuple[int, float]:
    """Epochs that a sweep uses, and the value of its best completed trial."""
    curves, waiting, running, epochs = Curves({}), deque(range(len(drawn))), deque[int](), 0
    while waiting or running:
        while waiting and len(running) < at_a_time:
            running.append(waiting.popleft())
            curves[running[-1]] = Curve([])
        number = running.popleft()
        epoch = len(curves[number].values)
        curves.add(number, float(drawn[number, epoch]))
        epochs += 1
        if epoch + 1 == drawn.shape[1]:
            curves.complete(number)
        elif not isinstance(judge(curves, number, mode), Stop):
            running.append(number)
    best = max if mode == "max" else min
    return epochs, best(best(c.values) for c in curves.values() if c.completed)


@dataclass
class Outcome:
    """Of each repetition the share of all epochs that was used, and what was lost."""

    used: Values
    lost: Values

    def __str__(self) -> str:
        errors = (v.std(ddof=1) / np.sqrt(len(v)) for v in (self.used, self.lost))
        used, lost = next(errors), next(errors)
        return f"{self.used.mean():8.3f} ({used:.3f}) {self.lost.mean():9.4f} ({lost:.4f})"


def shares(asha: Sequence[Outcome], other: Outcome, rng: np.random.Generator) -> Values:
    """Epochs used over those with which the best settings of asha lose as little, between
    neighbours in proportion: of resampled repetitions. These settings are chosen in hindsight,
    which nobody who launches a sweep can do."""
    found = []
    for _ in range(1000):
        rows = rng.integers(len(other.used), size=len(other.used))
        points = sorted((o.lost[rows].mean(), o.used[rows].mean()) for o in asha)
        lost, used = (np.array(column) for column in zip(*points, strict=True))
        # The least that loses no more: falling from the point that loses nothing on.
        least = np.minimum.accumulate(used)
        found.append(other.used[rows].mean() / np.interp(other.lost[rows].mean(), lost, least))
    return np.array(found)


def words(settings: Mapping[str, Any]) -> str:
    """A rule by its settings."""
    return " ".join(str(getattr(value, "name", value)) for value in settings.values())


def interval(values: Values, digits: int) -> str:
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{values.mean():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=Path, default=TABLE)
    parser.add_argument("--metric", default="val/accuracy")
    parser.add_argument("--trials", type=int, default=50, help="of a sweep")
    parser.add_argument("--at-a-time", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=300)
    asked = parser.parse_args()
    known, mode = table(asked.curves, asked.metric), METRICS[asked.metric].mode
    sign = 1 if mode == "max" else -1
    whole = asked.trials * known.shape[1]
    draws = [
        known[np.random.default_rng(seed).permutation(len(known))[: asked.trials]]
        for seed in range(asked.repetitions)
    ]
    print(
        f"{len(known)} curves of {known.shape[1]} epochs, {asked.metric}; {len(draws)} sweeps of "
        f"{asked.trials} trials, {asked.at_a_time} at a time\n"
        f"{'rule':44}{'epochs used':>16}{'loss':>19}  epochs, over asha's for this loss"
    )
    rng = np.random.default_rng(0)

    def tried(name: str, make: Callable[[], Judge], asha: Sequence[Outcome] = ()) -> Outcome:
        used, lost = [], []
        for drawn in draws:
            epochs, best = replayed(make(), drawn, mode, asked.at_a_time)
            used.append(epochs / whole)
            lost.append((sign * drawn).max() - sign * best)
        outcome = Outcome(np.array(used), np.array(lost))
        over = interval(shares(asha, outcome, rng), 2) if asha else ""
        print(f"{name:44}{outcome}  {over}", flush=True)
        return outcome

    def of(rule: Any) -> Callable[[], Judge]:
        return lambda: lambda curves, number, way: RULES.maker(rule.name)(rule, curves, number, way)

    asha = [tried(words({"name": "asha", **rule.model_dump()}), of(rule)) for rule in ASHA]
    for settings in OTHERS:
        tried(words(settings), of(RULES[settings["name"]](**settings)), asha)
    for chance in (0.02, 0.05, 0.1):
        made = [Extrapolation(chance) for _ in draws]
        tried(f"extrapolation, {chance:.0%}", iter(made).__next__, asha)
        if chance == 0.05:
            calibration(made, draws, sign, rng)


BINS = (0.0, 0.01, 0.03, 0.08, 0.15, 0.3, 0.5, 1.0)


def calibration(
    made: list[Extrapolation], draws: list[Values], sign: int, rng: np.random.Generator
) -> None:
    """Of the verdicts with a stated chance the share whose trial, run to its end, beats the best
    trial that had completed by then; intervals by resampling sweeps."""
    stated, hits = [], []
    for one, drawn in zip(made, draws, strict=True):
        ends = (sign * drawn).max(axis=1)
        stated.append(np.array([chance for _, chance, _ in one.stated]))
        hits.append(np.array([ends[number] > best for number, _, best in one.stated]))
    for low, high in (*pairwise(BINS), (0.0, made[0].chance)):
        counts = np.array([((low <= s) & (s < high)).sum() for s in stated])
        there = np.array(
            [h[(low <= s) & (s < high)].sum() for s, h in zip(stated, hits, strict=True)]
        )
        rows = rng.integers(len(draws), size=(1000, len(draws)))
        real = 100 * there[rows].sum(axis=1) / counts[rows].sum(axis=1)
        mean = (
            100
            * np.concatenate(stated)[
                (low <= np.concatenate(stated)) & (np.concatenate(stated) < high)
            ].mean()
        )
        what = "all stopped" if (low, high) == (0.0, made[0].chance) else f"{low:.0%} to {high:.0%}"
        print(f"    stated {what:>12}: {mean:5.1f} % on average, in truth {interval(real, 1)} %, "
              f"{counts.sum()} verdicts")  # fmt: skip


if __name__ == "__main__":
    main()
