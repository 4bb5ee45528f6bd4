"""What lower precision of the products of spectra costs: errors, training, time.

    python -m benchmarks.precision errors                       # a layer and a network, on digits
    python -m benchmarks.precision training --seeds 20          # digits, all epochs
    python -m benchmarks.precision training --trial character_trajectories_sr1 --epochs 10 \
        --seeds 4 --data-dir DATA
    python -m benchmarks.precision training --trial smnist_98k --epochs 1 --seeds 1 --data-dir DATA
    python -m benchmarks.precision time --trial smnist_98k --data-dir DATA

`bfloat16` is the setting. `tf32, simulated` is what `tf32` does on a GPU: factors rounded to 10
bits after the point, here by this file, as the setting changes nothing on a CPU. `20 bits` is
rounded in the same way, little more than float32 is by itself: what training makes of that is what
any other machine or order of sums makes. Errors are norms of the difference to float64, relative.
Time is that of the processor (one thread); `--device cuda` takes the settings themselves, and the
clock.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from benchmarks.machine import clock, where
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.config.trial import Precision, Trial
from ckconv_sweep.data.datasets import load
from ckconv_sweep.data.task import SequenceTask
from ckconv_sweep.models import precision as lowering
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.precision import products_in
from ckconv_sweep.models.spectral_convolution import spectral_conv
from ckconv_sweep.training.allocator import keep_pages
from ckconv_sweep.training.loop import train
from ckconv_sweep.training.seeding import generator

SIMULATED = {"20 bits": 20, "tf32, simulated": 10}
"""Bits after the point."""


def to_bits(number: int, spectra: Tensor) -> Tensor:
    """Real and imaginary parts to the nearest number with so many bits after the point, float32."""
    lost = 23 - number
    bits = torch.view_as_real(spectra.resolve_conj()).contiguous().view(torch.int32)
    bits = (bits + (1 << lost - 1) - 1 + (bits >> lost & 1)) >> lost << lost
    return torch.view_as_complex(bits.view(torch.float32))


@contextmanager
def lowered(name: str) -> Iterator[Precision]:
    """The setting by which a trial is computed so, and all that it takes meanwhile."""
    real, setting = lowering.rounded, cast(Precision, "bfloat16" if name in SIMULATED else name)
    if name in SIMULATED:
        lowering.rounded = partial(to_bits, SIMULATED[name])
    try:
        with products_in(setting):
            yield setting
    finally:
        lowering.rounded = real


def ways(device: str) -> list[str]:
    return ["float32", *(SIMULATED if device == "cpu" else ["tf32"]), "bfloat16"]


def relative(one: Tensor, exact: Tensor) -> float:
    return float(((one - exact).norm() / exact.norm()).item())


Errors = dict[str, float]
"""By `answers`, `gradients` and `the worst`: of the tensor whose gradients have the largest."""


def errors(trial: Trial, task: SequenceTask, device: str) -> Iterator[tuple[str, str, Errors]]:
    """Of the answers of a layer and of a network and of their gradients, at the first weights, for
    each of the `ways`."""
    inputs, targets = batch_of(trial, task, device)

    def network(dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        model = make_model(trial.model, task.description, generator(0, "init")).to(device, dtype)
        answers = model(inputs.to(dtype))
        loss = torch.nn.functional.cross_entropy(answers, targets)
        return answers, list(torch.autograd.grad(loss, list(model.parameters())))

    def layer(dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        tensors = layer_of(trial, task, device, dtype)
        y = spectral_conv(*tensors)
        return y, list(torch.autograd.grad(y.square().sum(), tensors))

    makers: dict[str, Callable[[torch.dtype], tuple[Tensor, list[Tensor]]]]
    makers = {"one layer": layer, "network": network}
    for what, make in makers.items():
        answers, gradients = make(torch.float64)
        for name in ways(device):
            with lowered(name):
                got, got_gradients = make(torch.float32)
            each = [relative(a, b) for a, b in zip(got_gradients, gradients, strict=True)]
            both = [torch.cat([g.flatten() for g in gs]) for gs in (got_gradients, gradients)]
            wrong = {"answers": relative(got, answers), "gradients": relative(*both)}
            yield what, name, wrong | {"the worst": max(each)}


def batch_of(trial: Trial, task: SequenceTask, device: str) -> list[Tensor]:
    size = trial.training.batch_size
    return [each[:size].to(device) for each in (task.train.inputs, task.train.targets)]


def layer_of(trial: Trial, task: SequenceTask, device: str, dtype: torch.dtype) -> list[Tensor]:
    """A layer of the trial's size: input, weight, offset, features."""
    channels, length = trial.model.hidden_channels, task.description.length
    rng = torch.Generator().manual_seed(0)
    shapes = (trial.training.batch_size, channels, length), (channels**2, 32), (channels**2,)
    return [
        torch.randn(shape, generator=rng).to(device, dtype).requires_grad_()
        for shape in (*shapes, (32, length))
    ]


