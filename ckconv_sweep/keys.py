"""The words that are written to the study and to MLflow, and read from there."""

from __future__ import annotations

from typing import Literal

Outcome = Literal["running", "completed", "pruned", "failed"]
"""What became of a trial. `completed`: it ran to its own end. `pruned`: the scheduler stopped it.
`failed`: it ended without a result, with a reason. `running`: none of these yet."""

REASON_CONSTRAINT = "constraint"
"""The reason of a trial that was drawn, violated a constraint and was never trained."""

EXPERIMENT = "ckconv-sweep"
"""The MLflow experiment, unless MLFLOW_EXPERIMENT_NAME says another."""

TAG_SWEEP = "sweep"
TAG_ROLE = "role"
ROLE_SWEEP, ROLE_TRIAL, ROLE_SINGLE = "sweep", "trial", "single"
TAG_TRIAL = "trial"
TAG_OUTCOME = "outcome"
TAG_REASON = "reason"
TAG_ERROR = "error"
TAG_CHANGED = "changed"
"""What differs from the base trial."""
TAG_UID = "ckconv.uid"
"""32 hexadecimal digits by which a run is found again; the only thing that is searched for."""


def best_of(metric: str) -> str:
    """The name under which the running best of a metric is tracked."""
    return f"{metric}_best"


def trial_name(number: int) -> str:
    """Short and sorted as text, because it is the legend of every chart: `t004`."""
    return f"t{number:03d}"
