"""Whether what `kernels` says of an omega_0 agrees with the validation accuracy.

    python -m benchmarks.omega_0 --trial digits --epochs 12 --seeds 3
    python -m benchmarks.omega_0 --trial character_trajectories_sr1 --epochs 8 --seeds 1

Each omega_0 is trained with some seeds for a few epochs, and the kernels of the best epoch are
judged as the command does it. Printed, as a table: the best validation accuracy (mean, and the
lowest and highest of the seeds), and of the first seed the kernels' band, the share of the data's
energy above it, the share of the kernels' energy beyond the sampling rate, and the verdict. The
test split stays shut.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.machine import processor
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.data.datasets import load
from ckconv_sweep.training.learnt_kernels import learnt_kernels
from ckconv_sweep.training.loop import train
from ckconv_sweep.training.omega_0 import Advice, advice
from ckconv_sweep.training.spectra import Spectrum, spectrum

OMEGA_0S = (0.5, 1, 2, 5, 10, 15, 20, 40, 80, 300)


def trained(arguments: argparse.Namespace, omega_0: float, seed: int) -> tuple[float, Advice]:
    """The best validation accuracy, and what is said of the kernels of that epoch."""
    trial = read_trial(
        arguments.trial,
        [
            f"model.kernel.omega_0={omega_0}",
            f"training.epochs={arguments.epochs}",
            f"training.seed={seed}",
        ],
    )
    task, history = load(trial.data, arguments.data_dir), list[Epoch]()
    model = train(trial, task, history.append)
    said = advice(model, trial.model, learnt_kernels(model), data_of(task.validation.inputs))
    assert said is not None
    return max(epoch.metrics["val/accuracy"] for epoch in history), said


def data_of(inputs: torch.Tensor) -> Spectrum:
    return spectrum([inputs.numpy()])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--trial", default="digits")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--omega-0", type=float, nargs="*", default=OMEGA_0S)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    print(f"{processor()}; {arguments.trial}, {arguments.epochs} epochs, {arguments.seeds} seeds\n")
    print("| omega_0 | val/accuracy | band | data above | beyond the rate | verdict |")
    print("|---|---|---|---|---|---|")
    for omega_0 in arguments.omega_0:
        found = [trained(arguments, omega_0, seed) for seed in range(arguments.seeds)]
        scores, said = [score for score, _ in found], found[0][1]
        mean = sum(scores) / len(scores)
        print(
            f"| {omega_0:g} | {mean:.3f} ({min(scores):.3f} to {max(scores):.3f}) "
            f"| {said.band:.3f} | {said.data_above:.0%} | {said.beyond:.0%} | {said.verdict} |",
            flush=True,
        )
    print(f"\nsearched: {said.low:g} to {said.high:g}")


if __name__ == "__main__":
    main()
