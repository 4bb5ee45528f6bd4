"""A whole epoch of sequential MNIST, training and validation, against the same epoch fed by a
`torch.utils.data.DataLoader`.

    python -m benchmarks.epoch --data-dir DATA                    # the folder that holds mnist/
    python -m benchmarks.epoch --data-dir DATA --sequences 6400   # a part of the epoch

Both sides train one model of a published trial with the steps of `ckconv_sweep.training`. Ours is
`training.pack.Pack.epoch`: sequences in memory, batches by their numbers, metrics read once. The
other collates each batch from single sequences and reads loss and right answers back after each,
as the loop of the published code does; without its image transforms, which take longer than that.
Time is that of the processor on a CPU (one thread) and that of the clock on a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.machine import clock, where
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import load
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.training.allocator import keep_pages
from ckconv_sweep.training.evaluation import evaluate_all
from ckconv_sweep.training.pack import Member, Pack
from ckconv_sweep.training.steps import Training, train_epoch
from ckconv_sweep.training.stepwise import to_the_end


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="default: as `ckconv-sweep` finds it")
    parser.add_argument("--trial", default="smnist_98k")
    parser.add_argument("--sequences", type=int, help="so many of the training sequences only")
    parser.add_argument("--workers", type=int, default=0, help="of the DataLoader")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    kept = keep_pages()
    torch.set_num_threads(1)
    trial = read_trial(options.trial)
    task = shortened(load(trial.data, options.data_dir), options.sequences)
    print(
        f"{where(options.device, kept)}\n{options.trial}: {len(task.train)} training and "
        f"{len(task.validation)} validation sequences, batches of {trial.training.batch_size}\n"
    )
    batch_size = trial.training.batch_size
    sides: dict[str, tuple[Callable[[], float], Callable[[], None]]] = {
        "ours": (
            lambda: ours(trial, task, options.device),
            lambda: by_number(task.train, batch_size, options.device),
        ),
        "loader": (
            lambda: fed(trial, task, options.device, options.workers),
            lambda: collated(task.train, batch_size, options.device, options.workers),
        ),
    }
    print(f"{'':8}{'s an epoch':>12}{'s for batches':>16}{'accuracy':>10}")
    for name, (epoch, batches) in sides.items():
        start = clock(options.device)
        accuracy = epoch()
        seconds = clock(options.device) - start
        start = time.perf_counter()
        batches()
        print(f"{name:8}{seconds:12.1f}{time.perf_counter() - start:16.3f}{accuracy:10.4f}")


def shortened(task: SequenceTask, sequences: int | None) -> SequenceTask:
    train = Split(task.train.inputs[:sequences], task.train.targets[:sequences])
    return replace(task, train=train)


def ours(trial: Trial, task: SequenceTask, device: str) -> float:
    """One epoch; its validation accuracy."""
    pack, member = Pack(task, device), Member.open(trial, task)
    pack.join(member)
    pack.epoch()
    return member.keep().metrics["val/accuracy"]


def fed(trial: Trial, task: SequenceTask, device: str, workers: int) -> float:
    """The same, one step for each batch of a loader."""
    pack, member = Pack(task, device), Member.open(trial, task)
    pack.join(member)
    vectorized = pack.training_of([member]).vectorized
    for inputs, targets in loader(task.train, trial.training.batch_size, workers):
        training = Training(vectorized, [member], Split(inputs, targets).to(device))
        rates = [trial.optimizer.learning_rate]
        to_the_end(train_epoch(training, [member], rates)).totals.tolist()
        member.rows = training.rows
    validation = task.validation.to(device)
    (scores,) = to_the_end(evaluate_all(vectorized, 1, validation, trial.data.kind))
    return scores["accuracy"]


def loader(split: Split, batch_size: int, workers: int) -> DataLoader[tuple[torch.Tensor, ...]]:
    data = TensorDataset(split.inputs, split.targets)
    order = torch.Generator().manual_seed(0)
    return DataLoader(data, batch_size, shuffle=True, num_workers=workers, generator=order)


def by_number(split: Split, batch_size: int, device: str) -> None:
    """The batches of an epoch of ours alone."""
    inputs, targets = split.inputs.to(device), split.targets.to(device)
    for chosen in torch.randperm(len(split), device=device).split(batch_size):
        inputs[chosen], targets[chosen]


def collated(split: Split, batch_size: int, device: str, workers: int) -> None:
    """Those of a loader alone."""
    for inputs, targets in loader(split, batch_size, workers):
        inputs.to(device), targets.to(device)


if __name__ == "__main__":
    main()
