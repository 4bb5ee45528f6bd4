"""Settings that are trained with several seeds: each seed is a trial, a setting is judged by the
mean, and neither sampler nor ranking sees the luckiest one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from optuna.trial import TrialState

from ckconv_sweep.config.data import HeldOut
from ckconv_sweep.config.grid import most_trials
from ckconv_sweep.config.history import Epoch, Stop
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.budget import asked, is_finished
from ckconv_sweep.record.seeds import Repeated, as_seen, by_setting
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.leaderboard import all_columns, leaderboard
from ckconv_sweep.report.summary import summarize, ties_in_words, winner
from ckconv_sweep.search.intervals import interval_of_mean
from ckconv_sweep.search.view import View
from ckconv_sweep.sweep.coordinator import Coordinator

from .in_process import Machine, machine, make_space, with_trials

ASHA = "{name: asha, grace_epochs: 1, reduction_factor: 2}"


def origins(records: list[TrialRecord]) -> list[tuple[int | None, int | None]]:
    return [(record.position, record.repeat_of) for record in records]


def test_each_setting_is_trained_with_each_seed_and_the_sampler_draws_what_it_would_have_drawn(
    disk: Path,
) -> None:
    one = machine(disk / "one", make_space(trials=3, repeats="{seeds: 3}"))
    alone = machine(disk / "alone", make_space(trials=3))
    assert one.run()
    assert alone.run()
    records = one.records()
    assert origins(records) == [
        *((0, None), (None, 0), (None, 0)),
        *((1, None), (None, 3), (None, 3)),
        *((2, None), (None, 6), (None, 6)),
    ]
    for record in records:
        if record.repeat_of is not None:
            assert record.params == records[record.repeat_of].params
    assert [r.params for r in records if r.repeat_of is None] == [r.params for r in alone.records()]
    seeds = [one.space.resolve(r.params, r.number).training.seed for r in records]
    assert seeds == list(range(5, 14))
    assert is_finished(records, one.space)
    assert asked(records, one.space) == most_trials(one.space) == 9


def test_the_best_settings_alone_are_trained_with_further_seeds_when_all_have_ended(
    disk: Path,
) -> None:
    one = machine(disk, make_space(trials=5, repeats="{seeds: 3, top: 2}"))
    assert one.run()
    records = one.records()
    first = sorted(records[:5], key=lambda r: -r.value(one.space.metric))
    best = [first[0].number] * 2 + [first[1].number] * 2
    assert [r.repeat_of for r in records] == [None] * 5 + best
    ended = max(r.ended_ms or 0 for r in records[:5])
    assert all(r.started_ms >= ended for r in records[5:])
    assert is_finished(records, one.space)
    assert not is_finished(records[:-1], one.space)
    one.space = with_trials(one.space, 8)  # what was repeated is not repeated again
    assert one.run()
    counts = Counter(r.repeat_of for r in one.records() if r.repeat_of is not None)
    assert set(counts.values()) == {2}
    assert sum(r.is_of_budget for r in one.records()) == 8


@pytest.mark.parametrize(
    ("repeats", "sampler"), [("{seeds: 2}", "tpe"), ("{seeds: 2, top: 1}", "grid")]
)
def test_a_kill_at_any_write_neither_forgets_nor_doubles_a_seed(
    repeats: str, sampler: str, disk: Path
) -> None:
    space = make_space(trials=2, epochs=2, repeats=repeats, sampler=sampler, scheduler=ASHA)
    one = machine(disk / "one", space, concurrency=1)
    photographs = one.run_and_photograph(disk / "killed")
    expected = [(r.number, r.repeat_of, r.params, r.outcome) for r in one.records()]
    assert len(photographs) > 10
    for photograph in photographs:
        assert photograph.run()
        found = [(r.number, r.repeat_of, r.params, r.outcome) for r in photograph.records()]
        assert found == expected


def lucky(trial: Trial, number: int) -> Epoch:
    """Good with one seed only: the first one of the first setting, which is 5."""
    accuracy = 0.99 if trial.training.seed == 5 else 0.5 + 0.01 * (trial.training.seed % 7)
    metrics = {"val/accuracy": accuracy, "val/loss": 1 - accuracy, "time/epoch_seconds": 2.0}
    return Epoch(number=number, metrics=metrics, timestamp_ms=number)


def test_a_setting_is_ranked_by_its_mean_and_not_by_its_luckiest_seed(disk: Path) -> None:
    space = make_space(trials=3, epochs=1, repeats="{seeds: 3}")
    one = machine(disk, space, work=lucky)
    assert one.run()
    records, metric = one.records(), space.metric
    means = {
        first: mean(r.value(metric) for r in records[first : first + 3]) for first in (0, 3, 6)
    }
    best = max(means, key=lambda first: means[first])
    won = winner(records, space)
    assert won is not None
    assert won.number == best
    assert won.value(metric) == pytest.approx(means[best])
    table = leaderboard(records, space)
    assert list(table["trial"]) == sorted(means, key=lambda first: -means[first])
    assert list(table["val/accuracy"]) == pytest.approx(sorted(means.values(), reverse=True))
    assert list(table["repeats"]) == ["3 of 3"] * 3
    scores = [r.value(metric) for r in records[best : best + 3]]
    low, high = interval_of_mean(scores, metric)
    assert (table["95 % low"][0], table["95 % high"][0]) == pytest.approx((low, high))
    assert list(table["epochs"]) == [3] * 3
    assert list(table["seconds"]) == [6.0] * 3
    summary = summarize("one", records, space, held=False)
    assert (summary.best_trial, summary.best_value) == (best, pytest.approx(means[best]))
    each = all_columns(records, space, each=True)
    assert each["trial"][0] == 0  # the lucky one
    assert len(each) == 9
    assert set(each["repeat of"].dropna()) == {0, 3, 6}


def test_a_setting_that_lacks_seeds_ranks_after_those_that_have_all_and_says_so(
    disk: Path,
) -> None:
    space = make_space(trials=3, epochs=1, repeats="{seeds: 2}")
    one = machine(disk, space, work=lucky, fails=lambda number, _: "error" * (number == 1) or None)
    assert one.run()
    table = leaderboard(one.records(), space)
    assert table["trial"][2] == 0
    assert table["val/accuracy"][2] == 0.99 > max(table["val/accuracy"][:2])
    assert list(table["repeats"]) == ["2 of 2", "2 of 2", "1 of 2"]


def test_a_rule_prunes_settings_and_no_repeat_by_itself(disk: Path) -> None:
    space = make_space(trials=6, epochs=4, repeats="{seeds: 3}", scheduler=ASHA)
    one = machine(disk, space)
    assert one.run()
    records = one.records()
    assert sum(record.is_of_budget for record in records) == 6
    pruned = set()
    for setting in by_setting(records, space):
        assert isinstance(setting, Repeated)
        outcomes = {seed.outcome for seed in setting.seeds}
        assert len(outcomes) == 1
        if outcomes == {"pruned"}:
            pruned.add(setting.number)
            for repeat in setting.seeds[1:]:
                assert isinstance(repeat.verdict, Stop)
                assert repeat.verdict.reason == (
                    f"{trial_name(setting.number)}, whose setting it repeats, was pruned"
                )
        else:
            assert len(setting.seeds) == 3
    assert pruned
    assert len(records) == asked(records, space) < most_trials(space)
    assert is_finished(records, space)


def test_a_sampler_sees_each_setting_once_with_its_mean_and_as_running_until_all_seeds_ended(
    disk: Path,
) -> None:
    space = make_space(trials=2, epochs=1, repeats="{seeds: 2}")
    one = machine(disk, space, work=lucky, concurrency=1)
    assert one.run()
    records = one.records()
    for count, states, values in [
        (1, ["RUNNING"], [None]),
        (2, ["COMPLETE"], [mean([0.99, records[1].value(space.metric)])]),
        (3, ["COMPLETE", "RUNNING"], [mean([0.99, records[1].value(space.metric)]), None]),
    ]:
        study = View(space, as_seen(records[:count], space))._study
        trials = study.get_trials()
        assert [trial.state.name for trial in trials] == states
        assert [t.values[0] if t.values else None for t in trials] == pytest.approx(values)


def test_a_session_shows_a_sampler_what_a_resume_shows_it(disk: Path) -> None:
    space = make_space(trials=4, epochs=3, repeats="{seeds: 2}", sampler="tpe", scheduler=ASHA)
    one = machine(disk, space)

    def seen(view: View) -> list[object]:
        trials = view._study.get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED])
        return sorted((t.state.name, t.values or [], repr(t.params)) for t in trials)

    with one.session() as session:
        session.run()
        told = seen(session.coordinator._choice.view)
    assert len(told) == 4
    assert told == seen(View(space, as_seen(one.records(), space)))


def test_each_fold_of_the_training_sequences_is_held_out_once(disk: Path) -> None:
    held_out: list[tuple[int, int]] = []

    def work(trial: Trial, number: int) -> Epoch:
        assert isinstance(trial.data, HeldOut)
        held_out.append((trial.data.folds or 0, trial.data.fold))
        metrics = {"val/accuracy": 0.1 * trial.data.fold, "val/loss": 1.0}
        return Epoch(number=number, metrics=metrics, timestamp_ms=number)

    space = make_space(trials=2, epochs=1, repeats="{folds: 3}")
    one = machine(disk, space, work=work, concurrency=1)
    assert one.run()
    assert held_out == [(3, 0), (3, 1), (3, 2)] * 2
    table = leaderboard(one.records(), space)
    assert list(table["val/accuracy"]) == pytest.approx([0.1, 0.1])
    assert parse_space(space.to_yaml(), "space") == space
    states = [t.state.name for t in View(space, as_seen(one.records(), space))._study.get_trials()]
    assert states == ["COMPLETE"] * 2


def test_the_goal_is_reached_by_a_mean_over_all_seeds(disk: Path) -> None:
    space = make_space(trials=3, epochs=1, repeats="{seeds: 2}")
    space = replace(space, budget=space.budget.model_copy(update={"goal": "val/accuracy >= 0.9"}))
    one = machine(disk / "lucky", space, work=lucky)
    assert one.run()
    assert len(one.records()) == 6  # the first seed alone reaches it

    def good(trial: Trial, number: int) -> Epoch:
        metrics = {"val/accuracy": 0.95, "val/loss": 0.05}
        return Epoch(number=number, metrics=metrics, timestamp_ms=number)

    other = machine(disk / "good", space, work=good, concurrency=1)
    assert other.run()
    assert len(other.records()) == 2
    assert is_finished(other.records(), space)


def test_equal_values_are_ranked_by_the_loss_and_told_as_a_tie(disk: Path) -> None:
    def tied(trial: Trial, number: int) -> Epoch:
        seed = trial.training.seed - 5
        metrics = {
            "val/accuracy": 0.875 if seed < 3 else 0.5,
            "val/loss": [0.4, 0.2, 0.3, 0.1][seed],
        }
        return Epoch(number=number, metrics=metrics, timestamp_ms=number)

    one = machine(disk, make_space(trials=4, epochs=1), work=tied)
    assert one.run()
    records, space = one.records(), one.space
    assert list(leaderboard(records, space)["trial"]) == [1, 2, 0, 3]
    won = winner(records, space)
    assert won is not None
    assert won.number == 1
    assert ties_in_words(records, space) == [
        "trials 0, 1, 2 tie: val/accuracy 0.875; the lower val/loss ranks first"
    ]
    assert ties_in_words(records[:1] + records[3:], space) == []


def test_where_the_loss_itself_ties_the_earlier_trial_ranks_first() -> None:
    epoch = Epoch(number=1, metrics={"val/loss": 0.25}, timestamp_ms=1)
    space = make_space(trials=2, epochs=1, metrics="[{name: val/loss, mode: min}]")
    records = [
        TrialRecord(number=n, outcome="completed", params={}, history=(epoch,)) for n in (0, 1)
    ]
    assert list(leaderboard(records, space)["trial"]) == [0, 1]
    assert ties_in_words(records, space) == [
        "trials 0, 1 tie: val/loss 0.25; the earlier ranks first"
    ]


def test_folds_of_a_dataset_with_a_validation_split_of_its_own_are_refused() -> None:
    with pytest.raises(ConfigError, match="adding has a validation split of its own"):
        make_space(repeats="{folds: 3}", data="adding", metrics="[{name: val/loss, mode: min}]")


@pytest.mark.parametrize(
    ("repeats", "search", "message"),
    [
        ("{seeds: 1}", "", "repeats.seeds"),
        ("{seeds: 2, top: 0}", "", "repeats.top"),
        ("{top: 2}", "", "write one of seeds and folds"),
        ("{seeds: 2, folds: 2}", "", "write one of seeds and folds"),
        ("{seeds: 2}", "\n  training.seed: {choices: [0, 1]}", "training.seed of its own"),
    ],
)
def test_repeats_that_make_no_sense_are_refused(repeats: str, search: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_space(repeats=repeats, search=search)


def test_a_space_with_repeats_is_read_back_equal() -> None:
    space = make_space(repeats="{seeds: 3, top: 2}")
    assert parse_space(space.to_yaml(), "space") == space


def test_what_may_be_handed_out_is_never_told_as_less_than_comes(disk: Path) -> None:
    for repeats in ("{seeds: 3}", "{seeds: 3, top: 2}"):
        space = make_space(trials=4, epochs=2, repeats=repeats, scheduler=ASHA)
        one: Machine = machine(disk / repeats.strip("{}").replace(" ", ""), space)
        lefts: list[tuple[int, int]] = []
        with one.session() as session:
            coordinator: Coordinator = session.coordinator
            while True:
                lefts.append((coordinator.left, len(one.records())))
                if not session.step():
                    break
        total = len(one.records())
        assert all(left >= total - begun for left, begun in lefts)
        assert lefts[-1][0] == 0
