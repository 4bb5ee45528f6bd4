"""What a sampler and a stopping rule are worth in real sweeps of Character Trajectories: trials,
epochs and seconds of training until a completed trial has the accuracy that is asked for.

    python -m benchmarks.proof_trajectories --data-dir ~/data --out proof
    python -m benchmarks.proof_trajectories --out proof --only-tell

Each row is swept with seeds 0, 1, ... by `ckconv-sweep launch` itself, two trials at a time: what
is interrupted goes on with the same command, and a sweep that has ended is not run again. A sweep
ends at the accuracy, or after all its trials; then it counts with what it has spent. Means with
their 95 % intervals (Student t). The test split is not read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

from benchmarks.proof import interval
from ckconv_sweep.config.metrics import SECONDS
from ckconv_sweep.config.read import read_rule
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.report.simulated import in_words

SPACE = Path(__file__).with_suffix(".yaml")
ASHA = "{name: asha, grace_epochs: 3, reduction_factor: 2}"
ROWS = {
    "random": ("random", "none"),
    "random-asha": ("random", ASHA),
    "tpe-asha": ("tpe", ASHA),
}


def swept(name: str, row: str, seed: int, given: argparse.Namespace) -> None:
    """Run a sweep, or what is left of it."""
    sampler, rule = ROWS[row]
    space = yaml.safe_load(SPACE.read_text())
    space["sampler"] = {"name": sampler, "seed": seed}
    space["scheduler"] = yaml.safe_load(rule) if rule.startswith("{") else {"name": rule}
    space["budget"] = {"trials": given.trials, "goal": f"val/accuracy >= {given.goal}"}
    file = given.out / f"{name}.yaml"
    file.write_text(yaml.safe_dump(space, sort_keys=False))
    command = ["ckconv-sweep", "launch", str(file), "--name", name, "--concurrency", "2"]
    command += ["--sweeps-dir", str(given.out), "--data-dir", str(given.data_dir)]
    with (given.out / f"{name}.log").open("a") as log:
        code = subprocess.run(command, stdout=log, stderr=log).returncode
    if code not in (0, 3):
        sys.exit(f"{name} ended with exit code {code}: see {log.name}")


def spent(study: Study, goal: float) -> tuple[int, int, float, bool]:
    """Trials begun, epochs and seconds of training until the first completed trial has the goal,
    and whether one has."""
    metric, records = study.space.metric, study.trials()
    reached = [
        record.ended_ms
        for record in records
        if record.outcome == "completed"
        and record.ended_ms is not None
        and record.value(metric) >= goal
    ]
    until = min(reached, default=float("inf"))
    begun = [record for record in records if record.counts and record.started_ms <= until]
    epochs = [epoch for record in begun for epoch in record.history if epoch.timestamp_ms <= until]
    seconds = sum(epoch.metrics[SECONDS] for epoch in epochs)
    return len(begun), len(epochs), seconds, bool(reached)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the sweeps' folder")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=24, help="of a sweep, at most")
    parser.add_argument("--goal", type=float, default=0.993, help="validation accuracy")
    parser.add_argument("--only-tell", action="store_true", help="run nothing")
    given = parser.parse_args()
    given.out.mkdir(exist_ok=True)
    for seed in range(0 if given.only_tell else given.seeds):
        for row in ROWS:
            swept(f"{row}-{seed}", row, seed, given)
    print("| sampler | rule | trials | epochs | seconds | reached |")
    print("|---|---|---|---|---|---|")
    for row, (sampler, rule) in ROWS.items():
        found = []
        for seed in range(given.seeds):
            folder = SweepFolder.of(given.out, f"{row}-{seed}")
            if folder.records.exists():
                with folder.records.open() as study:
                    found.append(spent(study, given.goal))
        if len(found) > 1:
            trials, epochs, seconds, reached = zip(*found, strict=True)
            cells = [sampler, in_words(read_rule(rule, "ROWS"))]
            cells += [interval([*map(float, one)]) for one in (trials, epochs, seconds)]
            print(f"| {' | '.join(cells)} | {sum(reached)} of {len(found)} |")


if __name__ == "__main__":
    main()
