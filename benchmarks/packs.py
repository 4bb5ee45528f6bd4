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
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import drawn
from benchmarks.machine import clock, where
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.task import SequenceTask
from ckconv_sweep.errors import TrialFailed
from ckconv_sweep.training import steps as training_steps
from ckconv_sweep.training.allocator import keep_pages
from ckconv_sweep.training.pack import Member, Pack, Waits
from ckconv_sweep.training.steps import train_epoch

OPTIONS = ("size", "steps", "repeats", "device", "called")
SIZES = {"digits": "digits", "98k": "smnist_98k", "1m": "smnist_1m"}
TRIALS = Path(__file__).parents[1] / "trials"


def made(size: str, steps: int, batch: int | None = None) -> tuple[Trial, SequenceTask]:
    """A published trial, and drawn sequences for a number of steps an epoch; `batch` replaces its
    batch size."""
    changes = ["training.epochs=10000", "training.threads=1"]
    changes += [f"training.batch_size={batch}"] if batch else []
    trial = read_trial(str(TRIALS / f"{SIZES[size]}.yaml"), changes)
    return trial, drawn.task_of(trial, steps * trial.training.batch_size)


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
    """How many operations a training step of these members takes on an accelerator: the second of
    an epoch, counted on the meta device, where they are dispatched as on one. (On a CPU some are
    made member by member.)"""
    running = train_epoch(Pack(task, "meta").training_of(members), members, [0.1] * len(members))
    next(running)
    with Operations() as counted:
        next(running)
    return counted.count


def on_the_gpu(pack: Pack) -> tuple[int, float]:
    """How many kernels an epoch launches on the GPU, and for how many seconds it is at work."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        epoch(pack, "cuda")
    events = [event for event in seen.events() if event.device_type == DeviceType.CUDA]
    busy_us, until = 0.0, 0.0
    for start, end in sorted((e.time_range.start, e.time_range.end) for e in events):
        busy_us += max(0.0, end - max(start, until))  # streams overlap
        until = max(until, end)
    return len(events), busy_us / 1e6


@dataclass(frozen=True)
class Measured:
    """What epochs of a pack took in a process."""

    seconds: float
    """Of an epoch, the median."""
    wall_seconds: float
    """Of all epochs, by the clock."""
    more_mib: float
    """The most memory in use, beyond what the process had before."""
    mib: float
    """The most memory in use."""
    launched: float | None = None
    """Kernels of a step on a GPU; on a CPU the operations that would be launched as some."""
    busy: float | None = None
    """The share of the time in which the GPU computes."""


def measured(
    size: str,
    members: int,
    steps: int,
    repeats: int,
    device: str,
    *,
    batch: int | None = None,
    counting: bool = True,
    ready: Callable[[], None] = lambda: None,
) -> Measured:
    """Train a pack by epochs of a number of steps, after one that warms up.

    Args:
        batch: as of `made`.
        counting: whether to say what is launched, and how busy the GPU is.
        ready: called once it is warm.
    """
    trial, task = made(size, steps, batch)
    before = in_use(device, most=False)
    pack = pack_of(members, trial, task, device)
    epoch(pack, device)
    ready()
    start = time.perf_counter()
    seconds = [epoch(pack, device) for _ in range(repeats)]
    wall, used = time.perf_counter() - start, in_use(device, most=True)
    said = Measured(statistics.median(seconds), wall, used - before, used)
    if not counting:
        return said
    if device == "cuda":
        launched, computing = on_the_gpu(pack)
        return replace(said, launched=launched / steps, busy=computing / said.seconds)
    return replace(said, launched=operations(pack.members, task))


def work(options: argparse.Namespace) -> None:
    """In a process of its own: get ready, wait for a word, train, print what it took."""

    def ready() -> None:
        print("ready", flush=True)
        sys.stdin.readline()

    (members,) = options.members
    said = measured(
        options.size,
        members,
        options.steps,
        options.repeats,
        options.device,
        counting=options.counting,
        ready=ready,
    )
    print(json.dumps(asdict(said)), flush=True)


def processes(
    number: int,
    members: int,
    *,
    size: str,
    steps: int,
    repeats: int,
    device: str,
    called: bool = False,
) -> list[Measured]:
    """What a number of processes side by side measured, each with a pack of so many members."""
    command = [sys.executable, "-m", "benchmarks.packs", "--worker", "--size", size]
    command += ["--members", str(members), "--device", device]
    command += ["--steps", str(steps), "--repeats", str(repeats)]
    command += ["--counting"] * (number == 1) + ["--called"] * called
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, **pipes) for _ in range(number)]
    try:
        for one in running:
            assert one.stdout is not None
            one.stdout.readline()
        for one in running:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        return [Measured(**json.loads(one.communicate()[0])) for one in running]
    finally:
        for one in running:  # if one has died, the others wait for a word
            one.kill()


def side_by_side(said: Sequence[Measured], steps: int) -> float:
    """Steps a second of all processes together, each of which made so many."""
    return len(said) * steps / max(one.wall_seconds for one in said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", choices=SIZES, default="digits")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--steps", type=int, default=8, help="of an epoch")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--most-processes", type=int, default=8)
    parser.add_argument("--called", action="store_true", help="no step is recorded on a CPU")
    for name in ("--worker", "--counting"):
        parser.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = keep_pages()
    if options.called:
        training_steps.repeated = lambda step, *_: step
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
    asked = {name: getattr(options, name) for name in OPTIONS}
    one = options.members[0] * options.steps / statistics.median(seconds[options.members[0]])
    for number, taken in seconds.items():
        rate = number * options.steps / statistics.median(taken)
        (alone,) = processes(1, number, **asked)
        line = f"{number:7}  {rate:13.1f}  {rate / one:6.2f}  {alone.more_mib:6.0f}"
        line += f"  {alone.launched:10.0f}"
        if number <= options.most_processes:
            said = processes(number, 1, **asked)
            line += f"  {side_by_side(said, options.steps * options.repeats):13.1f}"
            line += f"  {sum(each.mib for each in said):6.0f}"
        print(line, flush=True)
    print("MiB of a pack: over what its process had before; of processes: all that they have.")
    if options.device == "cpu":
        print("Operations: as they would be dispatched on an accelerator, training only.")


if __name__ == "__main__":
    main()
