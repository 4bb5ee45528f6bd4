"""How fast a device trains: alone, packed, recorded, in each precision, in a sweep."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import packs, precision, step
from benchmarks.drawn import task_of
from benchmarks.gpu.check import Row, Rows
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.training import graphs
from ckconv_sweep.training.allocator import keep_pages

SPACE = """\
trial: digits
search:
  optimizer.learning_rate: {low: 1.0e-3, high: 2.0e-2, log: true}
  model.dropout: {low: 0.0, high: 0.2, step: 0.1}
sampler: {name: random, seed: 0}
scheduler: {name: none}
budget: {trials: 8}
"""
"""All of its trials have one shape, so they can be packed."""


def step_98k(options: argparse.Namespace) -> Rows:
    """A training step of the published 98K network."""
    return _steps("98K", options)


def step_1m(options: argparse.Namespace) -> Rows:
    """A training step of the published 1M network."""
    return _steps("1M", options)


def _steps(size: str, options: argparse.Namespace) -> Rows:
    given = ["--size", size, "--device", options.device]
    given += ["--length", "64", "--batch", "4", "--steps", "1"] if options.quick else []
    given += ["--steps", "50"] if options.device == "cuda" and not options.quick else []
    given += ["--reference", str(options.reference)] if options.reference else []
    asked = step.arguments(given)
    shape = f"batch {asked.batch}, {asked.length} steps of time"
    ours = step.in_a_process(asked, "ours", step.SETTINGS["keep_pages"])
    yield Row(f"ours, {shape}", _told(ours))
    for side in ("authors", "einsum"):
        if options.reference is None:
            yield Row(side, note="not run: needs --reference")
            continue
        try:
            theirs = step.in_a_process(asked, side, step.SETTINGS["keep_pages"])
        except SystemExit as error:  # that theirs has no room, say, is no fault of ours
            yield Row(side, note=str(error).strip().splitlines()[-1])
            continue
        yield Row(side, {"times ours": theirs["seconds"] / ours["seconds"]} | _told(theirs))


def _told(measured: dict[str, float]) -> dict[str, float]:
    return {"ms a step": 1e3 * measured["seconds"], "MiB": measured["memory"]}


def packs_of_digits(options: argparse.Namespace) -> Rows:
    """Packs of small networks, steps called and recorded."""
    return _packs("digits", [1, 4, 16, 64], options)


def packs_of_98k(options: argparse.Namespace) -> Rows:
    """Packs of the 98K network, steps called and recorded."""
    return _packs("98k", [1, 2, 4, 8, 16, 32, 64], options)


def packs_of_1m(options: argparse.Namespace) -> Rows:
    """Packs of the 1M network, steps called and recorded."""
    return _packs("1m", [1, 4, 16], options)


MOST_RECORDED = 16
"""Whether a larger pack could gain by graphs, `busy` says."""


def _packs(size: str, numbers: list[int], options: argparse.Namespace) -> Rows:
    keep_pages()
    first = None
    for members in [1, 2] if options.quick else numbers:
        few = members <= MOST_RECORDED
        steps = 2 if options.quick else 50 if few else 20  # operations are counted in the second
        repeats, batch = (1, 2) if options.quick else (2, None)
        measured = partial(
            packs.measured, size, members, steps, repeats, options.device, batch=batch
        )
        os.environ[graphs.VARIABLE] = "0"
        called = measured()
        rate = members * steps / called.seconds
        first = first or rate
        told = {"steps/s": rate, "of one": rate / first}
        assert called.launched is not None  # it was counted
        if called.busy is None:  # nor is the memory that of this pack: the pages were kept
            yield Row(f"{members}", told | {"operations": called.launched})
            continue
        told |= {"MiB": called.more_mib, "kernels": called.launched, "busy": called.busy}
        yield Row(
            f"{members}", told, note="" if called.launched else "the profiler sees no kernels"
        )
        if few:
            os.environ[graphs.VARIABLE] = "1"
            again = measured(counting=False)
            rate = members * steps / again.seconds
            told = {"steps/s": rate, "of one": rate / first, "MiB": again.more_mib}
            # The same kernels in another time.
            told["busy"] = called.busy * called.seconds / again.seconds
            note = "could not be recorded" if graphs.Repeated.given_up else ""
            yield Row(f"{members}, recorded", told, note=note)


def processes(options: argparse.Namespace) -> Rows:
    """As many processes with one trial each, side by side."""
    size, numbers = ("digits", [2]) if options.quick else ("98k", [1, 4, 16, 64])
    steps, repeats = (2, 1) if options.quick else (100, 2)
    process_mib = took = 0.0
    for number in numbers:
        name = f"{number} of {size}"
        free = _available_mib() / 1.2
        if process_mib * number > free:
            yield Row(name, note=f"not run: the host has room for {free // process_mib:.0f}")
            continue
        if number * took > options.until - time.time():  # they may share all that there is
            yield Row(name, note="not run: out of time")
            continue
        start = time.time()
        said = packs.processes(
            number, 1, size=size, steps=steps, repeats=repeats, device=options.device
        )
        took = (time.time() - start) / number
        process_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        rate = packs.side_by_side(said, steps * repeats)
        together = {"steps/s": rate, "MiB": sum(each.mib for each in said)}
        yield Row(name, together | {"host MiB of one": process_mib})


def _available_mib() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 1024


def by_precision(options: argparse.Namespace) -> Rows:
    """Forward and backward of a layer and a network, in each precision."""
    trial = read_trial("digits" if options.quick else "smnist_98k")
    task = task_of(trial, trial.training.batch_size)
    repeats = 3 if options.quick else 30
    for what, name, seconds in precision.times(trial, task, options.device, repeats):
        yield Row(f"{what}, {name}", {"ms": 1e3 * seconds})


def sweep(options: argparse.Namespace) -> Rows:
    """A real `ckconv-sweep launch`: each trial a place of its own on a shared GPU, and packed."""
    kinds = {"alone": ["--gpus-per-trial", "0.25"], "packed": ["--pack", "4"]}
    if options.device == "cpu":
        kinds["alone"] = []
    else:
        kinds["packed"] += ["--gpus-per-trial", "1"]
    for name in ["packed"] if options.quick else kinds:
        yield _launched(name, kinds[name], options)


def _launched(name: str, placement: list[str], options: argparse.Namespace) -> Row:
    trials, epochs = (2, 1) if options.quick else (8, 3)
    program = [sys.executable, "-m", "ckconv_sweep"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CKCONV_", "MLFLOW_"))}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "space.yaml").write_text(SPACE)

        def run(*words: str) -> str:
            command = [*program, *words, "--sweeps-dir", folder]
            ran = subprocess.run(
                command, cwd=folder, env=kept, capture_output=True, text=True, check=False
            )
            if ran.returncode:
                raise RuntimeError(f"{' '.join(words)} ended with {ran.returncode}:\n{ran.stderr}")
            return ran.stdout

        start = time.perf_counter()
        changes = ["--set", f"training.epochs={epochs}", "--trials", str(trials)]
        run("launch", "space.yaml", "--name", name, *changes, *placement)
        seconds = time.perf_counter() - start
        rows = json.loads(run("table", name, "--format", "json"))
    outcomes = [row["outcome"] for row in rows]
    others = sorted({outcome for outcome in outcomes if outcome != "completed"})
    numbers = {"trials": len(rows), "epochs of each": epochs, "seconds": seconds}
    right = outcomes == ["completed"] * trials
    return Row(name, numbers, right=right, note=", ".join(others))
