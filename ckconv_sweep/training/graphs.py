"""A step that is recorded once and then repeated without its Python: on a CPU as the list of its
operations (`recording.py`), on a GPU as a CUDA graph.

There a step of one small network takes as long as it takes to ask for its operations; repeated as a
graph they are asked for at once. `CKCONV_CUDA_GRAPHS=1` in the environment turns it on.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ckconv_sweep.training.recording import recorded

VARIABLE = "CKCONV_CUDA_GRAPHS"
WARM_UP = 3
"""Steps that are called first: libraries plan and compile in them, which cannot be recorded."""
LEAST_REPEATED = 32
"""Recording takes as long as some steps do, so it must be of use for so many."""

Step = Callable[[], None]


def as_cuda_graph(step: Step) -> Step:
    """Record what a step asks of the GPU, without doing it; returns what does it."""
    graph = torch.cuda.CUDAGraph()
    # On the pack's own stream: libraries keep workspaces for each stream, and by default all graphs
    # of a process would be recorded on one and share them.
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        step()
    return graph.replay


def repeated(
    step: Step, state: Callable[[], Sequence[Tensor]], times: int, device: torch.device
) -> Step:
    """The step, or what repeats it, if that can be done there, is wanted, and of use for so many
    `times`.

    Args:
        step: reads and writes the same memory whenever it is called.
        state: all that it changes, once it has been called.
    """
    record = recorded if device.type == "cpu" else None
    if device.type == "cuda" and os.environ.get(VARIABLE) == "1":
        record = as_cuda_graph
    if record is None or Repeated.given_up or times < WARM_UP + LEAST_REPEATED:
        return step
    return Repeated(step, state, record)


class Repeated:
    """Call it instead of the step: it is as often called or repeated.

    A recording is believed once it has made of one state what the step makes of it. Otherwise, or
    where there can be none, a warning says why, the step is called as before, and no other is
    recorded in this process.
    """

    given_up: ClassVar[bool] = False

    def __init__(
        self, step: Step, state: Callable[[], Sequence[Tensor]], record: Callable[[Step], Step]
    ) -> None:
        self._step, self._state, self._record = step, state, record
        self._calls = 0

    def __call__(self) -> None:
        self._calls += 1
        if self._calls == WARM_UP + 1:
            self._step = self._proven(self._step)
        else:
            self._step()

    def _proven(self, step: Step) -> Step:
        """Makes one step, both ways, and returns what is to make the others."""
        state, why = self._state(), ""
        before = [tensor.clone() for tensor in state]
        try:
            recording = self._record(step)
            if recording is step:  # which was made
                return step
            _put(before, state)
            recording()
            repeated = [tensor.clone() for tensor in state]
        except RuntimeError as error:  # no room for it is one too
            why = str(error).partition("\n")[0]
        _put(before, state)
        step()
        if not why and all(map(_same, state, repeated)):
            return recording
        Repeated.given_up = True
        why = why or "repeated, it gives other numbers"
        warnings.warn(f"training steps are not recorded: {why}", stacklevel=3)
        return step


def _same(one: Tensor, other: Tensor) -> bool:
    """On a CPU all numbers must be equal; a GPU may add in another order."""
    relative, absolute = (0.0, 0.0) if one.device.type == "cpu" else (1e-4, 1e-6)
    return torch.allclose(one, other, relative, absolute, equal_nan=True)


def _put(values: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for value, tensor in zip(values, tensors, strict=True):
            tensor.copy_(value)
