"""A step that is recorded and repeated gives what it gives when it is called."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from thinned import each_second
from torch import Tensor
from torch.overrides import TorchFunctionMode
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
    assert called == [*[3] * (WARM_UP + 2), 1, 1]
    assert in_hex(again) == in_hex(epochs)
    assert equal(repeated, model)


def no_graph(step: Step) -> Step:
    raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


def no_room(step: Step) -> Step:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    ("record", "why"),
    [
        (no_graph, "not recorded: operation not permitted when stream is capturing$"),
        (no_room, "not recorded: CUDA out of memory"),
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
    monkeypatch.setattr(Repeated, "given_up", False)
    with pytest.warns(UserWarning, match=why):
        called, again = run(trial)
    assert in_hex(again) == in_hex(epochs)
    assert equal(called, model)
    assert Repeated.given_up


def test_a_graph_is_recorded_on_the_packs_own_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for CUDA, which is not here."""
    heard: list[object] = []

    class Graph:
        def replay(self) -> None:
            heard.append("repeated")

    @contextlib.contextmanager
    def recording(graph: Graph, *, stream: object) -> Iterator[None]:
        heard.append((type(graph), stream))
        yield
        heard.append("recorded")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "its own")
    repeat = graphs.as_cuda_graph(lambda: heard.append("called"))
    repeat()
    assert heard == [(Graph, "its own"), "called", "recorded", "repeated"]


def test_steps_are_recorded_on_a_gpu_only_where_that_is_wanted_and_of_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda, enough = torch.device("cuda"), WARM_UP + graphs.LEAST_REPEATED

    def step() -> None: ...

    monkeypatch.setattr(Repeated, "given_up", False)
    assert graphs.repeated(step, list, enough, cuda) is step
    monkeypatch.setenv("CKCONV_CUDA_GRAPHS", "1")
    assert isinstance(graphs.repeated(step, list, enough, cuda), Repeated)
    assert graphs.repeated(step, list, enough - 1, cuda) is step
    assert graphs.repeated(step, list, enough, META) is step
    monkeypatch.setattr(Repeated, "given_up", True)
    assert graphs.repeated(step, list, enough, cuda) is step


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


class NothingOfPython(TorchFunctionMode):
    """Fails where numbers of Python become a tensor; on the meta device that is no copy."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        assert function not in (torch.tensor, torch.as_tensor, torch.from_numpy), function
        if function in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            assert not any(isinstance(part, list) for part in index), index
        return function(*args, **(kwargs or {}))


def test_what_comes_from_the_host_is_noticed() -> None:
    values = torch.ones(3, device=META)
    for come in (
        lambda: torch.tensor([1.0], device=META),
        lambda: values[[0, 1]],
        lambda: values + torch.ones(3).to(META),
    ):
        with pytest.raises(AssertionError), NothingOfPython(), NothingOfTheHost():
            come()


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("name", each_second(TRIALS))
def test_after_the_first_a_step_reads_nothing_of_the_device_and_brings_nothing_there(
    name: str,
) -> None:
    task = make_task()
    trial = make_trial(
        **TRIALS[name] | {"training": TRIALS[name].get("training", {}) | {"batch_size": 3}}
    )
    members = [Member.open(trial, task) for _ in range(2)]
    training = Pack(task, META).training_of(members)
    running = steps.train_epoch(training, members, [0.1, 0.2])
    next(running)
    with NothingOfPython(), NothingOfTheHost():
        assert len(list(running)) == 7
