from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from ckconv_sweep.training.allocator import VARIABLE

FAULTS = """
import resource, torch
from ckconv_sweep.training.allocator import keep_pages
done = keep_pages()
for _ in range(20):
    torch.ones(12 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(12 << 20)
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Page faults of 20 tensors of 48 MiB after as many others."""


def faults(**environment: str) -> tuple[str, int]:
    run = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={k: v for k, v in os.environ.items() if k != VARIABLE} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    done, number = run.stdout.split()
    return done, int(number)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_freed_pages_are_used_again_unless_that_is_turned_off() -> None:
    kept, few = faults()
    off, many = faults(**{VARIABLE: "0"})
    assert (kept, off) == ("True", "False")
    # Pages may be huge ones.
    assert many >= 20 * 24
    assert few < many / 10
