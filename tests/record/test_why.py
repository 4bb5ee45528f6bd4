"""The sentence that says why a trial ended as it did."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from search.test_rules_contract import soonest
from sweep.in_process import formula, machine, make_space

from ckconv_sweep.config.history import Continue, Epoch, Go, Stop
from ckconv_sweep.config.stopping import RULES
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.trials import TrialRecord, trial_of
from ckconv_sweep.record.why import last_line, why

SPACE = make_space(epochs=9, training=", early_stopping_epochs: 3")
LAST = replace(
    SPACE,
    trial=SPACE.trial.model_copy(update={"metric": SPACE.metric.model_copy(update={"at": "last"})}),
)


def record(outcome: Outcome, *accuracies: float, **more: Any) -> TrialRecord:
    history = tuple(
        Epoch(number=number, metrics={"val/accuracy": accuracy}, timestamp_ms=number)
        for number, accuracy in enumerate(accuracies, start=1)
    )
    return TrialRecord(number=17, outcome=outcome, params={}, history=history, **more)


ASHA = Stop("asha, epoch 2: 0.71; of the 12 trials that reached this epoch the best 4 had 0.78")

PBT = Continue(
    3,
    2,
    "pbt, epoch 2: 0.71, the worst one of the 6 trials that reached this epoch; t003 had 0.9",
)


@pytest.mark.parametrize(
    ("trial", "sentence"),
    [
        (
            record("pruned", 0.5, 0.71, verdict=ASHA),
            "stopped at epoch 2 of 9 by asha on val/accuracy: 0.71; of the 12 trials that reached "
            "this epoch the best 4 had 0.78",
        ),
        (  # the driver was killed before it obeyed
            record("running", 0.5, 0.71, verdict=ASHA),
            "stopped at epoch 2 of 9 by asha on val/accuracy: 0.71; of the 12 trials that reached "
            "this epoch the best 4 had 0.78",
        ),
        (
            record("pruned", 0.5, verdict=Stop("t003, whose setting it repeats, was pruned")),
            "stopped at epoch 1 of 9: t003, whose setting it repeats, was pruned",
        ),
        (  # of a study that an early version wrote, or of a run of MLflow
            record("pruned", 0.5, 0.6),
            "pruned after epoch 2 of 9; its record does not say why",
        ),
        (
            record("pruned", 0.5, 0.6, reason="stopped", verdict=Go()),
            "stopped by hand after epoch 2 of 9",
        ),
        (
            record("continued", 0.5, 0.71, verdict=PBT),
            "ended at epoch 2 of 9 by pbt on val/accuracy at epoch 2: 0.71, the worst one of the 6 "
            "trials that reached this epoch; t003 had 0.9; replaced by a continuation "
            "of t003",
        ),
        (record("failed", reason="stopped"), "stopped by hand before its first epoch"),
        (
            record("failed", 0.5, reason="error", error="Traceback:\n  File\nKeyError: 'x'\n"),
            "failed after 1 of 9 epochs (error): KeyError: 'x'",
        ),
        (record("failed"), "failed after 0 of 9 epochs (unknown): (no message)"),
        (
            record("failed", reason="constraint", error="model.parameters <= 9 does not hold: 12"),
            "rejected before training, outside the budget: model.parameters <= 9 does not hold: 12",
        ),
        (
            record("completed", *[0.5, 0.625], *[0.6] * 3, reason="early_stopping"),
            "completed at epoch 5 of 9 by its own early stopping: val/accuracy had not improved "
            "since epoch 2 (training.early_stopping_epochs is 3); best val/accuracy 0.625 at "
            "epoch 2",
        ),
        (
            record("completed", *[n / 16 for n in range(9)], reason="epochs"),
            "completed all its 9 epochs; best val/accuracy 0.5 at epoch 9",
        ),
        (record("running"), "has ended none of its 9 epochs yet"),
        (
            record("running", 0.5, 0.25, verdict=Go()),
            "has ended 2 of 9 epochs so far; best val/accuracy 0.5 at epoch 1",
        ),
    ],
)
def test_each_end_has_its_sentence(trial: TrialRecord, sentence: str) -> None:
    assert why(trial, SPACE.trial) == sentence


def test_a_metric_that_counts_at_the_last_epoch_is_told_there() -> None:
    ran = record("completed", *[n / 16 for n in range(8)], 0.25)
    assert why(ran, LAST.trial).endswith("; last val/accuracy 0.25 at epoch 9")


def test_a_very_long_last_line_is_cut_off() -> None:
    assert last_line("a\n" + "b" * 399 + "\n\n") == "b" * 399
    assert last_line("b" * 5000) == "b" * 400 + "…"


def falling(trial: Trial, number: int) -> Epoch:
    """Epochs of a trial that gets worse, so that a rule that is patient ends it, too."""
    epoch = formula(trial, 1)
    accuracy = epoch.metrics["val/accuracy"] - 0.001 * number
    return replace(epoch, number=number, metrics={**epoch.metrics, "val/accuracy": accuracy})


@pytest.mark.parametrize("name", [name for name in RULES if name not in ("none", "pbt")])
def test_what_any_rule_writes_becomes_a_sentence_that_names_the_rule(name: str, disk: Path) -> None:
    rule = soonest(name).model_dump()
    if "bound" in rule:
        rule["bound"] = 0.7
    space = make_space(scheduler=json.dumps(rule), trials=12, epochs=6)
    one = machine(disk, space, work=falling, concurrency=1)
    assert one.run()
    pruned = [r for r in one.records() if r.outcome == "pruned"]
    assert pruned
    for found in pruned:
        begins = f"stopped at epoch {len(found.history)} of 6 by {name} on val/accuracy: "
        assert why(found, trial_of(found, space)).startswith(begins)
