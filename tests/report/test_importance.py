from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.importance import Importance, importances

from .made_up import NOTHING, made_up
from .records import record, space

THREE = """  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
  model.dropout: {low: 0.0, high: 0.5}
  model.hidden_channels: {low: 4, high: 64}"""


def planted(trials: int, seed: int = 0) -> tuple[list[TrialRecord], Space]:
    """0.8 of the variance is the learning rate's, 0.2 that of dropout, nothing that of channels."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(trials):
        u, v, w = rng.random(3)
        params = {
            "optimizer.learning_rate": float(10 ** (-4 + 2 * u)),
            "model.dropout": float(v / 2),
            "model.hidden_channels": int(4 + 60 * w),
        }
        records.append(record(number, [0.8**0.5 * u + 0.2**0.5 * v], params=params))
    return records, space(search=THREE)


def by_name(records: list[TrialRecord], of: Space, **options: int) -> dict[str, Importance]:
    return {one.setting: one for one in importances(records, of, **options).settings}


@pytest.mark.parametrize("seed", range(3))
def test_a_setting_that_matters_is_told_and_one_that_does_not_is_not(seed: int) -> None:
    found = by_name(*planted(80, seed), seed=seed, resamples=30)
    assert found["optimizer.learning_rate"].told
    assert not found["model.hidden_channels"].told
    assert found["optimizer.learning_rate"].low > found["model.hidden_channels"].high


def test_the_importance_is_the_share_of_the_variance_that_was_planted() -> None:
    found = by_name(*planted(600), resamples=20)
    assert found["optimizer.learning_rate"].median == pytest.approx(0.8, abs=0.1)
    assert found["model.dropout"].median == pytest.approx(0.2, abs=0.05)
    assert found["model.hidden_channels"].high < 0.02
    assert found["model.dropout"].explained > 0.9


def test_the_same_seed_gives_the_same_numbers_and_another_one_others() -> None:
    records, of = planted(30)
    assert importances(records, of, seed=1, resamples=5) == importances(
        records, of, seed=1, resamples=5
    )
    assert importances(records, of, seed=1, resamples=5) != importances(
        records, of, seed=2, resamples=5
    )


def test_the_most_important_setting_is_first() -> None:
    assert importances(*planted(80), resamples=5).top[0] == "optimizer.learning_rate"


def test_one_trial_that_diverged_changes_no_more_than_its_rank_does() -> None:
    """Also: nothing depends on more than the order of the values."""
    records, of = planted(40)

    def stretched(old: TrialRecord) -> TrialRecord:
        (epoch,) = old.history
        metrics = {"val/accuracy": float(np.exp(50 * epoch.metrics["val/accuracy"]))}
        return replace(old, history=(Epoch(number=1, metrics=metrics, timestamp_ms=1),))

    assert importances(list(map(stretched, records)), of, resamples=5) == importances(
        records, of, resamples=5
    )


@pytest.mark.parametrize("trials", [0, 1, 19])
def test_of_too_few_trials_nothing_is_told(trials: int) -> None:
    found = importances(*planted(trials))
    assert not any(one.enough or one.told for one in found.settings)
    assert found.words.startswith(f"{trials} completed trial")


def test_where_all_trials_are_equal_nothing_is_told() -> None:
    records = [replace(r, history=record(0, [0.5]).history) for r in planted(30)[0]]
    assert not any(one.enough for one in importances(records, space(search=THREE)).settings)


def test_of_a_setting_that_all_trials_have_alike_nothing_is_told() -> None:
    records, of = planted(40)
    alike = [replace(r, params={**r.params, "model.dropout": 0.1}) for r in records]
    found = by_name(alike, of, resamples=5)
    assert not found["model.dropout"].enough
    assert found["optimizer.learning_rate"].enough


def test_a_setting_of_a_block_is_compared_among_the_trials_that_have_it() -> None:
    sweep = made_up(60, epochs=3)
    found = by_name(list(sweep.records), sweep.space, resamples=5)
    name = "schedule.plateau.patience"
    having = [r for r in sweep.records if name in r.params]
    assert (found[name].trials, found[name].where) == (len(having), "schedule = plateau")
    assert found[NOTHING].trials == 60


def test_a_setting_of_a_block_that_few_chose_is_not_tried() -> None:
    sweep = made_up(60, epochs=3)
    few = [r for r in sweep.records if r.params["schedule"] == "plateau"][:5]
    others = [r for r in sweep.records if r.params["schedule"] != "plateau"]
    found = by_name(few + others, sweep.space, resamples=5)
    assert not found["schedule.plateau.patience"].enough
    assert found["schedule.plateau.patience"].trials == 5
    assert found["optimizer.learning_rate"].enough


@pytest.mark.parametrize("trials", [40, 120])
def test_where_few_trials_completed_all_are_compared_after_equal_training(trials: int) -> None:
    """Few: less than 20, or than were pruned."""
    records, of = planted(trials)

    def after_one_epoch(old: TrialRecord) -> TrialRecord:
        """Stopped after the epoch that others go on from, to any end."""
        (epoch,) = old.history
        more = Epoch(number=2, metrics={"val/accuracy": 500.0 - old.number}, timestamp_ms=2)
        goes_on = old.number % 4 == 0
        return replace(
            old,
            outcome="completed" if goes_on else "pruned",
            history=(epoch, more) if goes_on else (epoch,),
        )

    stopped = importances(list(map(after_one_epoch, records)), of, resamples=5)
    assert stopped.settings == importances(records, of, resamples=5).settings
    assert stopped.words == (
        f"{trials} trials, by val/accuracy after 1 epoch (only {trials // 4} completed)"
    )
