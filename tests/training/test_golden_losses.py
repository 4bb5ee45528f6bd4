"""Ten losses that no change may move unnoticed.

They are computed in float64: rounding, which differs among processors, moves them by some 1e-12
(in float32 by up to 3e-3, since Adam divides gradients that are zero by their own rounding).

After a change that is meant to move them: CKCONV_WRITE_GOLDEN=1 pytest tests/training, and say so
in the change log.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .tiny import make_task, make_trial, run

GOLDEN = Path(__file__).with_name("golden_losses.txt")


@pytest.fixture
def in_float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.fault("other-processor")
@pytest.mark.usefixtures("in_float64")
def test_a_fixed_seed_gives_the_losses_that_it_always_gave_on_any_processor() -> None:
    trial = make_trial(
        model={
            "hidden_channels": 4,
            "blocks": 2,
            "dropout": 0.2,
            "input_dropout": 0.1,
            "kernel": {"hidden_channels": 6, "layers": 3},
        },
        optimizer={"name": "adamw", "learning_rate": 0.01},
        schedule={"name": "cosine", "warmup_epochs": 1},
        training={"epochs": 5, "kernel_penalty": 1e-3, "clip_norm": 1.0},
    )
    model, epochs = run(trial, task=make_task(noise=1.5))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    lines = [f"{e.metrics['train/loss']:.12f} {e.metrics['val/loss']:.12f}" for e in epochs]
    if os.environ.get("CKCONV_WRITE_GOLDEN"):
        GOLDEN.write_text("\n".join(lines) + "\n")
    golden = [float(word) for word in GOLDEN.read_text().split()]
    assert len(golden) == 10
    assert [float(w) for line in lines for w in line.split()] == pytest.approx(golden, abs=1e-8)
