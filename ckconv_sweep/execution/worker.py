"""What a process that trains needs to know and to say."""

from __future__ import annotations

import resource
import traceback
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.data.identity import Identity, check_same
from ckconv_sweep.errors import (
    CannotWrite,
    DataChanged,
    NodeFault,
    NodeUnfit,
    OutOfMemory,
    TrialFailed,
)
from ckconv_sweep.execution import nodes

if TYPE_CHECKING:
    from ckconv_sweep.data.task import SequenceTask


UNFIT = "node_unfit"
"""The reason that is reported where the node differs from the driver's."""
FAULT = "node_fault"
"""The reason that is reported where the node, not the trial, is at fault."""
GPU_FAULT = "gpu_fault"
"""The reason that is reported where a GPU fails, which may be the node's fault or the trial's."""
NO_WRITING = "cannot_write"
"""The reason that is reported where the sweep's folder cannot be written."""


def said_of(epoch: Epoch, warnings: list[str], data: str) -> dict[str, Any]:
    """What is reported of an epoch; `data` is the digest of what it was trained on."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "epoch": asdict(epoch),
        "warnings": warnings,
        "memory_gib": round(used, 2),
        "data": data,
    }


def failure_of(error: Exception) -> dict[str, str]:
    """What is reported of a trial that failed: its reason, and its error in words."""
    import torch

    if isinstance(error, TrialFailed):
        return {"reason": error.reason, "error": error.message}
    if isinstance(error, (NodeUnfit, DataChanged)):  # another node may have what it takes
        reason = FAULT if isinstance(error, NodeFault) else UNFIT
        return {"reason": reason, "error": nodes.in_a_line(error), **where()}
    if isinstance(error, torch.AcceleratorError):
        why = str(error).strip().splitlines()[0]
        return {"reason": GPU_FAULT, "error": f"its GPU failed: {why}", **where()}
    if isinstance(error, MemoryError):  # while the data were read
        return {"reason": OutOfMemory.reason, "error": "the host has no memory left"}
    if isinstance(error, CannotWrite):
        return {"reason": NO_WRITING, "error": str(error), **where()}
    return {"reason": "error", "error": "".join(traceback.format_exception(error))}


def where() -> dict[str, str]:
    """The node of this process, as it is reported."""
    node, name = nodes.this_node()
    return {"node": node, "name": name}


def device_of(gpus: float) -> str:
    """Where a process trains that was given so many GPUs (`nodes.check`: it sees them)."""
    return "cuda" if gpus else "cpu"


@lru_cache(maxsize=1)
def task_of(data: Any, data_dir: str | None) -> Any:
    """Read once a process, because its trials mostly share their data."""
    from ckconv_sweep.data.datasets import load

    return load(data, Path(data_dir) if data_dir else None)


def check_data(task: SequenceTask, expected: Identity | None) -> None:
    """Raises DataChanged if these are not the data that the sweep is trained on."""
    if expected is not None:
        check_same(expected, task.identity, where="the data of this node", hint="")
