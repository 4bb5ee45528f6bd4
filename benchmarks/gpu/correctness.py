"""Whether a device computes what the CPU computes, and what a trial may rely on there."""

from __future__ import annotations

import argparse
import gc
import os
import resource
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import packs, precision
from benchmarks.drawn import task_of
from benchmarks.gpu.check import Row, Rows
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.model import ACTIVATIONS, ARCHITECTURES, BLOCKS, KERNEL_NETS, MASKS, NORMS
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.task import SequenceTask
from ckconv_sweep.errors import OutOfMemory
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.precision import products_in
from ckconv_sweep.models.sequence_model import Sampling
from ckconv_sweep.training import graphs, philox
from ckconv_sweep.training.dropout_masks import DeviceMasks, HostMasks, dropout_masks
from ckconv_sweep.training.objectives import OBJECTIVES
from ckconv_sweep.training.pack import Member, Pack, Waits
from ckconv_sweep.training.seeding import Rates, generator
from ckconv_sweep.training.vectorized import Vectorized

TO_FLOAT64 = {"answers": 1e-4, "gradients": 1e-2}
"""Relative. Float32 on a CPU stays below 3e-5 and 2e-3; a ReLU that decides otherwise about a value
near zero is most of the second. TF32 would be wrong by 2e-4 to 8e-4 in the answers."""
TWENTY_STEPS = {"cpu": 0.0, "cuda": 1e-3}
"""How far losses may be apart, relative, after some twenty steps: rounding is not the same there
for one member and for many, and grows."""
PRECISIONS = {"float32": 1e-5, "20 bits": 1e-5, "tf32": 5e-3, "bfloat16": 3e-2}
"""Most that the answers may be wrong by."""

SMALL = "model.hidden_channels=4", "training.batch_size=4"
EVERYTHING = (
    "model.dropout=0.2",
    "model.input_dropout=0.1",
    "training.kernel_penalty=0.01",
    "training.clip_norm=1.0",
)
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "digits": ("digits", EVERYTHING),
    "digits, sampled kernels": ("digits", ("model.weight_dropout=0.2",)),
    "smnist_98k": ("smnist_98k", ()),
    "smnist_98k, bfloat16": ("smnist_98k", ("training.precision=bfloat16",)),
    "tcn": ("digits", ("model={name: tcn, hidden_channels: 16, dropout: 0.1}",)),
    "lru": ("digits", ("model={name: lru, hidden_channels: 16}",)),
}
"""Trials that take the ways through the code that differ on a GPU: file and changes."""


OPTIONS: dict[str, Iterable[str]] = {
    "model={{name: {}}}": ARCHITECTURES,
    "model.kernel.name={}": KERNEL_NETS,
    "model.mask.name={}": MASKS,
    "model.block={}": BLOCKS,
    "model.norm={}": NORMS,
    "model.activation={}": ACTIVATIONS,
}
"""Changes to a trial, and which names they take."""


def cases(options: argparse.Namespace, steps: int) -> Iterator[tuple[str, Trial, SequenceTask]]:
    """The trials of `CASES`, with an epoch of a number of steps."""
    for name, (file, changes) in CASES.items():
        trial = read_trial(file, [*changes, *(SMALL if options.quick else ())])
        size = trial.training.batch_size
        yield name, trial, task_of(trial, steps * size, 2 * size, 32 if options.quick else 10**9)


def trial_files(options: argparse.Namespace) -> Rows:
    """Every trial file, and everything else that a file may name."""
    torch.set_num_threads(1 if options.quick else os.cpu_count() or 1)
    trials = {path.stem: read_trial(str(path)) for path in sorted(packs.TRIALS.glob("*.yaml"))}
    for change, names in OPTIONS.items():
        for name in names:
            trials[change.format(name)] = read_trial("digits", [change.format(name)])
    for name, trial in trials.items():
        task = task_of(trial, 2 if options.quick else 4, 1, 64 if options.quick else 10**9)
        exact = answers_and_gradients(trial, task, "cpu", torch.float64)
        got = answers_and_gradients(trial, task, options.device, torch.float32)
        wrong = map(precision.relative, got, exact)
        yield Row(name, dict(zip(TO_FLOAT64, wrong, strict=True)), TO_FLOAT64)


