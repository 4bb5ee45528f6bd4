"""A Ray worker: trains the trials that it is handed, one after the other.

It opens neither the study nor MLflow. All that leaves it are checkpoints in the trial's folder and
one report an epoch. A failure of the trial is a report too, not an exception, so that the process
serves the next trial.
"""

from __future__ import annotations

import gc
import json
import resource
import traceback
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.data.identity import Identity, check_same
from ckconv_sweep.errors import CannotWrite, DataChanged, NodeUnfit, OutOfMemory, TrialFailed
from ckconv_sweep.execution import nodes
from ckconv_sweep.execution.relay import KEY
from ckconv_sweep.record.lease import Lease

if TYPE_CHECKING:
    from ckconv_sweep.data.task import SequenceTask


UNFIT = "node_unfit"
"""The reason that is reported where the node, not the trial, is at fault."""


def train_assignment(config: dict[str, Any]) -> None:
    """Ray Tune's function trainable: `config` holds an assignment as plain values (see
    `execution.tune`)."""
    import torch
    from ray import tune

    from ckconv_sweep.config.trial import Trial
    from ckconv_sweep.training.allocator import keep_pages
    from ckconv_sweep.training.loop import train

    keep_pages()
    folder = Path(config["folder"])
    lease = Lease(folder, config["attempt"])
    warnings: list[str] = []

    def report(epoch: Epoch) -> None:
        said = said_of(epoch, warnings, task.identity["digest"])
        tune.report({KEY: json.dumps(said)})
        warnings.clear()

    failure: dict[str, str] | None = None
    try:
        nodes.check(config["versions"], config["gpus"])
        trial = Trial.model_validate_json(config["trial"])
        task = task_of(trial.data, config["data_dir"])
        check_data(task, config["data"])
        lease.take()
        train(
            trial,
            task,
            report,
            folder=folder,
            device=device_of(config["gpus"]),
            warn=warnings.append,
            guard=lease.check,
            allow_data_change=config["allow_data_change"],
        )
    except Exception as error:
        failure = failure_of(error)
    if failure is None:
        return
    # Only now, because the exception held the model. The process serves other trials.
    gc.collect()
    torch.cuda.empty_cache()
    tune.report({KEY: json.dumps(failure)})


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
    if isinstance(error, TrialFailed):
        return {"reason": error.reason, "error": error.message}
    if isinstance(error, (NodeUnfit, DataChanged)):  # another node may have what it takes
        node, name = nodes.this_node()
        return {"reason": UNFIT, "error": nodes.in_a_line(error), "node": node, "name": name}
    if isinstance(error, MemoryError):  # while the data were read
        return {"reason": OutOfMemory.reason, "error": "the host has no memory left"}
    if isinstance(error, CannotWrite):
        return {"reason": "cannot_write", "error": str(error)}
    return {"reason": "error", "error": "".join(traceback.format_exception(error))}


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
