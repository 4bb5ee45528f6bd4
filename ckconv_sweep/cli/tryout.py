"""`launch --dry-run` and `validate --run`: a trial, or the ends of a space, trained for a few
steps."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ckconv_sweep.cli import words
from ckconv_sweep.cli.words import number
from ckconv_sweep.config.grid import most_trials
from ckconv_sweep.config.settings import short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import NoScheduler
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import describe
from ckconv_sweep.errors import CkconvSweepError, ConfigError
from ckconv_sweep.models.parameters import parameters_of
from ckconv_sweep.own_process import package_root
from ckconv_sweep.search.ends import ends

if TYPE_CHECKING:
    from ckconv_sweep.execution.cluster import Placement

_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from ckconv_sweep.training.tryout import main; main()"
)
_NAMES = {1: ["all alike"], 2: ["smallest", "largest"], 3: ["smallest", "middle", "largest"]}


def try_space(space: Space, where: str, data_dir: Path | None, placement: Placement) -> None:
    """Try the smallest and the largest trial that a space can draw, and one in the middle; print
    what they need, and how long the budget takes. `where`: the space's file.

    Raises:
        ConfigError: one of them cannot be trained.
    """
    count = functools.cache(functools.partial(parameters_of, data_dir=data_dir))

    def size(trial: Trial) -> float:
        steps = describe(trial.data, data_dir).length
        return float(count(trial)) * steps * trial.training.batch_size

    found = ends(space, size, count)
    device = "cuda" if placement.gpus_per_trial else "cpu"
    answers = _tried([one.trial for one in found], data_dir, device)
    console = words.console()
    if not _is_tried(console, answers):
        return
    names = short_names(space.parameters())
    settings = {
        short: [number(one.params[name]) if name in one.params else "" for one in found]
        for name, short in names.items()
    }
    headings, trials = _NAMES[len(found)], [one.trial for one in found]
    _print(console, headings, settings, trials, answers)
    _check(where, answers, headings, [words.settings(one.params) for one in found])
    lines = [_budget(space, trials, answers, placement), _memory(answers, placement)]
    for line in filter(None, lines):
        console.print(line)


def try_trial(trial: Trial, where: str, data_dir: Path | None) -> None:
    """Try one trial, on a GPU if there is one, and print what it needs; `where` it stands.

    Raises:
        ConfigError: it cannot be trained.
    """
    answers, console = _tried([trial], data_dir, "auto"), words.console()
    if _is_tried(console, answers):
        _print(console, ["the trial"], {}, [trial], answers)
        _check(where, answers, ["the trial"], [""])


def _tried(trials: Sequence[Trial], data_dir: Path | None, device: str) -> list[dict[str, Any]]:
    """What each needs, by the names of `training.tryout.Tried`, or its error."""
    given = {
        "trials": [trial.model_dump_json() for trial in trials],
        "data_dir": str(data_dir) if data_dir else None,
        "device": device,
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, package_root()],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode == -signal.SIGKILL:
        answers.append({"error": "the system killed it, as it does where memory is full"})
    elif done.returncode:
        raise CkconvSweepError(
            f"the process that tries trials ended with exit code {done.returncode}",
            hint=done.stderr.strip()[-2_000:] or None,
        )
    return answers


def _is_tried(console: Console, answers: Sequence[Mapping[str, Any]]) -> bool:
    for answer in answers:
        if "absent" in answer:
            console.print(f"nothing was tried: {answer['absent']}", soft_wrap=True)
            return False
    return True


def _print(
    console: Console,
    headings: Sequence[str],
    settings: Mapping[str, Sequence[str]],
    trials: Sequence[Trial],
    answers: Sequence[Mapping[str, Any]],
) -> None:
    device = answers[0].get("device", "cpu")
    table = Table(title=f"tried, a few steps each ({device})", title_justify="left")
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, values in settings.items():
        table.add_row(Text(name), *map(Text, values))
    table.add_section()
    padded = [*answers, *[{"error": "not tried"}] * (len(trials) - len(answers))]
    rows: dict[str, list[str]] = {
        "parameters": [f"{a['parameters']:,}" if "parameters" in a else "" for a in padded],
        "memory": [_bytes(a["memory"]) if "memory" in a else "failed" for a in padded],
    }
    if any(a.get("device_memory") for a in padded):
        rows["GPU memory"] = [_bytes(a.get("device_memory", 0)) for a in padded]
    rows["steps an epoch"] = [f"{a['steps']:,}" if "steps" in a else "" for a in padded]
    rows["seconds an epoch"] = [f"{a['epoch_seconds']:.3g}" if "steps" in a else "" for a in padded]
    rows["epochs"] = [f"{trial.training.epochs:,}" for trial in trials]
    rows["the whole trial"] = [
        words.duration(_seconds(trial, a)) if "steps" in a else ""
        for trial, a in zip(trials, padded, strict=True)
    ]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)


def _check(
    where: str,
    answers: Sequence[Mapping[str, Any]],
    headings: Sequence[str],
    settings: Sequence[str],
) -> None:
    """Raises ConfigError for the first that cannot be trained."""
    for answer, heading, told in zip(answers, headings, settings, strict=False):
        if "error" in answer:
            which = heading if heading == "the trial" else f"the {heading} trial"
            raise ConfigError(
                f"{which} cannot be trained: {answer['error']}",
                where=where,
                hint=told or None,
            )


def _budget(
    space: Space,
    trials: Sequence[Trial],
    answers: Sequence[Mapping[str, Any]],
    placement: Placement,
) -> str:
    """How long the budget takes."""
    amount, places = most_trials(space), _places(placement)
    rounds = amount / min(amount, places or 1)
    times = [rounds * _seconds(t, a) for t, a in zip(trials, answers, strict=True)]
    middle = times[len(times) // 2]
    shown = [_in_words(seconds) for seconds in (middle, min(times), max(times))]
    at_once = f"{min(amount, places)} at a time" if places else "one at a time"
    line = f"{words.count(amount, 'trial')}, {at_once}: about {shown[0]}"
    line += f" ({shown[1]} to {shown[2]} if all are like one of these)" * (shown[1] != shown[2])
    if not isinstance(space.scheduler, NoScheduler) and not space.scheduler.kept_epochs:
        line += f", less what {space.scheduler.name} stops"
    hours = space.budget.hours
    if hours is not None and middle > hours * 3600:
        line += f"; the budget's {hours:g} hours are up before"
    return line


def _memory(answers: Sequence[Mapping[str, Any]], placement: Placement) -> str:
    """A line where this machine has too little for so many at a time."""
    places = _places(placement)
    room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed = (places or 0) * max(answer["memory"] for answer in answers)
    if placement.address not in (None, "local") or needed <= room:
        return ""
    return (
        f"{places} at a time may need {_bytes(needed)}, and this machine has {_bytes(room)}: "
        "take a smaller --concurrency"
    )


def _places(placement: Placement) -> int | None:
    """How many processes train at a time; None where only the cluster knows."""
    if placement.address not in (None, "local"):
        return placement.concurrency
    room = len(os.sched_getaffinity(0)) / placement.cpus_per_trial
    if placement.gpus_per_trial:
        import torch

        room = min(room, torch.cuda.device_count() / placement.gpus_per_trial)
    return max(1, min(int(room), placement.concurrency or int(room)))


def _seconds(trial: Trial, answer: Mapping[str, Any]) -> float:
    return float(trial.training.epochs * answer["epoch_seconds"])


def _in_words(seconds: float) -> str:
    size, unit = next((s, u) for s, u in _UNITS if seconds >= s or s == 1)
    return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"


_UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))


def _bytes(amount: float) -> str:
    return f"{amount / 2**30:.2f} GiB"
