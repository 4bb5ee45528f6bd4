"""A trial's state on disk: never half-written, never believed unchecked.

    trials/0004/ledger.jsonl                      a line for each epoch executed, with its metrics

Which files there are, and which are needed no more: `record.checkpoints`. How one is written, so
that it is there whole or not at all: `record.blobs`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.durable import opened
from ckconv_sweep.errors import CannotWrite, ConfigError, DamagedData
from ckconv_sweep.record.blobs import Place, blobs_at, digest
from ckconv_sweep.record.checkpoints import best as best
from ckconv_sweep.record.checkpoints import checkpoints as checkpoints
from ckconv_sweep.record.checkpoints import forget as forget
from ckconv_sweep.record.checkpoints import kept

KEPT = 2


def save(folder: Place, epoch: int, state: dict[str, Any], kept_epochs: int = 0) -> str:
    """Write a checkpoint and forget all but the newest two, and but those after each
    `kept_epochs` epochs; returns its name.

    Raises:
        CannotWrite: the disk is full or the folder cannot be written; what was there stays.
    """
    name = _write(folder, f"checkpoint-{epoch:05d}", state)
    found = checkpoints(folder)
    # One of this epoch or a later one was damaged, or it would have been gone on from.
    still = [name, *(path.name for number, path in found if number < epoch)][:KEPT]
    still += [path.name for number, path in kept(found, kept_epochs) if number < epoch]
    blobs_at(folder).delete(*(path.name for _, path in found if path.name not in still))
    return name


def save_best(
    folder: Place,
    trial: dict[str, Any],
    weights: dict[str, Any],
    data: Mapping[str, Any] | None = None,
) -> str:
    """Write an ended trial, as plain values, its weights, and the identity of the data that it was
    trained on, if that is known; returns the file's name. Raises as `save`."""
    state = {"trial": trial, "best_weights": weights} | ({"data": dict(data)} if data else {})
    name, blobs = _write(folder, "best", state), blobs_at(folder)
    blobs.delete(*(old for old in blobs.list("best-*.pt") if old != name))
    return name


def load(path: Place) -> Any:
    """The content of a file that `save` or `save_best` wrote.

    Raises:
        DamagedData: its content is not what its name says, and is not parsed then; or it holds
            more than tensors and plain values, and none of it is run.
    """
    content = blobs_at(path.parent).get(path.name)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes make the reader raise anything
        first = str(error).partition("\n")[0]
        if isinstance(error, (pickle.UnpicklingError, EOFError)):  # PyTorch advises to run it
            first = "it is no file of torch.save, or holds more than tensors and plain values"
        raise DamagedData(f"holds no state that can be read: {first}", where=str(path)) from error


def read_given(path: Place) -> Mapping[str, Any]:
    """What a file holds by name that a user named: ours, or one of the published code.

    Raises:
        ConfigError: there is no such file, or it cannot be read.
        DamagedData: it holds no state.
    """
    try:
        # A folder, a device without an end, a pipe that nobody writes to.
        if isinstance(path, Path) and not path.is_file():
            path.stat()
            what = "a folder" if path.is_dir() else "no plain file"
            raise ConfigError(f"this is {what}, not a checkpoint", where=str(path))
        state = load(path)
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path)) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise DamagedData("holds no weights by name", where=str(path))
    return state


def data_of(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The identity of the data that a checkpoint was trained on; empty where none is noted."""
    data = state.get("data")
    return data if isinstance(data, dict) else {}


def newest(folder: Place) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest checkpoint that is whole, and a message for each newer one that is not."""
    messages = []
    for _, path in checkpoints(folder):
        try:
            state: dict[str, Any] = load(path)
        except DamagedData as error:
            messages.append(str(error))
        else:
            return state, messages
    return None, messages


def note_in_ledger(folder: Place, epoch: Epoch) -> None:
    """Write down an epoch as executed, before anything of it is kept: what a crash makes us train
    twice then shows as two lines. Nothing can be added to an object of a store, so there is no
    ledger there. Raises as `save`."""
    if not isinstance(folder, Path):
        return
    said = {"metrics": dict(epoch.metrics), "timestamp_ms": epoch.timestamp_ms}
    line = json.dumps({"epoch": epoch.number, "pid": os.getpid(), **said}) + "\n"
    path = folder / "ledger.jsonl"
    try:
        descriptor = opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with os.fdopen(descriptor, "a") as file:
            file.write(line)
    except OSError as error:
        raise CannotWrite(f"cannot be written: {error.strerror}", where=str(path)) from error


def _write(folder: Place, stem: str, state: dict[str, Any]) -> str:
    buffer = io.BytesIO()
    torch.save(_each_text_once(state), buffer)
    content = buffer.getvalue()
    name = f"{stem}-{digest(content)}.pt"
    blobs_at(folder).put(name, content)
    return name


def _each_text_once(value: Any) -> Any:
    """The same plain values and tensors, with one object for equal texts: the bytes of a pickle
    depend on which of its texts are one object, and a file is named by its bytes."""
    match value:
        case str():
            return sys.intern(value)
        case dict():
            return {_each_text_once(key): _each_text_once(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(_each_text_once(item) for item in value)
        case _:
            return value
