"""The words that are written to the study and to MLflow, and read from there."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Literal

Outcome = Literal["running", "completed", "pruned", "continued", "failed"]
"""What became of a trial. `completed`: it ran to its own end. `pruned`: the scheduler stopped it.
`continued`: the scheduler ended it, and another trial has its place, with other settings.
`failed`: it ended without a result, with a reason. `running`: none of these yet."""

REASON_CONSTRAINT = "constraint"
"""The reason of a trial that was drawn and rejected: it violates a constraint, or its settings do
not go together."""

REASON_CONTINUED = "continued"
"""The reason by which the study tells a continued trial from a pruned one: Optuna has one state for
both."""

REASON_STOPPED = "stopped"
"""The reason of a trial that a person stopped: pruned, or failed before its first epoch."""

EXPERIMENT = "ckconv-sweep"
"""The MLflow experiment, unless MLFLOW_EXPERIMENT_NAME says another."""

TAG_SWEEP = "sweep"
TAG_ROLE = "role"
ROLE_SWEEP, ROLE_TRIAL, ROLE_SINGLE = "sweep", "trial", "single"
ROLE_CONFIRM = "confirm"
"""Of a trial that trains a setting again with a fresh seed; the search does not see it."""
TAG_TRIAL = "trial"
TAG_REPEAT_OF = "repeat_of"
"""The trial whose setting a trial repeats with another seed."""
TAG_CONFIRMS = "confirms"
"""The trial whose setting it is, or `base`."""
TAG_SEED_INDEX = "seed_index"
"""Which of the fresh seeds it has, from 0."""
TAG_FROM = "from"
"""The trial and the epoch whose checkpoint a continuation begins with: `t017 epoch 8`."""
TAG_REPLACES = "replaces"
"""The trial whose place a continuation has."""
TAG_OUTCOME = "outcome"
TAG_REASON = "reason"
TAG_ERROR = "error"
TAG_VERDICT = "verdict"
"""What the stopping rule said when it stopped a trial."""
TAG_CHANGED = "changed"
"""What differs from the base trial."""
TAG_PARAMS = "ckconv.params"
"""What was drawn for a trial, as JSON: MLflow's own parameters are texts, and settings rather than
what the sampler chose."""
TAG_ORIGIN = "ckconv.origin"
"""By whom a trial was added, which one it tries again and with which changes, what it continues, as
JSON; only where there is something to say."""
TAG_VERSIONS = "versions"
"""Of ckconv-sweep and of the libraries that a trial's numbers depend on."""
TAG_COMMAND = "command"
"""What was typed to begin a sweep, without secrets."""
TAG_UID = "ckconv.uid"
"""32 hexadecimal digits by which a run is found again; the only thing that is searched for."""

TAG_CONFIRMED = "confirmed"
"""The trial whose setting a confirmation offers; of a tie the smallest."""
TAG_TIE = "confirmed.tie"
"""The trials whose settings cannot be told apart from the leader's, that included."""
TAG_OPENINGS, TAG_OPENING = "test.openings", "test.opening."
"""How often the test split was opened, and each opening by its number, as JSON."""

TAG_REJECTED = "ckconv.rejected"
"""How many points of a sweep's grid were rejected; they have no runs. Only where some were."""

TAG_FILES = "ckconv.files"
"""A digest of the files that a run was given last."""

TAG_MODEL_DIGEST = "ckconv.digest"
"""Of a version in MLflow's model registry: a digest of its files."""
ALIAS = "champion"
"""The alias of the newest version that a sweep handed over."""

ARTIFACT_SPACE = "space.yaml"
"""The file of a sweep's run that holds its space."""
ARTIFACT_TRIAL = "trial.yaml"
"""The file of a trial's run that holds all its settings."""

SUMMARY = "summary/"
"""How a metric begins that says something of a whole trial. It stands at step 0: MLflow draws one
bar a trial then, instead of scattered dots."""
SUMMARY_EPOCHS = f"{SUMMARY}epochs"
SUMMARY_PARAMETERS = f"{SUMMARY}parameters"
"""How many trained numbers the model has."""
SUMMARY_SHRINKAGE = f"{SUMMARY}shrinkage"
"""What the search said of its winner minus the mean over fresh seeds; above 0 where it was luck."""
LOG10 = "log10/"
"""How a metric begins that is the logarithm of a setting, for MLflow's charts."""


def best_of(metric: str) -> str:
    """The name under which the running best of a metric is tracked."""
    return f"{metric}_best"


def summary_of(metric: str) -> str:
    """The name of what a trial is judged by, once it has ended: `summary/val_accuracy`."""
    return f"{SUMMARY}{metric.replace('/', '_')}"


def log10_of(name: str) -> str:
    """The name of the logarithm of a setting that is searched on a logarithmic scale, which
    MLflow's charts do not have: `log10/omega_0`. A block's label, which is part of the setting's
    name, may be any text."""
    return f"{LOG10}{harmless(name)}"


_MOST_CHARACTERS = 240
"""Of a setting's name in MLflow, which takes 250 with what stands before it."""


def harmless(name: str) -> str:
    """A name that MLflow takes: the same where it takes that. Any other gets a digest, so that no
    two become one: `adam+warm.omega_0` -> `adam_warm.omega_0_DIGEST`."""
    kept = re.sub(r"[^\w.\- ]", "_", name)
    if kept == name and len(name) <= _MOST_CHARACTERS:
        return name
    digest = blake2b(name.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{kept[: _MOST_CHARACTERS - 9]}_{digest}"


def setting_name(confirms: int) -> str:
    """The setting that a trial trains again: `t004`, or `base` for the base trial (-1)."""
    return "base" if confirms < 0 else trial_name(confirms)


def trial_name(number: int) -> str:
    """Short, because it is the legend of every chart: `t004`. Its order as text is that of the
    numbers up to `t999` only, so sort by number."""
    return f"t{number:03d}"
