from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from ckconv_sweep.record.confirmation import Opening, add_openings
from ckconv_sweep.record.trials import BASE
from ckconv_sweep.report.confirmed import sentences
from ckconv_sweep.search.confirmed import confirmed, confirmed_in
from ckconv_sweep.sweep.delivery import deliver
from ckconv_sweep.tracking.store import default_uri
from tests.report.confirmations import confirmed_study, found_in
from tests.report.made_up import made_up, recorded
from tests.report.records import MIN, space

CLOSE = {0: [0.90, 0.92, 0.91], 1: [0.91, 0.91, 0.92], 2: [0.50, 0.51, 0.52]}
"""The first two cannot be told apart, and the third is worse."""


def test_a_sweep_without_a_confirmation_says_nothing_of_one(tmp_path):
    from ckconv_sweep.record.folder import SweepFolder

    folder, made = SweepFolder.of(tmp_path, "made"), made_up(3)
    recorded(folder, made.records, made.space)
    with folder.records.open() as study:
        assert confirmed(study, lambda _: 1) is None


def test_models_are_counted_with_the_data_where_they_lay_in_the_last_session(tmp_path, monkeypatch):
    folder, asked = confirmed_study(tmp_path, [0.95], {0: [0.9] * 3}, seeds=3), set()
    monkeypatch.setattr(
        "ckconv_sweep.models.parameters.parameters_of",
        lambda trial, data_dir=None: asked.add(data_dir) or 1,
    )
    with folder.records.open_for_writing() as study:
        confirmed_in(study)
        study.set_note("options", {"data_dir": "/data"})
        confirmed_in(study)
        confirmed_in(study, Path("/given"))
    tracker = Mock(side_effect=InterruptedError)
    monkeypatch.setattr("ckconv_sweep.sweep.delivery.tracker_of", tracker)
    with pytest.raises(InterruptedError):
        deliver(folder, default_uri(tmp_path))
    assert tracker.call_args.args[-1].keywords == {"data_dir": Path("/data")}
    assert asked == {None, Path("/data"), Path("/given")}


def test_settings_stand_by_the_mean_of_their_seeds_not_by_what_the_search_said(tmp_path):
    found = found_in(confirmed_study(tmp_path, [0.95, 0.93, 0.99], CLOSE, seeds=3))
    assert [setting.number for setting in found.settings] == [1, 0, 2]
    assert found.leader is not None
    assert found.leader.number == 1
    assert found.plan.settings == (2, 0, 1)


@pytest.mark.parametrize(
    ("took", "offered", "why"),
    [(0.81, 1, "has the best mean of them (7 parameters)"), (0.79, 0, "is the fastest of them (7")],
)
def test_of_equally_small_ones_the_fastest_is_offered_only_if_it_is_faster_by_a_fifth(
    tmp_path, took: float, offered: int, why: str
):
    folder = confirmed_study(tmp_path, [0.95, 0.93, 0.99], CLOSE, seconds={0: took}, seeds=3)
    found = found_in(folder, {0: 7, 1: 7, 2: 7, BASE: 7})
    assert [setting.number for setting in found.tie] == [1, 0]
    assert found.offered is not None
    assert found.offered.number == offered
    assert any(why in sentence for sentence in sentences(found))


def test_of_a_tie_the_smallest_is_offered_also_if_it_is_slower(tmp_path):
    folder = confirmed_study(tmp_path, [0.95, 0.93, 0.99], CLOSE, seconds={0: 2.0}, seeds=3)
    found = found_in(folder)
    assert [setting.number for setting in found.tie] == [1, 0]
    assert found.offered is not None
    assert found.offered.number == 0
    assert found.offered.parameters == 5_000
    assert found.offered.seconds == 2.0


def test_a_setting_that_is_worse_in_every_seed_is_told_apart(tmp_path):
    found = found_in(confirmed_study(tmp_path, [0.95, 0.93, 0.99], CLOSE, seeds=3))
    worst = found.settings[-1]
    assert not worst.tied
    assert worst.difference is not None
    assert worst.difference.high < 0


def test_shrinkage_is_what_the_search_said_minus_what_fresh_seeds_say(tmp_path):
    found = found_in(confirmed_study(tmp_path, [0.95, 0.93, 0.99], CLOSE, seeds=3))
    assert found.shrinkage is not None  # of trial 2, which the search ranked first
    assert found.shrinkage.mean == pytest.approx(0.99 - 0.51)
    assert found.shrinkage.low < found.shrinkage.mean < found.shrinkage.high


def test_where_lower_is_better_shrinkage_is_positive_for_a_loss_that_was_luck(tmp_path):
    folder = confirmed_study(
        tmp_path,
        [0.10, 0.20],
        {0: [0.30, 0.31, 0.35], 1: [0.21, 0.22, 0.20]},
        space=space(MIN, trials=2),
        seeds=3,
    )
    found = found_in(folder)
    assert found.leader is not None
    assert found.leader.number == 1
    assert found.shrinkage is not None
    assert found.shrinkage.mean == pytest.approx(0.32 - 0.10)
    assert found.shrinkage.low < found.shrinkage.high


def test_a_setting_that_lost_a_seed_is_judged_by_the_others_and_offered_only_without_another(
    tmp_path,
):
    reached = {0: [0.90, 0.92, None, 0.91], 1: [0.91, 0.91, 0.92, 0.90]}
    found = found_in(confirmed_study(tmp_path / "a", [0.95, 0.93], reached, seeds=4))
    assert found.finished is False  # the base trial has none
    assert [setting.number for setting in found.tie] == [0, 1]
    assert found.offered is not None
    assert found.offered.number == 1
    alone = confirmed_study(tmp_path / "b", [0.95], {0: reached[0]}, seeds=4, control=None)
    found = found_in(alone)
    assert found.finished
    assert found.offered is not None
    assert found.offered.number == 0
    assert [record.seed_index for record in found.offered.lost] == [2]


