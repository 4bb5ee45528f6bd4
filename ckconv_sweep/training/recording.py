"""A training step on a CPU, recorded once and then repeated without its Python.

A step of a small network spends most of its time on what is not arithmetic: Python, autograd, and
operations that only look at a tensor in another way. So its operations are recorded, in the order
in which they come, backward pass and optimiser too. Those that make values are repeated with the
same arguments, and write to memory that is given out once: two tensors share some where one is no
longer needed before the other is made. The rest was done for good when it was recorded.

A repeated operation is the recorded one, or the variant of it that writes into given memory, on
tensors of the same shapes, strides and alignment: the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ckconv_sweep.models.members import ALIGNMENT

MOST_BYTES = 64 << 20
"""Made by a step that is worth it. While it is recorded all of them are held; and where there are
more, arithmetic is what takes the time: one of 96 MiB is 1.14 times as fast repeated, for 85 MiB of
memory; one of 46 MiB 1.35 times for 40 MiB (98K, 182 steps of time, batches of 32 and 8)."""

Step = Callable[[], None]
_Call = tuple[Any, Any, dict[str, Any], list[Tensor]]
"""An operation, its arguments, and where its results are to be copied."""


def recorded(step: Step) -> Step:
    """Make a step, and return what repeats it; or the step itself, if it makes too much.

    Args:
        step: reads and writes the same memory whenever it is called, and reads no value there.
    """
    recording = _Recording()
    with recording:
        step()
    if recording.made_bytes > MOST_BYTES:
        return step
    calls = _placed(recording.calls, recording.made)
    repeated = [_bound(*call) for call in calls]

    @torch.inference_mode()
    def repeat() -> None:
        for call in repeated:
            call()

    return repeat


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class _Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`calls` are the operations that are to be repeated, `made` the size of each new memory in
    bytes by its address."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[_Call] = []
        self.made: dict[int, int] = {}
        self.made_bytes = 0
        self._held: list[Any] = []
        """So that no address is given out twice."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Otherwise PyTorch imports its compiler here: a second, and 60 MiB."""
        return False

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        if self.made_bytes > MOST_BYTES:
            return result
        results = _tensors(result)
        given = {_address(tensor) for tensor in _tensors((args, kwargs))}
        new = {_address(tensor): tensor for tensor in results if _address(tensor) not in given}
        for address, tensor in new.items():
            self.made[address] = tensor.untyped_storage().nbytes()
            self.made_bytes += self.made[address]
        self._held.append(result)
        if operation._schema.is_mutable:
            self.calls.append((operation, args, kwargs, []))
        elif new and operation.overloadpacket.__name__ not in _UNSET:
            self.calls.append(_writing(operation, args, kwargs, results))
        if self.made_bytes > MOST_BYTES:
            self.calls.clear()
            self._held.clear()
        return result


_UNSET = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
"""What they make has no values."""


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _writing(operation: Any, args: Any, kwargs: dict[str, Any], results: list[Tensor]) -> _Call:
    """What makes these results again, where they are."""
    name = operation.overloadpacket.__name__
    if name == "clone":
        return torch.ops.aten.copy_.default, (results[0], args[0]), {}, []
    if name in ("zeros", "zeros_like", "new_zeros"):
        return torch.ops.aten.zero_.default, (results[0],), {}, []
    if variant := _variant(operation):
        return variant[0], args, kwargs | {variant[1]: results[0]}, []
    return operation, args, kwargs, results


@cache
def _variant(operation: Any) -> tuple[Any, str] | None:
    """That of an operation which writes into given memory, and the name of that argument."""
    arguments = _plain(operation)
    packet = operation.overloadpacket
    for name in packet.overloads():
        other = getattr(packet, name)
        out = [argument.name for argument in other._schema.arguments if argument.is_out]
        if len(out) == len(operation._schema.returns) == 1 and _plain(other) == arguments:
            return other, out[0]
    return None


def _plain(operation: Any) -> list[tuple[str, str]]:
    return [(a.name, str(a.type)) for a in operation._schema.arguments if not a.is_out]


def _placed(calls: list[_Call], made: dict[int, int]) -> list[_Call]:
    """The same on one block of memory, in which each tensor has room while it is needed."""
    first, last = dict[int, int](), dict[int, int]()
    for number, call in enumerate(calls):
        for tensor in _tensors(call):
            if (address := _address(tensor)) in made:
                first.setdefault(address, number)
                last[address] = number
    room = _Room()
    places: dict[int, int] = {}
    ending: dict[int, list[int]] = {}
    for address, number in first.items():  # in the order of the calls
        for before in [n for n in ending if n < number]:
            for other in ending.pop(before):
                room.give_back(places[other], made[other])
        places[address] = room.take(made[address])
        ending.setdefault(last[address], []).append(address)
    block = torch.empty(room.size, dtype=torch.uint8)
    assert block.data_ptr() % ALIGNMENT == 0

    def moved(tensor: Tensor) -> Tensor:
        place = places.get(_address(tensor))
        if place is None:
            return tensor
        values = torch.empty(0, dtype=tensor.dtype)
        begin = place // tensor.element_size() + tensor.storage_offset()
        values.set_(block.untyped_storage(), begin, tensor.shape, tensor.stride())
        values = values.conj() if tensor.is_conj() else values
        return torch._neg_view(values) if tensor.is_neg() else values

    return [tree_map_only(Tensor, moved, call) for call in calls]


class _Room:
    """Places in a block of memory of `size` bytes, which grows."""

    def __init__(self) -> None:
        self.size = 0
        self._free: dict[int, int] = {}

    def take(self, size: int) -> int:
        """A place: the smallest that is free and large enough, or a new one at the end."""
        size = _whole(size)
        fitting = [(free, place) for place, free in self._free.items() if free >= size]
        if fitting:
            free, place = min(fitting)
            del self._free[place]
            if free > size:
                self._free[place + size] = free - size
            return place
        self.size += size
        return self.size - size

    def give_back(self, place: int, size: int) -> None:
        """It is free again, together with what is free beside it."""
        end = place + _whole(size)
        end += self._free.pop(end, 0)
        for before, free in self._free.items():
            if before + free == place:
                self._free[before] = end - before
                return
        self._free[place] = end - place


def _whole(size: int) -> int:
    return max(1, -(-size // ALIGNMENT)) * ALIGNMENT


def _bound(operation: Any, args: Any, kwargs: dict[str, Any], results: list[Tensor]) -> Step:
    call: Callable[[], Any] = partial(operation, *args, **kwargs)
    if not results:
        return call

    def copied() -> None:
        for new, old in zip(_tensors(call()), results, strict=True):
            old.copy_(new)

    return copied
