from __future__ import annotations

import random

import numpy as np
import torch

from ckconv_sweep.training.seeding import generator

from .tiny import make_trial, run


def test_generators_differ_with_stream_seed_and_place_and_repeat_themselves() -> None:
    def draw(*of: object) -> tuple[float, ...]:
        return tuple(torch.rand(4, generator=generator(*of)).tolist())  # type: ignore[arg-type]

    cases = [("init", 0), ("init", 1), ("order", 0), ("order", 0, 1), ("order", 0, 2)]
    cases += [("order", 0, 12), ("order", 0, 1, 2), ("order", 1, 2), ("order", 2**63 - 1, 1)]
    assert len({draw(*case) for case in cases}) == len(cases)
    assert [draw(*case) for case in cases] == [draw(*case) for case in cases]


def test_training_leaves_the_three_global_random_states_alone() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    run(make_trial(model={"dropout": 0.3, "input_dropout": 0.2}))
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    assert np.array_equal(before[2][1], after[2][1])
    assert before[2][2:] == after[2][2:]


def test_training_does_not_look_at_the_global_random_states() -> None:
    trial = make_trial(model={"dropout": 0.3, "input_dropout": 0.2})
    losses = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            losses.append([e.metrics["train/loss"] for e in run(trial)[1]])
    assert losses[0] == losses[1]
