"""What PyTorch says where there is no room, as one of our errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ckconv_sweep.errors import OutOfMemory


@contextlib.contextmanager
def out_of_memory_named() -> Iterator[None]:
    """PyTorch says in three ways that there is no room. Raises OutOfMemory for each."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error).partition("\n")[0]
        if isinstance(error, RuntimeError) and not (
            isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in said
        ):
            raise
        raise OutOfMemory(
            said or "the host has no memory left",
            hint="a smaller training.batch_size or model takes less",
        ) from None