def test_the_winner_stays_what_the_test_split_was_opened_for(tmp_path):
    folder = confirmed_study(tmp_path, [0.95, 0.93, 0.99], CLOSE, seeds=3)
    before = found_in(folder)
    assert before.offered is not None
    assert before.offered.number == 0
    with folder.records.open_for_writing() as study:
        add_openings(
            study, Opening(scores={"test/loss": 1.0}, trials=[4], confirms=1, by="confirm")
        )
    found = found_in(folder)
    assert found.offered is not None
    assert (found.offered.number, found.winner) == (1, 1)
    told = "t001 is the winner: that was fixed when the test split was opened"
    assert told in sentences(found)


def test_a_setting_that_is_worse_in_every_common_seed_does_not_lead_by_the_seeds_it_lost(tmp_path):
    reached = {
        0: [0.95, 0.95, 0.94, None, None],
        1: [0.96, 0.96, 0.951, 0.80, 0.80],
    }
    found = found_in(confirmed_study(tmp_path, [0.95, 0.93], reached, control=None))
    assert found.finished
    assert found.leader is not None
    assert found.leader.number == 1
    assert [setting.number for setting in found.settings] == [1, 0]
    assert [setting.number for setting in found.tie] == [1]


def test_a_base_trial_that_lost_a_seed_is_named(tmp_path):
    reached = {**CLOSE, BASE: [0.5, None, 0.6]}
    found = found_in(confirmed_study(tmp_path, [0.95, 0.93, 0.99], reached, seeds=3))
    assert any("base: seed 1 did not complete (nonfinite)" in told for told in sentences(found))


def test_seeds_that_were_trained_on_other_data_are_named(tmp_path):
    folder = confirmed_study(
        tmp_path,
        [0.95, 0.93, 0.99],
        CLOSE,
        seeds=3,
        data=lambda index: "old" if not index else "new",
    )
    found = found_in(folder)
    (told,) = [told for told in sentences(found) if "other data" in told]
    assert told.startswith("trained on other data than the newest trials: 3, 4, 5 (digest old)")


def test_before_three_seeds_nothing_leads_and_nothing_is_offered(tmp_path):
    found = found_in(confirmed_study(tmp_path, [0.95, 0.93], {0: [0.9, 0.9], 1: [0.8]}))
    assert found.leader is None
    assert found.offered is None
    assert found.tie == ()
    assert [setting.number for setting in found.settings] == [0, 1]


def test_the_base_trial_is_compared_in_pairs_with_what_is_offered(tmp_path):
    reached = {0: [0.90, 0.92, 0.91], BASE: [0.80, 0.83, 0.81]}
    found = found_in(confirmed_study(tmp_path, [0.95], reached, seeds=3))
    assert found.control is not None
    assert found.control.number == BASE
    assert found.versus_base is not None
    assert found.versus_base.mean == pytest.approx((0.10 + 0.09 + 0.10) / 3)
    assert found.finished


def test_a_base_trial_among_the_settings_is_one_of_them(tmp_path):
    found = found_in(confirmed_study(tmp_path, [0.95, 0.93, 0.99], CLOSE, seeds=3, control=2))
    assert found.control is found.settings[-1]
    assert found.versus_base is not None
    assert found.versus_base.low > 0


def test_a_model_whose_size_needs_absent_data_has_none(tmp_path):
    from ckconv_sweep.errors import ConfigError

    def count(_: object) -> int:
        raise ConfigError("not here")

    folder = confirmed_study(tmp_path, [0.95], {0: [0.9, 0.9, 0.8]}, seeds=3, control=None)
    with folder.records.open() as study:
        found = confirmed(study, count)
    assert found is not None
    assert found.settings[0].parameters is None
    assert found.offered is not None


def test_two_settings_with_the_same_mean_are_said_to_be_equal(tmp_path):
    reached = {0: [0.1, 0.2, 0.6], BASE: [0.2, 0.6, 0.1]}
    found = found_in(confirmed_study(tmp_path, [0.95], reached, seeds=3))
    assert found.versus_base is not None
    assert 0.0 < abs(found.versus_base.mean) < 1e-15
    told = "t000 cannot be told apart from the base trial: their means are equal (-1.1"
    assert any(sentence.startswith(told) for sentence in sentences(found))


def test_a_single_setting_that_is_the_base_trials_is_compared_with_nothing(tmp_path):
    found = found_in(confirmed_study(tmp_path, [0.95], {0: [0.9, 0.92, 0.91]}, seeds=3, control=0))
    told = [*sentences(found)]
    assert told[0] == "t000 is the only setting that was confirmed"
    assert (
        told[1] == "t000 has the settings of the base trial: there is no other to compare it with"
    )
    assert found.versus_base is None


def test_a_single_setting_is_compared_with_the_base_trial(tmp_path):
    reached = {0: [0.9, 0.92, 0.91], BASE: [0.5, 0.52, 0.51]}
    told = [*sentences(found_in(confirmed_study(tmp_path, [0.95], reached, seeds=3)))]
    assert told[0] == "t000 is the only setting that was confirmed"
    assert told[1].startswith("t000 is better than the base trial by 0.4000")
