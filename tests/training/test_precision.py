"""Trials in lower precision, from the first epoch to the last."""

from __future__ import annotations

import torch

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.trial import Precision, Trial
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.training.pack import Member, Pack

from .test_pack import to_the_end
from .tiny import equal, in_hex, make_trial, run


def _split(size: int, seed: int) -> Split:
    """Two classes that differ in the sign of their mean, long enough for an FFT."""
    targets = torch.arange(size) % 2
    draws = torch.randn(size, 1, 20, generator=torch.Generator().manual_seed(seed))
    return Split(draws + (2.0 * targets - 1.0)[:, None, None], targets)


TASK = SequenceTask(
    description=Description(name="signs", in_channels=1, length=20, outputs=2),
    train=_split(22, 1),
    validation=_split(10, 2),
    test_reader=lambda: _split(2, 3),
)


def trial_in(precision: Precision, seed: int = 0, weight_dropout: float = 0.0) -> Trial:
    training = {"precision": precision, "seed": seed}
    return make_trial(training=training, model={"weight_dropout": weight_dropout})


def test_in_bfloat16_members_train_as_alone() -> None:
    for weight_dropout in (0.0, 0.1):  # from the features of the kernel, and from its samples
        trials = [trial_in("bfloat16", seed, weight_dropout) for seed in range(3)]
        members = [Member.open(trial, TASK) for trial in trials]
        pack = Pack(TASK)
        for member in members:
            pack.join(member)
        to_the_end(pack)
        for trial, member in zip(trials, members, strict=True):
            model, epochs = run(trial, task=TASK)
            assert in_hex(epochs) == in_hex(member.history)
            assert equal(model, member.model())


def test_bfloat16_changes_what_a_trial_becomes_and_tf32_on_a_cpu_nothing() -> None:
    (plain, _), (same, _), (other, _) = (
        run(trial_in(precision), task=TASK) for precision in ("float32", "tf32", "bfloat16")
    )
    assert equal(plain, same)
    assert not equal(plain, other)
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.02)
