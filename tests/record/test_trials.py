"""Trials as plain values."""

from __future__ import annotations

import pytest

from ckconv_sweep.record.trials import listed


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        (1, "0"),
        (3, "0, 1, 2"),
        (4, "0, 1, 2 and 1 other"),
        (10_000, "0, 1, 2 and 9,997 others"),
    ],
)
def test_many_trials_are_a_few_numbers_and_how_many_others(trials: int, words: str) -> None:
    assert listed(range(trials), most=3) == words
