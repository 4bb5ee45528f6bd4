"""A step that is recorded on a CPU and repeated there gives the bits that it gives when called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ckconv_sweep.training import graphs, recording, steps
from ckconv_sweep.training.graphs import WARM_UP
from ckconv_sweep.training.pack import Member, Pack
from ckconv_sweep.training.recording import recorded

from .test_graphs import TRIALS
from .test_pack import member_trial
from .tiny import equal, examples, in_hex, make_task, make_trial, run


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches of the steps that were called; so short trials are recorded too."""
    monkeypatch.setattr(graphs, "LEAST_REPEATED", 1)
    sizes: list[int] = []
    make = steps._Steps._make

    def counted(self: steps._Steps, chosen_EB: Tensor) -> None:
        sizes.append(chosen_EB.shape[1])
        make(self, chosen_EB)

    monkeypatch.setattr(steps._Steps, "_make", counted)
    return sizes


def called(*_: Any) -> Callable[..., Any]:
    return lambda step, *_: step


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_whose_steps_are_repeated_is_that_whose_steps_are_called(
    name: str, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = TRIALS[name]
    few = blocks.get("training", {}) | {"epochs": 5, "batch_size": 3}  # 7 whole ones and a rest
    trial = make_trial(**blocks | {"training": few})
    model, epochs = run(trial)
    assert sorted(made) == [1] * (WARM_UP + 2) + [3] * (WARM_UP + 2)
    monkeypatch.setattr(steps, "repeated", called())
    again, called_epochs = run(trial)
    assert in_hex(epochs) == in_hex(called_epochs)
    assert equal(model, again)


def test_members_whose_steps_are_repeated_are_those_whose_steps_are_called(
    made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def curves() -> list[list[str]]:
        task = make_task()
        pack, members = Pack(task), [Member.open(member_trial(n), task) for n in range(3)]
        for member in members:
            pack.join(member)
        while pack.members:
            for member in pack.epoch():
                member.keep()
        return [in_hex(member.history) for member in members]

    repeated, number = curves(), len(made)
    monkeypatch.setattr(steps, "repeated", called())
    assert curves() == repeated
    assert number < len(made) - number


def test_a_recorded_step_is_made_once_and_reads_what_its_memory_holds_when_it_is_repeated() -> None:
    x = torch.zeros(3)
    numbers = []

    def step() -> None:
        numbers.append(1)
        x.add_(torch.ones(3).cumsum(0) + x)

    repeat = recorded(step)
    assert x.tolist() == [1.0, 2.0, 3.0]
    x.fill_(1.0)
    repeat()
    assert x.tolist() == [3.0, 4.0, 5.0]
    assert len(numbers) == 1


UNARY: list[Callable[[Tensor], Tensor]] = [
    lambda a: a.mT,
    lambda a: a.mT.contiguous(),
    lambda a: torch.tanh_(a.clone()),
    lambda a: torch.fft.fft(a).real,
    lambda a: torch.fft.fft(a).conj().imag + 1.0,
    lambda a: torch.cat([a[1:], a[:1]]),
    lambda a: a.sum(0, keepdim=True).expand(4, 4),
    lambda a: torch.topk(a, 4).values,
    lambda a: torch.empty_like(a).copy_(a).mul_(0.5),
    lambda a: a.relu(),
]
BINARY: list[Callable[[Tensor, Tensor], Tensor]] = [
    torch.add,
    torch.mul,
    torch.matmul,
    lambda a, b: torch.where(a > b, a, 0.5),
    lambda a, b: torch.addcmul(a, a, b),
]
numbers = st.integers(0, 99)


@examples
@given(st.lists(st.tuples(numbers, numbers, numbers), max_size=30))
def test_any_order_of_operations_and_looks_repeats_its_bits(
    program: list[tuple[int, int, int]],
) -> None:
    state = torch.linspace(-1.0, 1.0, 16).view(4, 4).clone()

    def step() -> None:
        values = [state]
        for operation, i, j in program:
            a, b = values[i % len(values)], values[j % len(values)]
            if (number := operation % (len(UNARY) + len(BINARY))) < len(UNARY):
                values.append(UNARY[number](a))
            else:
                values.append(BINARY[number - len(UNARY)](a, b))
        state.copy_(torch.tanh(sum(values, state)).nan_to_num_())

    repeat = recorded(step)
    for _ in range(2):
        before = state.clone()
        repeat()
        got = state.clone()
        state.copy_(before)
        step()
        assert torch.equal(got, state)


class Blocks(TorchDispatchMode):
    """Sizes of the memory that is made without a type, bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.uint8:
            self.sizes.append(len(result))
        return result


def test_what_is_no_longer_needed_gives_its_room_to_what_is_made_later() -> None:
    x = torch.linspace(0.0, 1.0, 1000)

    def step() -> None:
        y = x
        for _ in range(50):
            y = y * 0.5 + x
        x.copy_(y)

    with Blocks() as blocks:
        recorded(step)
    assert blocks.sizes == [2 * 4032]  # of 4000 bytes each, up to whole cache lines


def test_a_step_that_makes_too_much_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_BYTES", 1000)
    x = torch.zeros(100)

    def step() -> None:
        x.add_((x + 1.0) * (x + 2.0))

    assert recorded(step) is step
    assert x.tolist() == [2.0] * 100