def training(trial: Trial, task: SequenceTask, seeds: int) -> None:
    """Trained with several seeds. Differences to float32 are those of the same seed."""
    metric = trial.metric.name
    heads = "best " + metric, "difference", "least val/loss", "difference"
    print(" " * 18 + "".join(f"{head:>22}" for head in heads))
    results: dict[str, list[tuple[float, float]]] = {}
    for name in ways("cpu"):
        results[name] = []
        for seed in range(seeds):
            with lowered(name) as setting:
                changes = {"seed": seed, "precision": setting}
                changed = trial.training.model_copy(update=changes)
                epochs: list[Epoch] = []
                train(trial.model_copy(update={"training": changed}), task, epochs.append)
            values = [epoch.metrics[metric] for epoch in epochs]
            best = max(values) if trial.metric.mode == "max" else min(values)
            results[name].append((best, min(e.metrics["val/loss"] for e in epochs)))
        line = f"{name:18}"
        for column in (0, 1):
            own = [row[column] for row in results[name]]
            apart = [a - b[column] for a, b in zip(own, results["float32"], strict=True)]
            line += f"{said(own, '.4f'):>22}{said(apart, '+.4f'):>22}"
        print(line, flush=True)


def said(values: list[float], form: str) -> str:
    """Mean and standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):{form}} ± {error:.4f}"


def times(
    trial: Trial, task: SequenceTask, device: str, repeats: int
) -> Iterator[tuple[str, str, float]]:
    """Of one layer and of a network, forward and backward; seconds, interleaved, medians."""
    inputs, targets = batch_of(trial, task, device)
    model = make_model(trial.model, task.description, generator(0, "init")).to(device)
    tensors = layer_of(trial, task, device, torch.float32)

    def network() -> None:
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()

    def layer() -> None:
        torch.autograd.grad(spectral_conv(*tensors).sum(), tensors)

    names = [name for name in ways(device) if name not in SIMULATED]
    taken: dict[tuple[str, str], list[float]] = {}
    for repeat in range(-1, repeats):  # the first one warms up
        for name in names:
            for what, work in (("one layer", layer), ("network", network)):
                with lowered(name):
                    start = clock(device)
                    work()
                    seconds = clock(device) - start
                if repeat >= 0:
                    taken.setdefault((what, name), []).append(seconds)
    for (what, name), seconds_each in taken.items():
        yield what, name, statistics.median(seconds_each)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["errors", "training", "time"])
    parser.add_argument("--trial", default="digits")
    parser.add_argument("--data-dir", type=Path, help="default: as `ckconv-sweep` finds it")
    parser.add_argument("--epochs", type=int, help="default: the trial's")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    kept = keep_pages()
    torch.set_num_threads(1)
    changes = [f"training.epochs={options.epochs}"] if options.epochs else []
    trial = read_trial(options.trial, changes)
    task = load(trial.data, options.data_dir)
    print(
        f"{where(options.device, kept)}\n"
        f"{options.trial}: {task.description.length} steps, batch {trial.training.batch_size}, "
        f"{trial.training.epochs} epochs\n"
    )
    if options.what == "errors":
        print(f"{'':12}{'':18}{'answers':>10}{'gradients':>12}{'the worst':>12}")
        for what, name, wrong in errors(trial, task, options.device):
            answers, gradients, worst = wrong.values()
            print(f"{what:12}{name:18}{answers:10.1e}{gradients:12.1e}{worst:12.1e}")
    elif options.what == "training":
        training(trial, task, options.seeds)
    else:
        for what, name, seconds in times(trial, task, options.device, options.repeats):
            print(f"{what:12}{name:18}{seconds * 1000:10.1f} ms")


if __name__ == "__main__":
    main()
