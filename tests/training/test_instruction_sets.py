"""The numerical tests with other instructions than this processor's best.

Longer than `make test` may take: some minutes each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
NUMERICAL = ["tests/models"] + [
    f"tests/training/test_{name}.py"
    for name in ("every_task", "golden_losses", "objectives", "operations", "optimizers", "pack")
    + ("resume",)
]
RUN = """
import sys, pytest, torch
print(torch.backends.cpu.get_cpu_capability())
sys.exit(pytest.main(sys.argv[1:]))
"""
OLDER = {"AVX2": ["default"], "AVX512": ["default", "avx2"]}
"""Of x86 processors, by what PyTorch calls their instructions."""
HERE = torch.backends.cpu.get_cpu_capability()


def numerical_tests_with(**switch: str) -> list[str]:
    """The lines that they print."""
    command = [sys.executable, "-c", RUN, "-q", "-m", "", "-p", "no:cacheprovider", *NUMERICAL]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | switch, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-1000:]
    return ended.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.fault("other-processor")
@pytest.mark.parametrize("instructions", ["default", "avx2"])
def test_the_numerical_tests_pass_with_the_instructions_of_an_older_processor(
    instructions: str,
) -> None:
    if instructions not in OLDER.get(HERE, []):
        pytest.skip(f"this processor has {HERE}")
    used, *_ = numerical_tests_with(ATEN_CPU_CAPABILITY=instructions)
    assert used == instructions.upper()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("switch", [{"MKL_CBWR": "COMPATIBLE"}, {"ONEDNN_MAX_CPU_ISA": "SSE41"}])
def test_the_numerical_tests_pass_with_older_instructions_of_mkl_and_onednn(
    switch: dict[str, str],
) -> None:
    numerical_tests_with(**switch)
