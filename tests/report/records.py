"""Spaces and trials' records to make tables of, without a study."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import settings

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.trials import TrialRecord

# HYPOTHESIS_EXAMPLES=5000 searches longer than `make test` has time for.
examples = settings(max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "60")), deadline=None)

_TEXT = """
trial:
  data: {{name: digits}}
  model: {{hidden_channels: 8}}
  training: {{epochs: 9}}
  metric: {metric}
search:
{search}
budget: {{trials: {trials}}}
"""

MAX = "{name: val/accuracy, mode: max, at: best}"
MIN = "{name: val/loss, mode: min, at: best}"
LEARNING_RATE = "  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}"
BLOCKS = """  model.hidden_channels: {low: 4, high: 64}
  model.dropout: {low: 0.0, high: 0.3}
  schedule:
    choices:
      plateau: {patience: {low: 5, high: 20}}
      cosine: {warmup_epochs: {choices: [0, 1, 2]}}"""


GRID = "  model.dropout: {choices: [0.0, 0.1, 0.2]}\n  model.norm: {choices: [layer, none]}"
"""Six points."""


def space(
    metric: str = MAX, search: str = LEARNING_RATE, trials: int = 4, sampler: str = "tpe"
) -> Space:
    text = _TEXT.format(metric=metric, search=search, trials=trials)
    return parse_space(f"{text}sampler: {{name: {sampler}}}\n", "space.yaml")


def record(
    number: int,
    values: Sequence[float] = (),
    outcome: Outcome = "completed",
    *,
    params: Mapping[str, Any] | None = None,
    reason: str = "",
    metric: str = "val/accuracy",
) -> TrialRecord:
    """A trial whose epochs had these values of the metric, each taking half a second."""
    history = tuple(
        Epoch(number=i, metrics={metric: value, "time/epoch_seconds": 0.5}, timestamp_ms=i)
        for i, value in enumerate(values, start=1)
    )
    return TrialRecord(
        number=number,
        outcome=outcome,
        params={"optimizer.learning_rate": 1e-3} if params is None else params,
        history=history,
        reason=reason,
        position=number,
    )
