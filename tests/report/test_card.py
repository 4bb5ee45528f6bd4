"""A model card says nothing that its model does not do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.report.card import Card, text
from ckconv_sweep.report.handed_over import Winner
from tests.report.records import record, space

SPACE = space()
RECORD = record(0, [0.5, 0.75])
CARD = Card(
    name="mine",
    folder="mine-promoted",
    uid="u",
    space=SPACE,
    records=[RECORD],
    winner=Winner(record=RECORD, setting=None, confirmed=None),
    trial=SPACE.trial,
    parameters=1_000,
    description=Description(name="digits", in_channels=1, length=64, outputs=10),
    classes=tuple("0123456789"),
    normalised_by="the 1,293 training sequences of digits",
    takes_files=True,
    data={},
    versions={},
    openings=[],
)


def card(**described: Any) -> str:
    return text(replace(CARD, description=replace(CARD.description, **described)))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("classification", "Probabilities are a softmax"),
        ("per_step", "Probabilities are a softmax"),
        ("text", "Probabilities are a softmax"),
        ("binary", "Probabilities are the sigmoid of one output"),
        ("regression", None),
    ],
)
def test_probabilities_are_named_as_the_task_has_them(kind: str, said: str | None) -> None:
    found = [line for line in card(kind=kind).splitlines() if "robabilities" in line]
    if said is None:
        assert found == []
    else:
        assert sum(said in line for line in found) == 1


def test_a_model_whose_files_cannot_be_prepared_is_not_offered_any() -> None:
    with_files, without = text(CARD), text(replace(CARD, takes_files=False))
    assert 'load("mine-promoted")' in with_files
    assert "predict mine-promoted sequences.npy" in with_files
    assert "load(" not in without
    assert ".npy" not in without
    assert "ckconv-sweep predict mine-promoted validation" in without


def test_sequences_with_times_were_not_sampled_alike() -> None:
    data = {"name": "character_trajectories", "dropped_fraction": 0.3, "dropped_as": "times"}
    trial = Trial.model_validate(SPACE.trial.model_dump(mode="json") | {"data": data})
    assert "sampled alike" in text(CARD)
    timed = text(replace(CARD, trial=trial))
    assert "sampled alike" not in timed
    assert "each with the times of the steps that are there" in timed
