"""Which data a task holds, and how two differ."""

from dataclasses import replace

import pytest
import torch

from ckconv_sweep.config.data import Description
from ckconv_sweep.data.identity import check_same, difference
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.errors import DataChanged


def task(outputs=4, **changes):
    split = Split(torch.zeros(4, 1, 3), torch.arange(4))
    return SequenceTask(
        description=Description(name="made", in_channels=1, length=3, outputs=outputs),
        train=replace(split, **changes),
        validation=split,
        test_reader=lambda: pytest.fail("the test split stays shut"),
    )


ONE_VALUE = torch.zeros(4, 1, 3)
ONE_VALUE[3, 0, 2] = 1e-38
BEFORE = task().identity


@pytest.mark.parametrize(
    ("now", "first"),
    [
        (task(outputs=5), "classes: 4, now 5"),
        (task(inputs=torch.zeros(5, 1, 3), targets=torch.zeros(5)), "training sequences: 4, now 5"),
        (task(inputs=torch.zeros(4, 3, 1)), "training channels: 1, now 3"),
        (task(inputs=torch.zeros(4, 1, 2)), "training steps: 3, now 2"),
        (task(inputs=torch.zeros(4, 3, dtype=torch.int64)), "the training values differ"),
        (task(targets=torch.arange(4).flip(0)), "the training targets differ"),
        (task(inputs=torch.zeros(4, 1, 3, dtype=torch.float64)), "the training values differ"),
        (task(times=torch.zeros(4, 3)), "the training values differ"),
        (task(inputs=ONE_VALUE), "the training values differ"),
        (replace(task(), validation=task(inputs=ONE_VALUE).train), "the validation values differ"),
    ],
)
def test_any_change_is_told_by_the_first_difference_and_both_digests(now, first):
    digests = f"digest {BEFORE['digest']}, now {now.identity['digest']}"
    assert difference(BEFORE, now.identity) == f"{first}; {digests}"
    assert BEFORE["digest"] != now.identity["digest"]
    with pytest.raises(DataChanged, match="the data have changed"):
        check_same(BEFORE, now.identity, where="here", hint="")


def test_the_same_data_are_the_same_and_are_32_digits():
    assert difference(BEFORE, task().identity) == ""
    assert len(BEFORE["digest"]) == len(BEFORE["content"]) == 32


def test_only_what_is_known_is_compared():
    known = {"digest": BEFORE["digest"]}
    other = task(targets=torch.arange(4).flip(0)).identity
    assert difference(known, BEFORE) == difference({}, BEFORE) == ""
    assert difference(known, other) == f"digest {known['digest']}, now {other['digest']}"
