"""What a node says of itself. This module is sent to the node as it stands, because the package may
be missing there, or be of another version: nothing of the package is imported but where an answer
says that this is not possible.

A question and its answer are plain values, so that every version understands them.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import time
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, TypedDict

NONE = "none"
"""The version of what is not installed."""


class Question(TypedDict):
    """What a node is asked beside its versions, its GPUs and its clock.

    `needed`: the versions without which its data are not asked for; `trial`: the base trial as
    JSON, and where its data are looked for; `reads_data`: whether they are to be compared;
    `marker`: a file in the sweep's folder; empty: the node need not see it.
    """

    needed: dict[str, str]
    trial: str
    data_dir: str | None
    reads_data: bool
    marker: str


def answer(question: Question) -> dict[str, Any]:
    """Run on a node. `data` is the identity of its data; where `error` says why something cannot
    be had, the rest is not asked for."""
    versions, error = _versions()
    cuda, gpus = _cuda()
    said: dict[str, Any] = {
        "host": socket.gethostname(),
        "versions": versions,
        "error": error,
        "cuda": cuda,
        "gpus": gpus,
        "data": None,
    }
    if question["marker"] and not said["error"]:
        said["error"] = _why_not_shared(Path(question["marker"]))
    same = all(versions.get(name) == version for name, version in question["needed"].items())
    if question["reads_data"] and same and not said["error"]:
        try:
            said["data"] = _identity(question["trial"], question["data_dir"])
        except Exception as failed:
            said["error"] = f"its data cannot be read: {_first_line(failed)}"
    return said | {"clock": time.time()}


def _versions() -> tuple[dict[str, str], str]:
    """Those of `record.versions.of_worker`, as far as they are to be had, and why not all are."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("torch", "numpy"):
        try:
            found[name] = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            found[name] = NONE
    try:
        found["ckconv-sweep"] = str(import_module("ckconv_sweep").__version__)
    except Exception as failed:
        return {"ckconv-sweep": NONE, "code": NONE} | found, (
            f"ckconv-sweep is not installed: {_first_line(failed)}"
        )
    try:
        found |= import_module("ckconv_sweep.record.versions").of_worker()
    except Exception as failed:
        return found, f"ckconv-sweep {found['ckconv-sweep']} does not start: {_first_line(failed)}"
    return found, ""


def _cuda() -> tuple[str, int]:
    """The version of CUDA that PyTorch was built with, and how many GPUs it sees, in a process of
    its own: Ray hides them from one that has asked for none."""
    kept = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    program = "import torch; print(torch.version.cuda or '-', torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", program], env=kept, capture_output=True, text=True)
    cuda, _, gpus = done.stdout.strip().partition(" ")
    return (cuda, int(gpus)) if done.returncode == 0 else (NONE, 0)


def _why_not_shared(marker: Path) -> str:
    """Why this node cannot keep checkpoints in the folder of a file; empty where it can."""
    if not marker.exists():
        return unseen(marker)
    mine = marker.with_name(f"{marker.name}-{socket.gethostname()}-{os.getpid()}")
    try:
        mine.write_text("")
        mine.unlink()
    except OSError as error:
        return f"it cannot write to {marker.parent}: {error.strerror}"
    return ""


def unseen(marker: Path) -> str:
    """What is said of a node on which a file of the sweep's folder is not."""
    return f"it does not see {marker.parent}, which all nodes must share"


def _identity(trial: str, data_dir: str | None) -> dict[str, Any]:
    read = import_module("ckconv_sweep.config.trial").Trial.model_validate_json
    load = import_module("ckconv_sweep.data.datasets").load
    return dict(load(read(trial).data, Path(data_dir) if data_dir else None).identity)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
