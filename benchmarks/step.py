"""One training step of a CKCNN: time and memory, against the published code and against the least
that the machine allows.

    git clone https://github.com/dwromero/ckconv && python -m benchmarks.step --reference ckconv
    python -m benchmarks.step --size 1M --length 784 --batch 64 --reference ckconv

Each side (`step_sides.py`) is measured in processes of its own, with the C library as it is and
with `training.allocator.keep_pages`; the sides take turns, `--rounds` times, and the median is
said. Time is that of the processor on a CPU (one thread unless --threads says more), so that other
work on the machine changes it little, and that of the clock on a GPU. Memory is the most that the
process held, without what it held after its imports.

The floor counts what the step cannot do without (matrix products, FFTs, bytes that are read and
written) at the rates at which this machine does each of them alone, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import step_sides as sides
from benchmarks.machine import clock, where
from ckconv_sweep.training.allocator import VARIABLE, keep_pages

DEFAULTS = {  # batch and steps for each length: what 24 GB hold of the published code
    ("98K", 182): (32, 20),
    ("98K", 784): (64, 4),
    ("98K", 4096): (16, 2),
    ("98K", 16000): (8, 1),
    ("1M", 182): (32, 2),
    ("1M", 784): (64, 1),
    ("1M", 4096): (4, 1),
    ("1M", 16000): (1, 1),
}
SETTINGS = {"as it is": "0", "keep_pages": "1"}
"""The allocator, by what a row of the table says, and what its variable then is."""


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The options of the command; `given` is one of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reference", type=Path, help="a checkout of dwromero/ckconv")
    parser.add_argument("--size", choices=sides.SIZES, default="98K")
    parser.add_argument("--length", type=int, default=784)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, help="steps a measurement, after one that is not said")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--allocator", choices=SETTINGS, help="one setting only")
    parser.add_argument("--only", nargs="*", help="sides: ours called plain authors einsum")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    batch, steps = DEFAULTS.get((options.size, options.length), (16, 1))
    options.batch = options.batch or batch
    options.steps = options.steps or steps
    options.given = list(given)
    return options


def main() -> None:
    options = arguments(sys.argv[1:])
    torch.set_num_threads(options.threads)
    if options.side:
        print(json.dumps(measured(options)))
    else:
        compare(options)


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Seconds a step, MiB at most and the mean loss of the side, in this process."""
    keep_pages()
    device = torch.device(options.device)
    arguments = (options.size, options.batch, options.length, device)
    if options.side in ("authors", "einsum"):
        prepare = getattr(sides, options.side)(*arguments, options.reference.resolve())
    else:
        prepare = getattr(sides, options.side)(*arguments)
    torch.zeros(1, device=device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    prepare(1)()
    run = prepare(options.steps)
    start = clock(options.device)
    loss = run()
    seconds = (clock(options.device) - start) / options.steps
    if options.device == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**20
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return {"seconds": seconds, "memory": memory, "loss": loss}


def compare(options: argparse.Namespace) -> None:
    print(
        f"{where(options.device)}\n{options.size}, batch {options.batch}, {options.length} steps "
        f"of time; medians of {options.rounds} rounds of {options.steps} training steps\n"
    )
    names = options.only or (
        ["ours", "plain", "authors", "einsum"] if options.reference else ["ours", "plain"]
    )
    settings = SETTINGS if options.device == "cpu" else {"as it is": "0"}
    if options.allocator:
        settings = {options.allocator: settings[options.allocator]}
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for name in names:
            for setting, value in settings.items():
                results.setdefault((name, setting), []).append(in_a_process(options, name, value))
    print(f"{'':18}{'ms a step':>12}{'MiB':>8}{'ours is':>9}{'memory':>9}{'loss':>9}")
    fastest = {s: statistics.median(r["seconds"] for r in results["ours", s]) for s in settings}
    least = {s: statistics.median(r["memory"] for r in results["ours", s]) for s in settings}
    for (name, setting), rounds in results.items():
        seconds, memory, loss = (
            statistics.median(one[key] for one in rounds) for key in ("seconds", "memory", "loss")
        )
        print(
            f"{name:8}{setting:10}{seconds * 1000:12.1f}{memory:8.0f}"
            f"{seconds / fastest[setting]:8.2f}x{memory / least[setting]:8.2f}x{loss:9.4f}"
        )
    best = min(fastest.values())
    for name in [name for name in ("authors", "einsum") if (name, "as it is") in results]:
        shipped = statistics.median(r["seconds"] for r in results[name, "as it is"])
        print(f"{name} as it is against the fastest of ours: {shipped / best:.1f}x")
    if options.device == "cpu":
        floor(options, best)


def in_a_process(options: argparse.Namespace, side: str, keeps: str) -> dict[str, float]:
    """The same command again, for one side: what it measured."""
    command = [sys.executable, "-m", "benchmarks.step", *options.given, "--side", side]
    environment = os.environ | {VARIABLE: keeps, "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{side} failed:\n{run.stderr}")
    result: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return result


def floor(options: argparse.Namespace, ours: float) -> None:
    """The least that the step takes, were everything as fast as it is alone."""
    keep_pages()  # by now all that is compared has been measured
    products, transforms, moved = counted(options)
    sgemm, copy, fft = rates(options)
    parts = {
        f"{products / 1e9:.2f} GFLOP of matrix products at {sgemm / 1e9:.0f} GFLOP/s": products
        / sgemm,
        f"{transforms / 1e9:.2f} GFLOP of FFTs at {fft / 1e9:.0f} GFLOP/s": transforms / fft,
        f"{moved / 1e9:.2f} GB read and written at {copy / 1e9:.0f} GB/s": moved / copy,
    }
    print()
    for text, seconds in parts.items():
        print(f"{seconds * 1000:8.1f} ms  {text}")
    least = sum(parts.values())
    print(f"{least * 1000:8.1f} ms  together; ours takes {ours / least:.2f} times that")


def counted(options: argparse.Namespace) -> tuple[float, float, float]:
    """Operations in matrix products, operations in FFTs, and bytes, of one step of ours.

    A complex product is 8 operations, an FFT of n values 5 n log2(n). Bytes are those of all passes
    over a tensor of the size of the hidden values, by which everything else is small; what a matrix
    product or an FFT reads and writes is in its rate.
    """
    _, model = sides.published(options.size, options.batch)
    batch, n, features = options.batch, options.length, model.kernel.hidden_channels + 1
    hidden, products, transforms, moved = model.hidden_channels, 0.0, 0.0, 0.0
    for number in range(2 * model.blocks):
        c = 1 if number == 0 else hidden
        kernels, backward = c * hidden, number > 0
        products += 8 * n * batch * kernels * (3 if backward else 2)
        # The kernel's spectrum, once or twice, and the gradients of weights and features.
        products += 4 * n * features * kernels * (4 if backward else 3)
        sequences = batch * (2 * hidden + (2 if backward else 1) * c) + 2 * features
        transforms += 5 * n * math.log2(n) * sequences
        # To the frequencies: rotated (4 + 8), laid out anew (8 + 8). From them: (8 + 8), (8 + 4).
        moved += n * sequences * 28
        # Norm, activation and dropout: 10 passes forward and 14 backward, see their file.
        moved += n * batch * hidden * 4 * 24
    return products, transforms, moved


def rates(options: argparse.Namespace) -> tuple[float, float, float]:
    """Operations a second of a large matrix product, bytes a second (read and written) of a copy,
    operations a second of FFTs of this length."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    source = torch.randn(4 << 20)
    target = torch.empty_like(source)
    rows = max(1, (1 << 20) // options.length)
    signal = torch.randn(rows, options.length, dtype=torch.complex64)

    def per_second(work: float, operation: Callable[[], Any]) -> float:
        times = []
        for _ in range(9):
            start = time.process_time()
            operation()
            times.append(time.process_time() - start)
        return work / statistics.median(times)

    return (
        per_second(2 * 1024**3, lambda: a @ b),
        per_second(2 * 4 * source.numel(), lambda: target.copy_(source)),
        per_second(5 * signal.numel() * math.log2(options.length), lambda: torch.fft.fft(signal)),
    )


if __name__ == "__main__":
    main()
