"""Record the table of curves that ships with the package: settings of `digits`, each trained to its
end, with the validation scores and the seconds of every epoch.

    python -m benchmarks.record_curves --out curves.jsonl                  # goes on where it ended
    python -m benchmarks.record_curves --out curves.jsonl \\
        --pack ckconv_sweep/search/tables/digits.json.gz

One process, one thread, no Ray; the settings are the first points of a scrambled Sobol sequence,
trial n has seed n, and the test set is not read. Seconds are those of the processor, which other
work on the machine changes little.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ckconv_sweep.config.domains import Scalar
from ckconv_sweep.config.read import read_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import NonFiniteLoss
from ckconv_sweep.models.parameters import parameters_of
from ckconv_sweep.search.curve_table import packed, read_table
from ckconv_sweep.search.feasible import Infeasible, resolved
from ckconv_sweep.search.view import View
from ckconv_sweep.training.allocator import keep_pages
from ckconv_sweep.training.pack import Member, Pack

SPACE = Path(__file__).with_name("curves.yaml")
DIGITS = {"val/accuracy": 6, "val/loss": 5, "time/epoch_seconds": 3}
RECORDED = (
    "benchmarks/record_curves.py: trials/digits.yaml with settings of benchmarks/curves.yaml, "
    "trial n with seed n, every epoch on the validation split; seconds are those of one thread of "
    "an AMD EPYC server CPU"
)


def settings(space: Space) -> Iterator[tuple[int, dict[str, Scalar], Trial]]:
    """What is trained: numbers, parameters, trials; a point that no constraint rejects each."""
    view, number, position = View(space), 0, 0
    while number < space.budget.trials:
        params = dict(view.draw(position).params)
        found = resolved(space, params, number, parameters_of)
        position += 1
        if not isinstance(found, Infeasible):
            yield number, params, found
            number += 1


def curve(trial: Trial, task: Any) -> dict[str, Any]:
    """The scores and the seconds of each epoch; shorter, with an error, where a loss is none."""
    pack, member = Pack(task), Member.open(trial, task)
    pack.join(member)
    epochs: list[dict[str, float]] = []
    while member.end is None:
        start = time.process_time()
        outcome = pack.epoch()[member]
        seconds = time.process_time() - start
        if isinstance(outcome, NonFiniteLoss):
            return {"epochs": epochs, "error": outcome.message}
        scores = {n: v for n, v in member.keep().metrics.items() if n.startswith("val/")}
        epochs.append({**scores, "time/epoch_seconds": seconds})
    return {"epochs": epochs}


def record(out: Path, most: int) -> None:
    """Append each setting that the file lacks, as a line of JSON."""
    keep_pages()
    torch.set_num_threads(1)
    space = read_space(str(SPACE))
    task = load(space.trial.data)
    done = len(out.read_text().splitlines()) if out.exists() else 0
    for number, params, trial in settings(space):
        if not done <= number < most:
            continue
        line = {"number": number, "params": params, "parameters": parameters_of(trial)}
        line |= curve(trial, task)
        with out.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def pack(lines: Path, to: Path) -> None:
    """Write the table of the settings that ran to their end."""
    trials = []
    for line in lines.read_text().splitlines():
        told = json.loads(line)
        if "error" in told:
            raise SystemExit(f"setting {told['number']}: {told['error']}")
        curves = {
            name: [float(f"{epoch[name]:.{digits}g}") for epoch in told["epochs"]]
            for name, digits in DIGITS.items()
        }
        trials.append({"params": told["params"], "model.parameters": told["parameters"], **curves})
    to.parent.mkdir(exist_ok=True)
    to.write_bytes(packed(read_space(str(SPACE)), RECORDED, trials))
    print(f"{len(read_table(to).records)} settings, {to.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each setting")
    parser.add_argument("--most", type=int, default=400, help="end after so many settings")
    parser.add_argument("--pack", type=Path, help="then write the table to this file")
    given = parser.parse_args()
    record(given.out, given.most)
    if given.pack is not None:
        pack(given.out, given.pack)


if __name__ == "__main__":
    main()
