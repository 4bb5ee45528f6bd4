"""Five losses that no change may move unnoticed.

After a change that is meant to move them: CKCONV_WRITE_GOLDEN=1 pytest tests/training, and say so
in the change log.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .tiny import make_task, make_trial, run

GOLDEN = Path(__file__).with_name("golden_losses.txt")


def test_a_fixed_seed_gives_the_losses_that_it_always_gave() -> None:
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
    lines = [
        f"{epoch.metrics['train/loss']:.7f} {epoch.metrics['val/loss']:.7f}"
        for epoch in run(trial, task=make_task(noise=1.5))[1]
    ]
    if os.environ.get("CKCONV_WRITE_GOLDEN"):
        GOLDEN.write_text("\n".join(lines) + "\n")
    golden = [float(word) for word in GOLDEN.read_text().split()]
    assert len(golden) == 10
    assert [float(w) for line in lines for w in line.split()] == pytest.approx(golden, abs=1e-5)
