"""On what something was measured, and by which clock."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import torch

from ckconv_sweep.training.allocator import VARIABLE


def where(device: str, kept: bool | None = None) -> str:
    """The device and what else a time depends on; `kept` is what `keep_pages` said."""
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    pages = "" if kept is None else f", pages {'kept' if kept else 'given back'} ({VARIABLE})"
    return (
        f"{name}; {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}, "
        f"{' '.join(platform.libc_ver())}, {torch.get_num_threads()} threads{pages}"
    )


def processor() -> str:
    """Its name, where Linux says it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def clock(device: str) -> float:
    """Seconds: of the processor, which other work on the machine changes little, or for a GPU of
    the clock, after all that it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
