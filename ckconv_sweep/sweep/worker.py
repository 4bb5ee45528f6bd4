"""A Ray worker: trains the trials that it is handed, one after the other.

It opens neither the study nor MLflow. All that leaves it are checkpoints in the trial's folder and
one report an epoch. A failure of the trial is a report too, not an exception, so that the process
serves the next trial.
"""

from __future__ import annotations

import json
import traceback
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
    from ckconv_sweep.errors import CannotWrite, NonFiniteLoss, TrialFailed
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
        tune.report({KEY: json.dumps({"epoch": said, "warnings": warnings})})
        warnings.clear()

    def failed(reason: str, error: str) -> None:
        tune.report({KEY: json.dumps({"reason": reason, "error": error})})

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
    except NonFiniteLoss as error:
        failed(error.reason, str(error))
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        failed("out_of_memory", str(error))
    except (TrialFailed, MemoryError) as error:
        failed(getattr(error, "reason", "out_of_memory"), str(error))
    except CannotWrite as error:
        failed("cannot_write", str(error))
    except Exception:
        failed("error", traceback.format_exc())


class _Lease:
    """The newest hand-out of a trial owns its folder; a worker that was cut off and comes back
    after the trial was handed out again must not write there."""

    def __init__(self, folder: Path, attempt: str) -> None:
        self._folder, self._attempt = folder, attempt

    def take(self) -> None:
        from ckconv_sweep.errors import CannotWrite

        temporary = self._folder / f".tmp-lease-{self._attempt}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_text(self._attempt)
            temporary.rename(self._folder / "lease")
        except OSError as error:
            raise CannotWrite(
                f"cannot be written: {error.strerror}", where=str(self._folder)
            ) from error

    def check(self) -> None:
        owner = (self._folder / "lease").read_text()
        if owner != self._attempt:
            raise RuntimeError(f"this trial was handed out again: {owner}, not {self._attempt}")


@lru_cache(maxsize=1)
def _task(data: Any, data_dir: str | None) -> Any:
    """Read once a process, because its trials mostly share their data."""
    from ckconv_sweep.data.datasets import load

    return load(data, Path(data_dir) if data_dir else None)
