"""What Ray writes to the terminal, kept in a file instead."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ckconv_sweep.durable import opened


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    """Until it is left, what this process writes to the standard error goes to `path`, and so does
    what Ray prints: state dumps, errors of its connections, warnings of its processes. The terminal
    belongs to the sweep. A file that stays empty is deleted."""
    from ray._private import worker

    descriptor = opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    terminal, printed = os.dup(2), worker.print_to_stdstream

    def write(data: dict[str, Any], ignore_prefix: bool = False) -> None:
        os.write(descriptor, "".join(f"{line}\n" for line in data["lines"]).encode())

    # Ray prints what it hears of its processes, whatever its logging is set to.
    worker.print_to_stdstream = write
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        worker.print_to_stdstream = printed
        empty = os.fstat(descriptor).st_size == 0
        os.close(terminal)
        if empty:
            path.unlink(missing_ok=True)
