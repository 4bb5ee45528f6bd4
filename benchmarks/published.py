"""What the published settings reach here: the trial file of each row of the guide's table, trained
with fresh seeds and scored once on the test split, by the tool's own commands.

    python -m benchmarks.published --data-dir ~/data --out published
    python -m benchmarks.published --out published --only-tell           # the table so far
    python -m benchmarks.published --out published --only-tell --fill    # also into docs/

Each row is a sweep of one trial, whose settings are those of `trials/ROW.yaml`, and then
`ckconv-sweep confirm ROW --seeds 3`; the search's own trial counts in no number. Rows are trained
one after the other, one process at a time. What is interrupted goes on with the same command, and
a row that has ended is not trained again.
"""

from __future__ import annotations

import argparse
import itertools
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from ckconv_sweep.config.read import read_trial
from ckconv_sweep.record.confirmation import Opening
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.report.numbers import around, score
from ckconv_sweep.report.openings import interval_of
from ckconv_sweep.search.confirmed import Confirmed, confirmed

ROOT = Path(__file__).parents[1]
ROWS = (
    *(f"character_trajectories_{form}" for form in ("sr1", "drop30", "drop50", "drop70")),
    *(f"character_trajectories_{form}" for form in ("sr2", "sr4", "sr8")),
    "adding",
    "copy_memory",
)
"""Of the guide's table, those that a CPU core trains in hours; the most telling first."""
HEAD = "| trial | seeds | validation | test | test sequences | minutes a seed |"
SEARCHED = "model.dropout"
"""A space must search a setting: this one, with the trial file's value as the only choice."""


def trained(row: str, given: argparse.Namespace) -> bool:
    """Run a row's sweep and its confirmation, or what is left of them. Returns whether both have
    ended; what they print lies beside the sweeps, in ROW.log."""
    file = given.out / f"{row}.yaml"
    path = ROOT / "trials" / f"{row}.yaml"
    space = {
        "trial": str(path),
        "search": {SEARCHED: {"choices": [read_trial(str(path)).model.dropout]}},
        "budget": {"trials": 1},
    }
    file.write_text(yaml.safe_dump(space, sort_keys=False))
    where = ["--concurrency", "1", "--sweeps-dir", str(given.out)]
    where += ["--data-dir", str(given.data_dir)]
    steps = (["launch", str(file), "--name", row], ["confirm", row, "--seeds", str(given.seeds)])
    for step in steps:
        command = ["ckconv-sweep", *step, *where]
        with (given.out / f"{row}.log").open("a") as log:
            code = subprocess.run(command, stdout=log, stderr=log).returncode
        if code:
            print(f"{row}: {step[0]} ended with exit code {code}: see {log.name}", flush=True)
            return False
    return True


@dataclass(frozen=True)
class Result:
    """What is known of a row."""

    seeds: str
    validation: str = ""
    test: str = ""
    sequences: str = ""
    minutes: str = ""
    cell: str = ""
    """Of the guide's column; empty before the test split was opened."""


def result(row: str, out: Path) -> Result:
    """From the sweep's folder, also while it is trained."""
    folder = SweepFolder.of(out, row)
    if not folder.records.exists():
        return Result("none")
    with folder.records.open() as study:
        found = confirmed(study, lambda trial: 0)
    if found is None:
        return Result("none")
    (setting,) = found.settings
    opening = next(iter(found.test), None)
    return Result(
        f"{len(setting.values)} of {found.plan.seeds}",
        _validation(found),
        "" if opening is None else _test(opening),
        "" if opening is None else f"{opening.sequences:,}",
        "" if setting.seconds is None else f"{setting.seconds / 60:.1f}",
        "" if opening is None else _cell(opening),
    )


def _validation(found: Confirmed) -> str:
    (setting,) = found.settings
    if not setting.values:
        return ""
    name = found.metric.name.removeprefix("val/")
    return f"{name} {around(setting.mean, setting.low, setting.high, of=score(setting.mean))}"


def _test(opening: Opening) -> str:
    told = []
    for name, value in sorted(opening.scores.items(), key=lambda one: one[0].endswith("/loss")):
        mean = around(value, *interval_of(opening, name), of=score(value))
        told.append(f"{name.removeprefix('test/')} {mean}")
    return ", ".join(told)


def _cell(opening: Opening) -> str:
    """An accuracy in per cent, or else the error."""
    name = "test/accuracy" if "test/accuracy" in opening.scores else "test/mean_squared_error"
    value, (low, high) = opening.scores[name], interval_of(opening, name)
    half = 0.0 if math.isnan(low) else max(value - low, high - value)
    if name == "test/accuracy":
        return f"{100 * value:.2f} ± {100 * half:.2f} ⁴"
    return f"{value:.1e} ± {half:.1e} ⁴"


def table(results: dict[str, Result]) -> list[str]:
    """As Markdown."""
    lines = [HEAD, "|---|---|---|---|---|---|"]
    for row, of in results.items():
        cells = (f"`{row}`", of.seeds, of.validation, of.test, of.sequences, of.minutes)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def fill(results: dict[str, Result]) -> None:
    """Put the numbers into the guide's column, of rows that have ended, and the table into
    docs/results.md."""
    guide, page = ROOT / "docs" / "guide.md", ROOT / "docs" / "results.md"
    lines = guide.read_text().splitlines()
    for row, of in results.items():
        at = next(i for i, line in enumerate(lines) if f"| `ckconv-sweep train {row}`" in line)
        if of.cell:
            first, _, _ = lines[at].rstrip().removesuffix("|").rpartition("|")
            lines[at] = f"{first}| {of.cell} |"
    guide.write_text("\n".join(lines) + "\n")
    lines = page.read_text().splitlines()
    start = lines.index(HEAD)
    rest = itertools.dropwhile(lambda line: line.startswith("|"), lines[start:])
    page.write_text("\n".join([*lines[:start], *table(results), *rest]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the sweeps' folder")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW")
    parser.add_argument("--only-tell", action="store_true", help="train nothing")
    parser.add_argument("--fill", action="store_true", help="write the numbers into docs/")
    given = parser.parse_args()
    given.out.mkdir(exist_ok=True)
    ended = [given.only_tell or trained(row, given) for row in given.rows]
    results = {row: result(row, given.out) for row in given.rows}
    print("\n".join(table(results)))
    if given.fill:
        fill(results)
    sys.exit(0 if all(ended) else 1)


if __name__ == "__main__":
    main()
