"""Many trials trained as one, against the same trials in as many processes, and one by one.

    python -m benchmarks.packs --size digits --members 1 2 4 8 16
    python -m benchmarks.packs --size 98k --members 1 2 4 --steps 4

Whole training steps as `ckconv_sweep.training` makes them: masks, model, loss, backward, optimiser.
The sequences are drawn, in the shape of the dataset, so that nothing is downloaded.

A second of a pack is one of the processor on a CPU (one thread), which other work on the machine
changes little, and one of the clock on a GPU; packs are interleaved in one process, medians. "of
one" is against the same trials one after the other. How long processes take side by side is a
matter of the clock, so that column is worth reading only where the machine does nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.machine import clock, where
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import describe
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.errors import TrialFailed
from ckconv_sweep.training.allocator import keep_pages
from ckconv_sweep.training.pack import Member, Pack, Waits
from ckconv_sweep.training.steps import train_epoch
from ckconv_sweep.training.stepwise import to_the_end

SIZES = {"digits": "digits", "98k": "smnist_98k", "1m": "smnist_1m"}
TRIALS = Path(__file__).parents[1] / "trials"


def made(size: str, steps: int) -> tuple[Trial, SequenceTask]:
    """A published trial, and drawn sequences for so many steps an epoch."""
    trial = read_trial(TRIALS / f"{SIZES[size]}.yaml", [])
    trial = trial.model_copy(
        update={"training": trial.training.model_copy(update={"epochs": 10_000, "threads": 1})}
    )
    shape, rng = describe(trial.data), torch.Generator().manual_seed(0)

    def split(number: int) -> Split:
        inputs = torch.randn(number, shape.in_channels, shape.length, generator=rng)
        return Split(inputs, torch.randint(shape.outputs, (number,), generator=rng))

    task = SequenceTask(
        description=shape,
        train=split(steps * trial.training.batch_size),
        validation=split(1),
        test_reader=lambda: split(1),
    )
    return trial, task


def pack_of(members: int, trial: Trial, task: SequenceTask, device: str) -> Pack:
    """Members that differ in seed and learning rate."""
    pack = Pack(task, device)
    for number in range(members):
        training = trial.training.model_copy(update={"seed": number})
        optimizer = trial.optimizer.model_copy(update={"learning_rate": 1e-4 * (number + 1)})
        changed = trial.model_copy(update={"training": training, "optimizer": optimizer})
        pack.join(Member.open(changed, task))
    return pack


def epoch(pack: Pack, device: str) -> float:
    """Train all members by an epoch; seconds."""
    start = clock(device)
    outcomes = pack.epoch()
    seconds = clock(device) - start
    for member, outcome in outcomes.items():
        if isinstance(outcome, TrialFailed | Waits):
            raise SystemExit(f"a member could not be trained: {outcome}")
        member.keep()
    return seconds


def in_use(device: str, *, most: bool) -> float:
    """Memory in use now, or the most since it was last asked for what is now; MiB."""
    if device == "cuda":
        if not most:
            torch.cuda.reset_peak_memory_stats()
        return (torch.cuda.max_memory_allocated() if most else 0.0) / 2**20
    if not most:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    key = "VmHWM:" if most else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(key)) / 2**10


class Operations(TorchDispatchMode):
    """Counts the operations that make something which is not on the CPU: not those that only look
    at a tensor in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        tensors = [value for value in tree_leaves(result) if isinstance(value, torch.Tensor)]
        aliases = [returned.alias_info for returned in operation._schema.returns]
        looks = any(alias is not None and not alias.is_write for alias in aliases)
        if not looks and "_unsafe_view" not in str(operation):
            self.count += any(tensor.device.type != "cpu" for tensor in tensors)
        return result


def operations(members: Sequence[Member], task: SequenceTask) -> int:
    """How many operations an epoch of these members takes on an accelerator, without scoring:
    counted on the meta device, where they are dispatched as on one. (On a CPU some are made member
    by member.)"""
    pack = Pack(task, "meta")
    rows = {
        name: torch.cat([member.rows[name] for member in members]).to("meta")
        for name in members[0].rows
    }
    model = pack.model_of(members)
    model.put(rows["weights"], rows["buffers"], trained=True)
    with Operations() as counted:
        to_the_end(train_epoch(model, members, rows, [0.1] * len(members), pack.train))
    return counted.count


def kernels(pack: Pack) -> int:
    """How many kernels an epoch launches on the GPU."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        epoch(pack, "cuda")
    return sum(event.device_type == DeviceType.CUDA for event in seen.events())


def work(options: argparse.Namespace) -> None:
    """In a process of its own: get ready, wait for a word, train, say what it took."""
    trial, task = made(options.size, options.steps)
    before = in_use(options.device, most=False)
    pack = pack_of(options.members[0], trial, task, options.device)
    epoch(pack, options.device)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    for _ in range(options.repeats):
        epoch(pack, options.device)
    taken, used = time.perf_counter() - start, in_use(options.device, most=True)
    counted = kernels(pack) if options.device == "cuda" else operations(pack.members, task)
    print(taken, used - before, used, counted, flush=True)


def processes(number: int, members: int, options: argparse.Namespace) -> list[list[float]]:
    """So many processes side by side, each with a pack of so many members: what each said."""
    command = [sys.executable, "-m", "benchmarks.packs", "--worker", "--size", options.size]
    command += ["--members", str(members), "--device", options.device]
    command += ["--steps", str(options.steps), "--repeats", str(options.repeats)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, **pipes) for _ in range(number)]
    for one in running:
        assert one.stdout is not None
        one.stdout.readline()
    for one in running:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    return [[float(word) for word in one.communicate()[0].split()] for one in running]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", choices=SIZES, default="digits")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--steps", type=int, default=8, help="of an epoch")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--most-processes", type=int, default=8)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = keep_pages()
    if options.worker:
        work(options)
        return

    trial, task = made(options.size, options.steps)
    print(
        f"{where(options.device, kept)}\n{options.size}: {task.description.length} steps, batch "
        f"{trial.training.batch_size}, {options.steps} training steps an epoch, median of "
        f"{options.repeats} epochs"
    )
    packs = {number: pack_of(number, trial, task, options.device) for number in options.members}
    seconds: dict[int, list[float]] = {number: [] for number in packs}
    for repeat in range(-1, options.repeats):  # the first one warms up
        for number, pack in packs.items():
            taken = epoch(pack, options.device)
            if repeat >= 0:
                seconds[number].append(taken)
    del packs

    kind = "kernels" if options.device == "cuda" else "operations"
    print(f"                                        {kind:>10}  in processes")
    print("members  trial-steps/s  of one     MiB      a step  trial-steps/s     MiB")
    one = options.members[0] * options.steps / statistics.median(seconds[options.members[0]])
    for number, taken in seconds.items():
        rate = number * options.steps / statistics.median(taken)
        ((_, more, _, counted),) = processes(1, number, options)
        line = f"{number:7}  {rate:13.1f}  {rate / one:6.2f}  {more:6.0f}"
        line += f"  {counted / options.steps:10.0f}"
        if number <= options.most_processes:
            said = processes(number, 1, options)
            side_by_side = number * options.steps * options.repeats / max(row[0] for row in said)
            line += f"  {side_by_side:13.1f}  {sum(row[2] for row in said):6.0f}"
        print(line, flush=True)
    print("MiB of a pack: over what its process had before; of processes: all that they have.")
    if options.device == "cpu":
        print("Operations: as they would be dispatched on an accelerator, training only.")


if __name__ == "__main__":
    main()