def answers_and_gradients(
    trial: Trial, task: SequenceTask, device: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Of one step on all training sequences at the first weights, on the CPU, in float64."""
    model = make_model(trial.model, task.description, generator(0, "init")).to(device, dtype)
    vectorized = Vectorized(model)
    named = dict(model.named_parameters()), dict(model.named_buffers())
    rows = vectorized.weights.row(named[0]), vectorized.buffers.row(named[1])
    vectorized.put(*rows, trained=True)
    masks, penalty = dropout_masks([0], [0], torch.device(device)), trial.training.kernel_penalty

    def on(tensor: Tensor) -> Tensor:
        return tensor[None].to(device, dtype if tensor.is_floating_point() else None)

    split = task.train
    with products_in(trial.training.precision):
        answers, norms = vectorized(
            on(split.inputs),
            Sampling(split.rate, None if split.times is None else on(split.times)),
            lambda *place: masks(*place).to(dtype),
            penalized=penalty > 0.0,
        )
        sums = OBJECTIVES[trial.data.kind].sums(answers, on(split.targets))
        loss = (sums.loss_E / sums.counted_E).sum()
        if norms is not None:
            loss = loss + penalty * norms.sum()
        gradients = vectorized.gradients(loss)
    return answers.detach().cpu().double(), gradients.cpu().double()


def masks(options: argparse.Namespace) -> Rows:
    """The bits of NumPy, for several seeds and rates at once."""
    shape, rates = (1 if options.quick else 64, 30, 784), Rates([0.1, 0.0, 0.5])
    host, device = (
        made([3, 4, 5], [0, 7, 10**6], torch.device(where))
        for made, where in ((HostMasks, "cpu"), (DeviceMasks, options.device))
    )
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        philox.fast_factors(torch.device(options.device))
    note = " ".join(str(warning.message) for warning in heard)
    for step in range(2):
        differing = int((host(2, shape, rates) != device(2, shape, rates).cpu()).sum())
        yield Row(f"step {step}", {"differing": differing}, {"differing": 0}, note=note)
        host.next_step()
        device.next_step()


def alone_and_packed(options: argparse.Namespace) -> Rows:
    """Two epochs of ten steps: four members together, and each by itself."""
    for name, trial, task in cases(options, 3 if options.quick else 10):
        together = packs.pack_of(4, trial, task, options.device)
        members = list(together.members)
        alone = []
        for member in members:
            pack = Pack(task, options.device)
            pack.join(Member.open(member.trial, task))
            alone += pack.members
            trained(pack, 2, options)
        trained(together, 2, options)
        yield from compared(name, members, alone, options)


def resumed(options: argparse.Namespace) -> Rows:
    """Four epochs of five steps: at a stretch, again, and in two sessions with a checkpoint."""
    gru = read_trial("digits", ["model={name: gru, hidden_channels: 16}"])
    alone = [("gru", gru, task_of(gru, 5 * gru.training.batch_size, 64))]
    for name, trial, task in [*cases(options, 2 if options.quick else 5), *alone]:
        with tempfile.TemporaryDirectory() as folder:
            sessions = [([4], None), ([4], None), ([2, 2], Path(folder))]
            whole, again, cut = (
                _in_sessions(trial, task, epochs, where, options) for epochs, where in sessions
            )
        yield from compared(f"{name}, resumed", [cut], [whole], options)
        yield from compared(f"{name}, repeated", [again], [whole], options)


def _in_sessions(
    trial: Trial,
    task: SequenceTask,
    epochs: list[int],
    folder: Path | None,
    options: argparse.Namespace,
) -> Member:
    for number in epochs:
        member, pack = Member.open(trial, task, folder=folder), Pack(task, options.device)
        pack.join(member)
        trained(pack, number, options)
    return member


def trained(pack: Pack, epochs: int, options: argparse.Namespace) -> None:
    """Train all members by a number of epochs."""
    for _ in range(epochs):
        packs.epoch(pack, options.device)


def compared(
    name: str,
    members: list[Member],
    others: list[Member],
    options: argparse.Namespace,
    right: bool | None = None,
    note: str = "",
) -> Rows:
    """The losses of every epoch and the last weights, the largest difference of each, relative."""
    numbers = {}
    for metric in ("train/loss", "val/loss"):
        numbers[metric] = max(
            abs(one.metrics[metric] / other.metrics[metric] - 1.0)
            for member, same in zip(members, others, strict=True)
            for one, other in zip(member.history, same.history, strict=True)
        )
    weights = [[m.rows["weights"].cpu() for m in each] for each in (members, others)]
    apart = max(map(precision.relative, *weights))
    most = TWENTY_STEPS[options.device]
    if members[0].trial.training.precision != "float32":
        most *= 10  # a number that is rounded the other way is off by far more
    yield Row(name, numbers | {"weights": apart}, dict.fromkeys(numbers, most), right, note)


def with_graphs(options: argparse.Namespace) -> Rows:
    """Two epochs of forty steps, called and recorded, of a pack of two."""
    record, recorded = graphs.as_cuda_graph, list[graphs.Step]()

    def counted(step: graphs.Step) -> graphs.Step:
        recorded.append(step)
        return record(step)

    graphs.as_cuda_graph = counted
    for name, trial, task in cases(options, graphs.WARM_UP + graphs.LEAST_REPEATED + 5):
        members = {}
        for value in ("0", "1"):
            os.environ[graphs.VARIABLE], graphs.Repeated.given_up = value, False
            pack = packs.pack_of(2, trial, task, options.device)
            members[value] = list(pack.members)
            recorded.clear()
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                trained(pack, 2, options)
        all_recorded = len(recorded) == 1 and not graphs.Repeated.given_up
        said = " ".join(str(w.message) for w in heard if "not recorded" in str(w.message))
        yield from compared(name, members["1"], members["0"], options, all_recorded, said)


def of_precision(options: argparse.Namespace) -> Rows:
    """A layer and a network in each precision, against float64."""
    trial = read_trial("digits" if options.quick else "smnist_98k")
    task = task_of(trial, trial.training.batch_size)
    for what, name, wrong in precision.errors(trial, task, options.device):
        most = PRECISIONS[name.partition(",")[0]]
        wrong["worst"] = wrong.pop("the worst")
        yield Row(f"{what}, {name}", wrong, {"answers": most})


def out_of_memory(options: argparse.Namespace) -> Rows:
    """With memory that is really taken: a pack, one trial, and then one trial with room again."""
    size = 16 if options.quick else 64
    trial = read_trial("smnist_98k", [f"training.batch_size={size}"])
    task = task_of(trial, 2 * size)
    before = packs.in_use(options.device, most=False)
    first = packs.pack_of(1, trial, task, options.device)
    trained(first, 1, options)  # what is loaded and planned once is not the trial's
    needed = packs.in_use(options.device, most=True) - before
    del first

    pack = packs.pack_of(8, trial, task, options.device)
    with room(2.5 * needed, options.device):
        outcomes = list(pack.epoch().values())
    kinds = {"trained": Epoch, "waiting": Waits}
    counts = {name: sum(isinstance(o, kind) for o in outcomes) for name, kind in kinds.items()}
    right = counts["trained"] >= 1 and counts["waiting"] >= 1 and sum(counts.values()) == 8
    yield Row("a pack of 8, room for a few", {"MiB of one": needed} | counts, right=right)
    pack.abandon()
    del pack, outcomes

    large = read_trial("smnist_98k", [f"training.batch_size={8 * size}"])
    task = task_of(large, 8 * size)
    for mib, kind in ((needed, OutOfMemory), (None, Epoch)):
        pack = packs.pack_of(1, large, task, options.device)
        with room(mib, options.device):
            (outcome,) = pack.epoch().values()
        name = "8 times the batch, room for one" if mib else "the same with room again"
        said = outcome.message if isinstance(outcome, OutOfMemory) else ""
        yield Row(name, right=isinstance(outcome, kind), note=said)
        del pack, outcome


@contextmanager
def room(mib: float | None, device: str) -> Iterator[None]:
    """Within it the device has no more memory than that; None: all that it has."""
    gc.collect()
    if mib is None:
        yield
    elif device == "cuda":
        torch.cuda.empty_cache()
        free, taken = torch.cuda.mem_get_info()[0] - int(mib * 2**20), []
        while (size := min(free, 2**30)) > 0:
            taken.append(torch.empty(size, dtype=torch.uint8, device=device))
            free -= size
        yield
        taken.clear()
    else:
        lines = Path("/proc/self/status").read_text().splitlines()
        used = next(int(line.split()[1]) for line in lines if line.startswith("VmSize:")) * 1024
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + int(mib * 2**20), before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
