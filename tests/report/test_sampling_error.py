from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from ckconv_sweep.config.read import parse_space, read_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.space_file import Repeats
from ckconv_sweep.report.sampling_error import in_words, scored_sequences, wilson

from .records import MAX, examples, record, space

IDENTITY = {"validation sequences": 288}


@examples
@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_interval_is_that_of_scipy(sequences: int, share: float) -> None:
    right = round(share * sequences)
    theirs = binomtest(right, sequences).proportion_ci(method="wilson")
    low, high = wilson(right / sequences, sequences)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= low <= right / sequences <= high <= 1


def test_the_trials_within_the_interval_of_the_best_are_counted() -> None:
    values = [0.98, 0.97, 0.955, 0.9]
    records = [record(i, [value]) for i, value in enumerate(values)]
    records += [record(4, [0.97], "pruned"), record(5, [], "failed", reason="error")]
    (said,) = in_words(records, space(), 288)
    assert said == (
        "val/accuracy 0.98 on 288 sequences: 95 % interval 0.9564 to 0.9909 (Wilson); 1 other "
        "completed trial lies in it"
    )
    (alone,) = in_words(records[:1], space(), 288)
    assert alone.endswith("; no other completed trial lies in it")


@pytest.mark.parametrize("sequences", [None, 0])
def test_where_the_number_of_sequences_is_not_known_nothing_is_said(sequences: Any) -> None:
    assert in_words([record(0, [0.5])], space(), sequences) == []
    assert in_words([record(0, [0.5], "pruned")], space(), 288) == []


def of_data(data: str, metric: str = MAX, search: str = "model.dropout") -> Space:
    return parse_space(
        f"""
trial:
  data: {data}
  model: {{hidden_channels: 8}}
  training: {{epochs: 9}}
  metric: {metric}
search:
  {search}: {{choices: [0.1, 0.2]}}
budget: {{trials: 4}}
""",
        "space.yaml",
    )


DIGITS = "{name: digits}"
NONE = {
    "a loss": of_data(DIGITS, "{name: val/loss, mode: min}"),
    "of training": of_data(DIGITS, "{name: train/accuracy}"),
    "steps of one sequence": read_space("ptb_characters"),
    "another split in each trial": of_data(DIGITS, search="data.validation_fraction"),
}


def test_a_share_of_right_answers_has_an_interval() -> None:
    assert scored_sequences(of_data(DIGITS), IDENTITY) == 288
    assert scored_sequences(of_data(DIGITS), {}) is None


@pytest.mark.parametrize("case", NONE)
def test_what_is_no_share_of_independent_sequences_has_none(case: str) -> None:
    assert scored_sequences(NONE[case], IDENTITY) is None


def test_a_mean_over_all_folds_is_of_all_sequences() -> None:
    cross_validated = replace(of_data(DIGITS), repeats=Repeats(folds=3))
    identity = {"validation sequences": 40, "training sequences": 80}
    sequences = scored_sequences(cross_validated, identity)
    assert sequences == 120
    assert scored_sequences(cross_validated, {"validation sequences": 40}) is None
    records = [record(i, [right / 40]) for i, right in enumerate([30, 36, 33])]
    records = [replace(r, repeat_of=0 if r.number else None) for r in records]
    (said,) = in_words(records, cross_validated, sequences)
    # Wilson's formula, written out for all right answers of all sequences.
    n, p, z = 120, (30 + 36 + 33) / 120, 1.959964
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert said.startswith(
        f"val/accuracy 0.825 on 120 sequences: 95 % interval {middle - half:.4g} to "
        f"{middle + half:.4g} (Wilson)"
    )
    assert in_words(records[:2], cross_validated, sequences) == []  # a mean over some of the folds
    by_seeds = replace(cross_validated, repeats=Repeats(seeds=3))
    assert scored_sequences(by_seeds, identity) == 40
