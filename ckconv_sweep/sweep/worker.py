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
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any

KEY = "ckconv"
"""Under which our part of a Ray Tune result stands, as JSON text: Tune flattens what is nested."""


def train_assignment(config: dict[str, Any]) -> None:
    """Ray Tune's function trainable: `config` holds an assignment as plain values (see
    `sweep.ray_executor`)."""
    import torch
    from ray import tune

    from ckconv_sweep.config.history import Epoch
    from ckconv_sweep.config.trial import Trial
    from ckconv_sweep.errors import CannotWrite, OutOfMemory, TrialFailed
    from ckconv_sweep.training.loop import train

    folder = Path(config["folder"])
    trial = Trial.model_validate_json(config["trial"])
    lease = _Lease(folder, config["attempt"])
    warnings: list[str] = []

    def report(epoch: Epoch) -> None:
        said = {
            "number": epoch.number,
            "metrics": dict(epoch.metrics),
            "timestamp_ms": epoch.timestamp_ms,
            "checkpoint": epoch.checkpoint,
        }
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        tune.report(
            {KEY: json.dumps({"epoch": said, "warnings": warnings, "memory_gib": round(used, 2)})}
        )
        warnings.clear()

    reason = text = ""
    try:
        lease.take()
        task = _task(trial.data, config["data_dir"])
        device = "cuda" if torch.cuda.is_available() and config["gpus"] else "cpu"
        train(
            trial,
            task,
            report,
            folder=folder,
            device=device,
            warn=warnings.append,
            guard=lease.check,
        )
    except TrialFailed as error:
        reason, text = error.reason, error.message
    except MemoryError:  # while the data were read
        reason, text = OutOfMemory.reason, "the host has no memory left"
    except CannotWrite as error:
        reason, text = "cannot_write", str(error)
    except Exception:
        reason, text = "error", traceback.format_exc()
    if not reason:
        return
    # Only now, because the exception held the model. The process serves other trials.
    gc.collect()
    torch.cuda.empty_cache()
    tune.report({KEY: json.dumps({"reason": reason, "error": text})})


class _Lease:
    """The newest worker of a trial owns its folder; one that was cut off and comes back after the
    trial was handed out again must not write there.

    Args:
        attempt: the hand-out, as `session:time`. Ray Tune may give one to a second worker where it
            takes the first for dead.
    """

    def __init__(self, folder: Path, attempt: str) -> None:
        self._path, self._attempt = folder / "lease", attempt
        self._owner = f"{attempt}:{uuid.uuid4().hex}"

    def take(self) -> None:
        from ckconv_sweep.errors import CannotWrite

        temporary = self._path.with_name(f".tmp-lease-{self._owner}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._path.exists() and self._session(owner := self._path.read_text()) > (
                self._session(self._attempt)
            ):
                raise self._lost(owner)
            temporary.write_text(self._owner)
            temporary.rename(self._path)
        except OSError as error:
            raise CannotWrite(
                f"cannot be written: {error.strerror}", where=str(self._path.parent)
            ) from error

    def check(self) -> None:
        owner = self._path.read_text()
        if owner != self._owner:
            raise self._lost(owner)

    def _lost(self, owner: str) -> RuntimeError:
        return RuntimeError(f"this trial was handed out again: {owner}, not {self._owner}")

    @staticmethod
    def _session(owner: str) -> int:
        number = owner.partition(":")[0]
        return int(number) if number.isdecimal() else 0


@lru_cache(maxsize=1)
def _task(data: Any, data_dir: str | None) -> Any:
    """Read once a process, because its trials mostly share their data."""
    from ckconv_sweep.data.datasets import load

    return load(data, Path(data_dir) if data_dir else None)
