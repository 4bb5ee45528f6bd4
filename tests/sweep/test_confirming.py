"""A confirmation: the best settings and the base trial are trained again, and the search does not
notice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.budget import is_finished
from ckconv_sweep.record.confirmation import Confirmation, Opening, add_openings, note, noted
from ckconv_sweep.record.requests import Request, Requests, answers
from ckconv_sweep.record.trials import BASE, TrialRecord, trial_of
from ckconv_sweep.report.confirmable import begins_in_words, best_settings, planned
from ckconv_sweep.report.leaderboard import leaderboard
from ckconv_sweep.report.summary import summarize
from ckconv_sweep.search.confirming import is_over
from ckconv_sweep.sweep.choice import Choice

from .in_process import Machine, machine, make_space, with_trials

ASHA = "{name: asha, grace_epochs: 1, reduction_factor: 2}"

PBT = "{name: pbt, interval_epochs: 1, fraction: 0.5}"
TWO = "[{name: val/accuracy, mode: max}, {name: val/loss, mode: min}]"


def searched(disk: Path, **options: Any) -> Machine:
    """A machine whose sweep has ended."""
    one = machine(disk, make_space(**({"trials": 6, "scheduler": ASHA} | options)))
    assert one.run()
    return one


def confirming(one: Machine, top: int | None = 2, seeds: int | None = 3) -> Machine:
    """The same, whose next sessions confirm it."""
    with one.folder.records.open() as study:
        return replace(one, plan=planned(study, top, seeds))


def confirmations(one: Machine) -> list[TrialRecord]:
    with one.folder.records.open() as study:
        return study.confirmations()


def what_the_search_says(one: Machine) -> Any:
    """All that a person, a sampler and the budget know of it."""
    with one.folder.records.open() as study:
        records, space = study.trials(), study.space
        choice = Choice(study, records)
        return (
            leaderboard(records, space).to_csv(),
            summarize("one", records, space, held=False),
            is_finished(records, space),
            choice.left,
            choice.view.draw(3).params,
            max(record.spent_seconds for record in records),
            study.note("options"),
        )


def test_the_best_settings_and_the_base_trial_are_trained_with_the_same_fresh_seeds(
    disk: Path,
) -> None:
    one = searched(disk)
    with one.folder.records.open() as study:
        best = [record.number for record in best_settings(study.trials(), study.space)[:2]]
    assert confirming(one).run()
    again = confirmations(one)
    assert [(r.confirms, r.seed_index) for r in again] == [
        (number, index) for index in range(3) for number in (*best, BASE)
    ]
    assert {r.outcome for r in again} == {"completed"}
    assert {len(r.history) for r in again} == {one.space.trial.training.epochs}
    assert {r.verdict for r in again} == {None}
    trials = {(r.confirms, r.seed_index): trial_of(r, one.space) for r in again}
    seeds = {index: trials[BASE, index].training.seed for index in range(3)}
    assert len(set(seeds.values())) == 3
    assert min(seeds.values()) > 10**6
    for number in best:
        for index, seed in seeds.items():
            assert trials[number, index] == one.space.resolve(
                one.records()[number].params, changes={"training.seed": seed}
            )
    base = one.space.trial.model_dump()
    for index, seed in seeds.items():
        base["training"]["seed"] = seed
        assert trials[BASE, index].model_dump() == base


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sampler": "tpe", "scheduler": "{name: none}"},
        {"sampler": "grid", "trials": 4, "scheduler": "{name: none}"},
        {"repeats": "{seeds: 2, top: 2}"},
        {"repeats": "{folds: 3}", "trials": 2},
        {"metrics": TWO, "scheduler": "{name: none}"},
    ],
)
def test_a_search_says_after_a_confirmation_what_it_said_before(
    options: dict[str, Any], disk: Path
) -> None:
    one = searched(disk, **options)
    before = what_the_search_says(one)
    again = confirming(one)
    assert again.run()
    assert what_the_search_says(one) == before
    result, begun = one.result(), len(confirmations(one))
    assert begun == 3 * len(again.plan.compared)  # type: ignore[union-attr]
    assert one.run()  # nothing is left to search
    assert one.result() == result
    assert len(confirmations(one)) == begun


def test_a_search_that_is_extended_after_a_confirmation_draws_what_it_would_have_drawn(
    disk: Path,
) -> None:
    plain, confirmed = (searched(disk / name, trials=4) for name in ("plain", "confirmed"))
    assert confirming(confirmed).run()
    for one in (plain, confirmed):
        one.space = with_trials(one.space, 7)
        assert one.run()
    assert [r.params for r in confirmed.records()] == [r.params for r in plain.records()]
    assert [r.position for r in confirmed.records()] == list(range(7))
    assert [r.number for r in confirmed.records()] == [*range(4), *range(13, 16)]
    assert confirmed.result()[:4] == plain.result()[:4]


def test_a_confirmation_killed_at_any_write_trains_each_setting_with_each_seed_once(
    disk: Path,
) -> None:
    one = searched(disk / "one", trials=2, epochs=1)
    before = what_the_search_says(one)
    again = confirming(one)
    photographs = again.run_and_photograph(disk / "killed")
    expected = [(r.number, r.confirms, r.seed_index, r.changes) for r in confirmations(one)]
    assert len(photographs) == 30
    for photograph in photographs[::5]:
        assert photograph.run()
        found = confirmations(photograph)
        assert [(r.number, r.confirms, r.seed_index, r.changes) for r in found] == expected
        assert {r.outcome for r in found} == {"completed"}
        assert max(photograph.executed.values()) == 1
    assert what_the_search_says(photographs[len(photographs) // 2]) == before


def interrupted(one: Machine, epochs: int) -> None:
    """A session that ends after so many epochs."""
    with one.session() as session:
        for _ in range(epochs):
            assert session.step()


def test_neither_takes_up_what_the_other_left_unfinished(disk: Path) -> None:
    one = machine(disk, make_space(trials=6))
    interrupted(one, 12)
    left = [r.number for r in one.records() if r.outcome == "running"]
    assert left
    again = confirming(one)
    interrupted(again, 5)
    unfinished = [r.number for r in confirmations(one) if r.outcome == "running"]
    assert unfinished
    with one.session() as session:
        session.run()
        assert not set(session.handed_out) & set(unfinished)
        assert set(left) <= set(session.handed_out)
    assert [r.number for r in confirmations(one) if r.outcome == "running"] == unfinished
    with again.session() as session:
        session.run()
        assert session.handed_out[: len(unfinished)] == unfinished
    with one.folder.records.open() as study:
        assert is_over(again.plan, study.confirmations(), one.space.metric)  # type: ignore[arg-type]
        assert is_finished(study.trials(), one.space)


def test_the_hours_of_the_search_do_not_end_a_confirmation_and_its_seconds_do_not_count(
    disk: Path,
) -> None:
    one = machine(disk, make_space(trials=6, hours=1.0))

    def tick(trial: Trial, number: int) -> Epoch:
        one.clock.now += 300
        metrics = {"val/accuracy": 0.5, "val/loss": 0.5}
        return Epoch(number=number, metrics=metrics, timestamp_ms=number)

    one.work = tick
    assert one.run()
    assert not is_finished(one.records(), one.space)  # the time was up
    spent = max(record.spent_seconds for record in one.records())
    again = replace(confirming(one), work=tick)
    assert again.run()
    assert len(confirmations(one)) == 9
    assert max(record.spent_seconds for record in one.records()) == spent
    assert max(record.spent_seconds for record in confirmations(one)) > 3600


def test_a_seed_that_failed_is_left_alone_and_the_others_go_on(disk: Path) -> None:
    one = searched(disk)
    again = replace(
        confirming(one), fails=lambda number, epoch: "nonfinite" * (number == 7) or None
    )
    assert again.run()
    outcomes = Counter(r.outcome for r in confirmations(one))
    assert outcomes == {"completed": 8, "failed": 1}
    assert again.run()
    assert len(confirmations(one)) == 9


def test_each_fresh_seed_has_a_fold_of_its_own_where_a_space_has_folds(disk: Path) -> None:
    one = searched(disk, trials=2, repeats="{folds: 3}")
    assert confirming(one, seeds=4).run()
    folds = {(r.confirms, r.seed_index): r.changes["data.fold"] for r in confirmations(one)}
    assert {index for _, index in folds} == set(range(4))
    assert all(fold == index % 3 for (_, index), fold in folds.items())


def test_a_copy_of_a_sweep_keeps_the_seeds_that_some_of_its_trials_have(disk: Path) -> None:
    one = searched(disk)
    again = confirming(one)
    interrupted(again, 1)  # the first of index 0
    with one.folder.records.open_for_writing() as study:
        study.set_uid("f" * 32, {})
    assert again.run()
    seeds = {(r.seed_index, r.changes["training.seed"]) for r in confirmations(one)}
    assert len(seeds) == 3


def test_what_a_person_adds_during_a_confirmation_waits_for_the_search(disk: Path) -> None:
    one = searched(disk)
    params = dict(one.records()[0].params)
    Requests(one.folder).put(Request(kind="add", params=params))
    assert confirming(one).run()
    assert len(one.records()) == 6
    assert one.run()
    assert [r.request != "" for r in one.records()] == [False] * 6 + [True]


def test_a_person_stops_a_trial_of_a_confirmation_and_none_of_the_search_meanwhile(
    disk: Path,
) -> None:
    one = machine(disk, make_space(trials=6))
    interrupted(one, 14)
    (left, *_) = [r.number for r in one.records() if r.outcome == "running"]
    again = confirming(one)
    box = Requests(one.folder)
    with again.session() as session:
        assert session.step()
        running = session.coordinator.running[0]
        wanted = {
            number: box.put(Request(kind="stop_trial", number=number)) for number in (running, left)
        }
        one.clock.now += 1
        session.run()
    with one.folder.records.open() as study:
        told = {n: answers(study.notes())[name] for n, name in wanted.items()}
        assert study.trial(running).reason == "stopped"
        assert study.trial(left).outcome == "running"
    assert told[running].said.startswith("it ended after")
    assert (told[left].refused, told[left].said) == (True, f"there is no trial {left}")
    assert Counter(r.outcome for r in confirmations(one))["completed"] == 8


# The plan


def test_a_setting_that_is_the_base_trials_is_the_control_itself(disk: Path) -> None:
    one = searched(disk, trials=3, first="[base]", scheduler="{name: none}")
    plan = confirming(one, top=3).plan
    assert plan is not None
    assert plan.control == 0
    assert plan.compared == plan.settings
    told = in_study(one, lambda study: begins_in_words(study, plan))
    assert any("; the base trial is one of them, t000: 3 fresh seeds each" in t for t in told)


def test_the_base_trial_as_the_only_setting_is_trained_once_a_seed(disk: Path) -> None:
    one = searched(disk, trials=1, first="[base]", scheduler="{name: none}")
    again = confirming(one)
    assert again.plan is not None
    (told,) = in_study(one, lambda study: begins_in_words(study, again.plan))
    assert told.startswith(
        "confirming the best setting of sweep (t000), which is the base trial itself; there is no "
        "other to compare it with: 3 fresh seeds each, at most 3 trials"
    )
    assert again.run()
    assert [(r.confirms, r.seed_index) for r in confirmations(one)] == [(0, 0), (0, 1), (0, 2)]


def test_trials_that_differ_in_their_seed_alone_are_one_setting(disk: Path) -> None:
    one = searched(
        disk,
        trials=4,
        sampler="grid",
        scheduler="{name: none}",
        search="  optimizer.learning_rate: {choices: [0.001, 0.01]}\n"
        "  training.seed: {choices: [1, 2]}\n",
    )
    records = one.records()
    assert len(records) == 4
    found = best_settings(records, one.space)
    assert sorted(r.params["optimizer.learning_rate"] for r in found) == [0.001, 0.01]
    for setting in found:
        same = [
            r
            for r in records
            if r.params["optimizer.learning_rate"] == setting.params["optimizer.learning_rate"]
        ]
        metric = one.space.metric
        assert setting.value(metric) == max(r.value(metric) for r in same)


def in_study(one: Machine, call: Callable[[Any], Any]) -> Any:
    with one.folder.records.open_for_writing() as study:
        return call(study)


def test_the_same_command_goes_on_with_what_was_begun_though_the_search_has_gone_on(
    disk: Path,
) -> None:
    one = searched(disk, trials=3)
    again = confirming(one)
    interrupted(again, 1)
    one.space = with_trials(one.space, 8)
    assert one.run()
    for top, seeds in ((None, None), (2, 3), (None, 3)):
        assert confirming(one, top, seeds).plan == again.plan
    more = confirming(one, None, 5).plan
    assert more == replace(again.plan, seeds=5)  # type: ignore[type-var]
    assert replace(again, plan=more).run()
    counts = Counter(r.seed_index for r in confirmations(one))
    assert [counts[index] for index in range(3)] == [3, 3, 3]
    # Of the last two seeds, one that is known to be worse by then has none.
    assert set(counts) == set(range(5))
    assert {counts[3], counts[4]} <= {2, 3}


def test_another_plan_than_the_begun_one_is_refused_with_the_reason(disk: Path) -> None:
    one = searched(disk)
    again = confirming(one, 2, 4)
    interrupted(again, 1)
    with pytest.raises(ConfigError, match="begun with --top 2") as error:
        confirming(one, 3, 4)
    assert "ckconv-sweep confirm sweep" in str(error.value)
    with pytest.raises(ConfigError, match="begun with --seeds 4"):
        confirming(one, 2, 3)
    with pytest.raises(ConfigError, match="must be 3 or more, got 2"):
        confirming(one, 2, 2)
    opening = Opening(scores={"test/accuracy": 0.9}, trials=[6], exploratory=True)
    in_study(one, lambda study: add_openings(study, opening))
    assert confirming(one, 2, 5).plan is not None
    in_study(one, lambda study: add_openings(study, replace(opening, exploratory=False)))
    with pytest.raises(ConfigError, match="the test split was opened for its winner"):
        confirming(one, 2, 5)
    assert confirming(one, 2, 4).plan == again.plan


def test_a_sweep_without_a_completed_setting_and_one_of_continuations_are_refused(
    disk: Path,
) -> None:
    one = machine(disk / "one", make_space(trials=1))
    with pytest.raises(ConfigError, match="no setting has completed"):
        confirming(one)
    pbt = machine(disk / "pbt", make_space(trials=4, epochs=4, scheduler=PBT))
    assert pbt.run()
    with pytest.raises(ConfigError, match="scheduler pbt cannot be confirmed"):
        confirming(pbt)


def test_the_plan_comes_back_from_the_study_as_it_was_noted(disk: Path) -> None:
    one = searched(disk)
    plan = Confirmation(settings=(3, 1), control=BASE, seeds=5, top=2, begun_ms=1)
    in_study(one, lambda study: note(study, plan))
    with one.folder.records.open() as study:
        assert noted(study.notes()) == plan
        assert plan.most == 15
