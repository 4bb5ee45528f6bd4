"""How far a share of right answers may lie from that on infinitely many sequences of its kind.

Validation splits are small: of 288 images an accuracy of 0.98 is known to a percent or two. The
interval is Wilson's (1927, J. Am. Stat. Assoc. 22), which stays within 0 and 1; Brown, Cai and
DasGupta (2001, Stat. Sci. 16) recommend it. It says nothing of the choice of seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ckconv_sweep.config.metrics import METRICS
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.seeds import by_setting
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.summary import winner

_Z = 1.959963984540054
"""Between it and its negative lie 95 % of a normal distribution."""


def wilson(share: float, sequences: int) -> tuple[float, float]:
    """The 95 % interval of a share (0 to 1) of a number of independent sequences."""
    square = _Z * _Z / sequences
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / sequences + square / (4 * sequences)) / (1 + square)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # rounding


def right_in_words(right: int, sequences: int) -> str:
    """`318 of 360 right (95 % interval 0.8461 to 0.9125, Wilson)`."""
    low, high = wilson(right / sequences, sequences)
    return f"{right:,} of {sequences:,} right (95 % interval {low:.4f} to {high:.4f}, Wilson)"


def scored_sequences(space: Space, identity: Mapping[str, Any]) -> int | None:
    """Of how many independent validation sequences the primary metric is the share of right
    answers: with folds of all, each of which is held out once. None where it is no such share, or
    not all trials have the same data.

    Args:
        identity: of the data, as in `record.trained_data.noted`.
    """
    metric, kind = space.metric.name, space.trial.data.kind
    share = METRICS[metric].given == "right" and metric.startswith("val/")
    if not share or kind not in ("classification", "binary"):  # steps of one sequence are not
        return None
    if any(name.startswith("data") for name in space.parameters()):
        return None
    held_out, others = (identity.get(f"{split} sequences") for split in ("validation", "training"))
    if space.repeats is None or space.repeats.folds is None:
        return held_out
    return None if held_out is None or others is None else held_out + others


def interval_of(
    record: TrialRecord | None, space: Space, sequences: int | None
) -> tuple[float, float] | None:
    """The 95 % interval of a trial, or of a setting's mean. None where it is not known on how many
    sequences that was reached (`scored_sequences`), as of a mean over some of the folds."""
    if record is None or not sequences:
        return None
    if space.repeats is not None and space.repeats.folds is not None and record.lacks:
        return None
    return wilson(record.value(space.metric), sequences)


def in_words(records: Sequence[TrialRecord], space: Space, sequences: int | None) -> list[str]:
    """The interval of the best trial, and how many others lie in it; nothing where it is not
    known."""
    best = winner(records, space)
    interval = interval_of(best, space, sequences)
    if best is None or interval is None:
        return []
    value, (low, high) = best.value(space.metric), interval
    others = sum(
        record.value(space.metric) >= low
        for record in by_setting(records, space)
        if record.outcome == "completed" and record.number != best.number
    )
    trials = f"{others} other completed {'trial lies' if others == 1 else 'trials lie'} in it"
    return [
        f"{space.metric.name} {value:.4g} on {sequences} sequences: 95 % interval {low:.4g} to "
        f"{high:.4g} (Wilson); {trials if others else 'no other completed trial lies in it'}"
    ]
