"""A step that is recorded and repeated gives what it gives when it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ckconv_sweep.training import graphs, steps
from ckconv_sweep.training.graphs import WARM_UP, Repeated
from ckconv_sweep.training.pack import Member, Pack

from .test_pack import MODELS, member_trial
from .tiny import equal, in_hex, make_task, make_trial, run

CPU, META = torch.device("cpu"), torch.device("meta")
Step = Callable[[], None]


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class Recording(TorchDispatchMode):
    """What a CUDA graph is, on a CPU: the operations of a step, which are made again on the same
    memory without its Python."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        with self:
            step()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = operation(*args, **(kwargs or {}))
        self.calls.append((operation, args, kwargs or {}, made))
        return made

    def __call__(self) -> None:
        with torch.no_grad():
            for operation, args, kwargs, made in self.calls:
                again = operation(*args, **kwargs)
                for new, old in zip(tensors(again), tensors(made), strict=True):
                    if new.data_ptr() != old.data_ptr():
                        old.copy_(new)


TRIALS = {
    "published": {},
    "all switched on": {
        "model": {"dropout": 0.3, "input_dropout": 0.1, "weight_dropout": 0.2},
        "training": {"kernel_penalty": 0.1, "clip_norm": 0.1},
    },
    "features": {"model": {"dropout": 0.3}, "training": {"kernel_penalty": 0.1}},
    **MODELS,
}


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_whose_steps_are_repeated_is_that_whose_steps_are_called(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = TRIALS[name]
    few = blocks.get("training", {}) | {"epochs": 2, "batch_size": 3}  # 7 whole ones and a rest
    trial = make_trial(**blocks | {"training": few})
    model, epochs = run(trial)

    called: list[int] = []
    make = steps._Steps._make

    def counted(self: steps._Steps, chosen_EB: Tensor) -> None:
        called.append(chosen_EB.shape[1])
        make(self, chosen_EB)

    monkeypatch.setattr(steps._Steps, "_make", counted)
    monkeypatch.setattr(steps, "repeated", lambda step, state, *_: Repeated(step, state, Recording))
    repeated, again = run(trial)
    assert called == [*[3] * (WARM_UP + 2), 1] * 2
    assert in_hex(again) == in_hex(epochs)
    assert equal(repeated, model)


def no_graph(step: Step) -> Step:
    raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    ("record", "why"),
    [
        (no_graph, "not recorded: operation not permitted when stream is capturing$"),
        (lambda step: lambda: None, "not recorded: repeated, it gives other numbers"),
    ],
)
def test_a_step_that_cannot_be_recorded_or_comes_out_wrong_is_called_all_the_same(
    record: Callable[[Step], Step], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = member_trial(2).model_copy(
        update={"training": make_trial(training={"batch_size": 2}).training}
    )
    model, epochs = run(trial)
    monkeypatch.setattr(steps, "repeated", lambda step, state, *_: Repeated(step, state, record))
    with pytest.warns(UserWarning, match=why):
        called, again = run(trial)
    assert in_hex(again) == in_hex(epochs)
    assert equal(called, model)


def test_a_recording_without_room_is_no_recording_that_is_wrong() -> None:
    def full(step: Step) -> Step:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    repeated = Repeated(lambda: None, list, full)
    for _ in range(WARM_UP):
        repeated()
    with pytest.raises(torch.OutOfMemoryError):
        repeated()


def test_steps_are_recorded_on_a_gpu_only_where_that_is_wanted_and_of_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda, enough = torch.device("cuda"), WARM_UP + graphs.LEAST_REPEATED

    def step() -> None: ...

    assert graphs.repeated(step, list, enough, cuda) is step
    monkeypatch.setenv("CKCONV_CUDA_GRAPHS", "1")
    assert isinstance(graphs.repeated(step, list, enough, cuda), Repeated)
    assert graphs.repeated(step, list, enough - 1, cuda) is step
    assert graphs.repeated(step, list, enough, CPU) is step


class NothingOfTheHost(TorchDispatchMode):
    """Fails where an operation reads or makes a tensor that is not on the device: a value that is
    read there would be waited for, one that is brought there cannot be recorded."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = operation(*args, **(kwargs or {}))
        for tensor in tensors((args, kwargs, made)):
            assert tensor.device == META, f"{operation} on the {tensor.device}"
        return made


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("name", TRIALS)
def test_after_the_first_a_step_reads_nothing_of_the_device_and_brings_nothing_there(
    name: str,
) -> None:
    task = make_task()
    trial = make_trial(
        **TRIALS[name] | {"training": TRIALS[name].get("training", {}) | {"batch_size": 3}}
    )
    members = [Member.open(trial, task) for _ in range(2)]
    pack = Pack(task, META)
    rows = {n: torch.cat([m.rows[n] for m in members]).to(META) for n in members[0].rows}
    model = pack.model_of(members)
    model.put(rows["weights"], rows["buffers"], trained=True)
    running = steps.train_epoch(model, members, rows, [0.1, 0.2], pack.train)
    next(running)
    with NothingOfTheHost():
        assert len(list(running)) == 7
