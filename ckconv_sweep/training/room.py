"""What PyTorch says where there is no room, as one of our errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ckconv_sweep.errors import OutOfMemory

NO_ROOM = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUFFT_ALLOC_FAILED",
)
"""What a plain RuntimeError says then, in its first line."""


@contextlib.contextmanager
def out_of_memory_named() -> Iterator[None]:
    """Raises OutOfMemory for each way in which Python and PyTorch say that there is no room."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error).partition("\n")[0]
        if isinstance(error, RuntimeError) and not (
            isinstance(error, torch.OutOfMemoryError) or any(words in said for words in NO_ROOM)
        ):
            raise
        if "memory" not in said:
            said = f"no memory left: {said}" if said else "the host has no memory left"
        raise OutOfMemory(
            said,
            hint="a smaller training.batch_size or model takes less",
        ) from None
