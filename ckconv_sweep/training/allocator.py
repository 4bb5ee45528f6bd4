"""Memory that PyTorch frees on a CPU stays with the process."""

from __future__ import annotations

import ctypes
import os
import platform

VARIABLE = "CKCONV_KEEP_PAGES"
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc
NEVER = 2**31 - 1

ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
"""What a process must begin with that trains in a thread: one arena for all of its threads."""


def keep_pages() -> bool:
    """Ask the C library not to give freed memory back to the system; whether it was done.

    glibc maps each block above 32 MiB anew and unmaps it when it is freed, so that a training step
    writes to fresh pages again and again, each of which the kernel must find and clear first: up to
    a quarter of the time of our step, and two thirds of the published code's (docs/performance.md).
    Afterwards the pages stay with the process and are used again. The price is memory: blocks of
    several sizes leave holes between them, and the process keeps the most that it ever held.

    On Linux with glibc only. `CKCONV_KEEP_PAGES=0` in the environment turns it off. For the whole
    process; best called before the first tensor is made. In threads other than the main one blocks
    above 64 MiB are mapped anew all the same, unless the process began with `ENVIRONMENT`: each
    thread has an arena of its own, and those are no larger.
    """
    if os.environ.get(VARIABLE) == "0" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))
