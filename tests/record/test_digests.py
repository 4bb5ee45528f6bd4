"""What is changed in a study after it was written, by whatever, is noticed."""

from __future__ import annotations

import sqlite3
from datetime import datetime

import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from ckconv_sweep.config.history import Go, Stop
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.rows import digest_of

from .small import SPACE, ask, epoch

pytestmark = pytest.mark.fault("changed-record")


@pytest.fixture
def ended(folder: SweepFolder) -> SweepFolder:
    """A study whose trials 0, 1 and 2 have ended, each in another way; trial 3 runs."""
    with folder.records.create(SPACE) as study:
        for number in range(4):
            ask(study, number)
            for i in (1, 2):
                verdict = Stop("0.25 is little") if (number, i) == (1, 2) else Go()
                study.add_epoch(number, epoch(i, i / 8), i / 8, verdict=verdict)
        study.end(0, "completed", reason="epochs")
        study.end(1, "pruned")
        study.end(2, "failed", reason="error", error="line 12: 12")
    return folder


def look(folder: SweepFolder) -> tuple[list[int], list[str]]:
    with folder.records.open() as study:
        return study.changed_trials(), study.contradictions()


def test_a_study_that_nobody_changed_is_believed(ended: SweepFolder) -> None:
    assert look(ended) == ([], [])


def test_it_is_believed_in_another_time_zone(
    ended: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        assert look(ended) == ([], [])
    finally:
        monkeypatch.undo()
        time.tzset()


EPOCH_2 = (
    "update trial_user_attributes set value_json = replace(value_json, {}) where trial_id = {}"
)
CHANGES = {
    "another metric": (EPOCH_2.format("'2.333', '2.334'", 1), 0),
    "a checkpoint's name": (EPOCH_2.format("'00002', '00003'", 2), 1),
    "a time": (EPOCH_2.format("'1700000000001', '1700000000011'", 3), 2),
    "the error": (EPOCH_2.format("'12: 12', '12: 13'", 3), 2),
    "why it was stopped": (EPOCH_2.format("'0.25', '0.35'", 2), 1),
    "a parameter": (
        "update trial_params set param_value = param_value * 1.5 where trial_id = 1 "
        "and param_name = 'model.dropout'",
        0,
    ),
    "a range": (
        "update trial_params set distribution_json = replace(distribution_json, '0.3', '0.4') "
        "where trial_id = 1",
        0,
    ),
    "a pruned trial's value": ("update trial_values set value = 0.5 where trial_id = 2", 1),
    "its outcome": ("update trials set state = 'FAIL' where trial_id = 1", 0),
    "when it ended": (
        "update trials set datetime_complete = datetime_start where trial_id = 1",
        0,
    ),
    "an epoch that never was": (
        "insert into trial_intermediate_values values (99, 3, 3, 0.5, 'FINITE')",
        2,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_an_ended_trial_is_told(change: str, ended: SweepFolder) -> None:
    statement, number = CHANGES[change]
    connection = sqlite3.connect(ended.records.path)
    assert connection.execute(statement).rowcount >= 1
    connection.commit()
    connection.close()
    changed, said = look(ended)
    assert changed == [number]
    assert f"trial {number}: its record was changed after it had ended" in said


def test_a_changed_bound_of_the_space_is_told(ended: SweepFolder) -> None:
    connection = sqlite3.connect(ended.records.path)
    connection.execute(
        "update study_user_attributes set value_json = replace(value_json, 'high: 0.3', "
        "'high: 0.9') where key = 'space'"
    )
    connection.commit()
    connection.close()
    assert look(ended) == ([], ["the space was changed since the driver wrote it"])


def test_equal_distributions_that_are_written_differently_have_other_digests() -> None:
    whole, real = (CategoricalDistribution(choices) for choices in ((1, 2), (1.0, 2.0)))
    assert whole == real
    digests = []
    for drawn in (whole, real, whole):
        trial = create_trial(state=TrialState.FAIL, params={"x": 1}, distributions={"x": drawn})
        trial.datetime_start = trial.datetime_complete = datetime(2026, 1, 1)
        digests.append(digest_of(trial))
    assert digests[0] == digests[2] != digests[1]
