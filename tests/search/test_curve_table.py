"""The table of curves that comes with the package, and what is refused as one."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.config.metrics import PARAMETERS, SECONDS
from ckconv_sweep.config.read import read_space
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import DamagedData, UnknownNameError
from ckconv_sweep.models.parameters import parameters_of
from ckconv_sweep.record.trials import trial_of
from ckconv_sweep.search.curve_table import FOLDER, CurveTable, bundled, packed, read_table
from ckconv_sweep.training.pack import Member, Pack

ROOT = Path(__file__).parents[2]
DIGITS = FOLDER / "digits.json.gz"


@cache
def digits() -> CurveTable:
    return bundled("digits")


def test_the_table_has_400_settings_of_24_epochs_and_is_small() -> None:
    table = digits()
    assert [record.number for record in table.records] == list(range(400))
    assert {len(record.history) for record in table.records} == {24}
    assert len({str(record.params) for record in table.records}) == 400
    assert DIGITS.stat().st_size < 300_000
    assert "benchmarks/record_curves.py" in table.recorded


def test_the_table_was_drawn_from_the_space_of_the_benchmark() -> None:
    space = read_space(str(ROOT / "benchmarks" / "curves.yaml"))
    assert digits().space == space


def test_its_values_are_those_that_scores_of_digits_can_have() -> None:
    sequences = len(load(digits().space.trial.data).validation)
    best = []
    for record in digits().records:
        accuracies = [epoch.metrics["val/accuracy"] for epoch in record.history]
        right = [accuracy * sequences for accuracy in accuracies]
        assert right == pytest.approx(list(map(round, right)), abs=1e-3)
        assert all(0.0 < epoch.metrics["val/loss"] < 50.0 for epoch in record.history)
        assert all(0.005 < epoch.metrics[SECONDS] < 5.0 for epoch in record.history)
        # Of ten classes: an answer that is always the same scores a loss of ln 10.
        assert record.history[0].metrics["val/loss"] < 3 * math.log(10.0)
        best.append(max(accuracies))
    assert max(best) > 0.95
    assert min(best) < 0.4
    sizes = {record.history[0].metrics[PARAMETERS] for record in digits().records}
    assert max(sizes) <= 60_000


def test_a_setting_that_is_trained_again_begins_with_the_values_of_the_table() -> None:
    """The two smallest models of those with a low learning rate: with a high one, sums that
    another instruction set rounds otherwise lead elsewhere within an epoch."""
    table = digits()
    slow = [r for r in table.records if r.params["optimizer.learning_rate"] < 2e-4]
    cheapest = sorted(slow, key=lambda record: record.history[0].metrics[PARAMETERS])[:2]
    task = load(table.space.trial.data)
    for record in cheapest:
        trial = trial_of(record, table.space)
        assert record.history[0].metrics[PARAMETERS] == parameters_of(trial)
        member, pack = Member.open(trial, task), Pack(task)
        pack.join(member)
        for recorded in record.history[:2]:
            pack.epoch()
            metrics = member.keep().metrics
            assert metrics["val/loss"] == pytest.approx(recorded.metrics["val/loss"], rel=1e-3)
            assert metrics["val/accuracy"] == pytest.approx(
                recorded.metrics["val/accuracy"], abs=2.5 / len(task.validation)
            )


def test_what_is_packed_is_read_again_the_same(tmp_path: Path) -> None:
    content = json.loads(gzip.decompress(DIGITS.read_bytes()))
    table = digits()
    again = tmp_path / "digits.json.gz"
    again.write_bytes(packed(table.space, table.recorded, content["trials"]))
    assert read_table(again) == table


def test_a_table_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(UnknownNameError, match="no table of curves is called 'digit'") as refused:
        bundled("digit")
    assert "digits" in str(refused.value)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The table with two trials, one thing of it changed."""
    content = json.loads(gzip.decompress(DIGITS.read_bytes()))
    content["trials"] = content["trials"][:2]
    change(content)
    return gzip.compress(json.dumps(content).encode())


DAMAGED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "the first half": lambda: DIGITS.read_bytes()[: DIGITS.stat().st_size // 2],
    "a flipped bit": lambda: bytes(
        byte ^ (i == DIGITS.stat().st_size // 2) for i, byte in enumerate(DIGITS.read_bytes())
    ),
    "plain text": lambda: gzip.compress(b"a,b\n1,2\n"),
    "a list": lambda: gzip.compress(b"[]"),
    "no space": lambda: changed(lambda c: c.pop("space")),
    "no trials": lambda: changed(lambda c: c["trials"].clear()),
    "a space that is none": lambda: changed(lambda c: c.update(space="trial: digits")),
    "a value beyond its bounds": lambda: changed(
        lambda c: c["trials"][1]["val/accuracy"].__setitem__(3, 1.5)
    ),
    "not a number": lambda: changed(lambda c: c["trials"][1]["val/loss"].__setitem__(3, math.nan)),
    "an epoch too few": lambda: changed(lambda c: c["trials"][1]["val/loss"].pop()),
    "without its seconds": lambda: changed(lambda c: c["trials"][1].pop(SECONDS)),
    "a setting beyond its range": lambda: changed(
        lambda c: c["trials"][1]["params"].update({"optimizer.learning_rate": 7.0})
    ),
    "a setting too many": lambda: changed(
        lambda c: c["trials"][1]["params"].update({"model.norm": "layer"})
    ),
    "a setting too few": lambda: changed(
        lambda c: c["trials"][1]["params"].pop("optimizer.learning_rate")
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_table_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "digits.json.gz"
    path.write_bytes(DAMAGED[damage]())
    with pytest.raises(DamagedData, match=r"^digits\.json\.gz: this (is no )?table of curves"):
        read_table(path)
