from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from ckconv_sweep.training.allocator import ENVIRONMENT, VARIABLE

FAULTS = """
import resource, sys, threading, torch
from ckconv_sweep.training.allocator import keep_pages
done = keep_pages()
def fill():
    for _ in range(20):
        torch.ones(20 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(20 << 20)
    print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
if sys.argv[1] == "thread":
    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
else:
    fill()
"""
"""Page faults of 5 tensors of 80 MiB after 20 others."""


def faults(where: str, **environment: str) -> tuple[str, int]:
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, where],
        env={k: v for k, v in os.environ.items() if k not in (VARIABLE, *ENVIRONMENT)}
        | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    done, number = run.stdout.split()
    return done, int(number)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
@pytest.mark.parametrize(
    ("where", "environment"),
    [("main", {}), pytest.param("thread", ENVIRONMENT, marks=pytest.mark.slow)],
)
def test_freed_pages_are_used_again_unless_that_is_turned_off(
    where: str, environment: dict[str, str]
) -> None:
    kept, few = faults(where, **environment)
    off, many = faults(where, **environment, **{VARIABLE: "0"})
    assert (kept, off) == ("True", "False")
    # Pages may be huge ones.
    assert many >= 5 * 40
    assert few < many / 10
