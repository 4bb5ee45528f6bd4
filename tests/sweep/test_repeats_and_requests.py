"""Repeats where they meet failures, retries, what people add, goals and a larger budget."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.record.budget import asked, is_finished
from ckconv_sweep.record.requests import Request, Requests
from ckconv_sweep.record.seeds import Repeated, Seeds, as_seen, by_setting
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.leaderboard import all_columns
from ckconv_sweep.report.progress import Progress
from ckconv_sweep.search.view import View
from ckconv_sweep.tracking.note import Standings

from .in_process import Machine, formula, machine, make_space, with_trials
from .test_control import Heard

POINT = {"optimizer.learning_rate": 0.01, "model.dropout": 0.2, "schedule": "constant"}


def ask_again(one: Machine, number: int, **changes: Any) -> None:
    failed = one.records()[number]
    beside = {**failed.changes, **changes}
    request = Request(kind="add", params=failed.params, changes=beside, retry_of=number)
    Requests(one.folder).put(request)


def completed(records: list[TrialRecord], one: Machine) -> dict[int, int]:
    """Of each setting, how many of its trials."""
    settings = by_setting(records, one.space)
    return {s.number: len(s.completed) for s in settings if isinstance(s, Repeated)}


def seen(view: View) -> list[object]:
    trials = [t for t in view._study.get_trials() if t.state.name != "FAIL"]
    return sorted((t.state.name, t.values or [], repr(t.params)) for t in trials)


@pytest.mark.parametrize("repeats", ["{seeds: 3}", "{folds: 3}", "{seeds: 3, top: 1}"])
def test_a_failed_repeat_that_is_tried_again_leaves_its_setting_whole(
    repeats: str, disk: Path
) -> None:
    space = make_space(trials=2, epochs=1, repeats=repeats)
    number = 2 if "top" in repeats else 1
    one = machine(disk, space, fails=lambda n, _: "error" * (n == number) or None, concurrency=1)
    assert one.run()
    (before,) = [count for count in completed(one.records(), one).values() if count < 3][:1]
    assert before < 3
    ask_again(one, number)
    assert one.run()
    records = one.records()
    first = records[number].repeat_of
    assert first is not None
    assert completed(records, one)[first] == 3
    kept = [r for r in records if first in (r.number, r.repeat_of) and r.outcome == "completed"]
    if "folds" in repeats:
        assert sorted(r.changes.get("data.fold", 0) for r in kept) == [0, 1, 2]
    assert is_finished(records, space)
    assert asked(records, space) == len(records)


def test_what_a_trial_has_beside_the_space_its_repeats_have_too(disk: Path) -> None:
    space = make_space(trials=1, epochs=1, repeats="{folds: 2}")
    one = machine(disk, space, fails=lambda n, _: "error" * (n == 0) or None, concurrency=1)
    assert one.run()
    ask_again(one, 0, **{"training.batch_size": 16})
    assert one.run()
    beside = [(r.repeat_of, r.changes) for r in one.records()[1:]]
    batch = {"training.batch_size": 16}
    assert beside == [(None, batch), (1, {**batch, "data.fold": 1})]


def test_a_repeat_that_is_tried_again_otherwise_is_a_setting_of_its_own(disk: Path) -> None:
    space = make_space(trials=1, epochs=1, repeats="{folds: 2}")
    one = machine(disk, space, fails=lambda n, _: "error" * (n == 1) or None, concurrency=1)
    assert one.run()
    ask_again(one, 1, **{"training.batch_size": 16})
    assert one.run()
    found = [(r.repeat_of, r.changes.get("data.fold", 0)) for r in one.records()]
    assert found == [(None, 0), (0, 1), (None, 0), (2, 1)]
    assert asked(one.records(), space) == 4


def test_the_number_of_trials_that_are_shown_counts_the_repeats_of_what_is_added(
    disk: Path,
) -> None:
    for repeats, total in (("{seeds: 3}", 9), ("{seeds: 3, top: 5}", 9), ("{seeds: 3, top: 1}", 5)):
        heard = Heard()
        space = make_space(trials=2, epochs=1, repeats=repeats)
        one = machine(disk / repeats.strip("{}").replace(" ", ""), space, listeners=(heard,))
        Requests(one.folder).put(Request(kind="add", params=POINT))
        assert one.run()
        live, read = Progress(space.metrics, space), Progress(space.metrics, space)
        for event in heard.events:
            live.hear(event)
        records, standings = one.records(), Standings(space)
        read.begin(records)
        for record in records:
            standings.add(record)
        assert len(records) == live.asked == read.asked == asked(records, space) == total
        assert f"{total} trials requested" in standings.note()


def test_a_goal_that_a_trial_reached_is_reached_whatever_its_repeats_give(disk: Path) -> None:
    def lucky(trial: Trial, number: int) -> Epoch:
        accuracy = 0.99 if trial.training.seed == 5 else 0.1
        metrics = {"val/accuracy": accuracy, "val/loss": 1 - accuracy}
        return Epoch(number=number, metrics=metrics, timestamp_ms=number)

    space = make_space(trials=5, epochs=1, repeats="{seeds: 3, top: 1}")
    space = replace(space, budget=space.budget.model_copy(update={"goal": "val/accuracy >= 0.9"}))
    one = machine(disk, space, work=lucky, concurrency=1)
    assert one.run()
    assert [record.repeat_of for record in one.records()] == [None, 0, 0]
    assert is_finished(one.records(), space)
    assert one.run()
    assert len(one.records()) == 3


def test_a_setting_whose_first_trial_failed_is_told_by_one_that_completed(disk: Path) -> None:
    space = make_space(trials=1, epochs=2, repeats="{seeds: 3}")
    fails = {0: 2}
    one = machine(disk, space, fails=lambda n, e: "error" * (fails.get(n) == e) or None)
    assert one.run()
    records = one.records()
    assert [r.outcome for r in records] == ["failed", "completed"]
    (row,) = all_columns(records, space).to_dict(orient="records")
    assert (row["trial"], row["outcome"], row["repeats"]) == (0, "completed", "1 of 3")
    assert row["reason"] == records[1].reason


NUMBERS = """
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.dropout: {low: 0.0, high: 0.3, step: 0.1}
"""


@pytest.mark.parametrize(
    ("repeats", "sampler", "search"),
    [
        ("{seeds: 3}", "tpe, startup_trials: 2", ""),
        ("{folds: 2}", "random", ""),
        ("{seeds: 2, top: 2}", "tpe, startup_trials: 2", ""),
        ("{seeds: 2}", "nsgaii, population: 2", ""),
        ("{seeds: 2}", "cmaes, population: 4", NUMBERS),
        ("{seeds: 2, top: 2}", "gp, startup_trials: 3", NUMBERS),
        ("{seeds: 3, top: 2}", "grid", ""),
    ],
)
def test_whatever_happens_in_whatever_order_a_resume_sees_what_the_session_saw(
    repeats: str, sampler: str, search: str, disk: Path
) -> None:
    for luck in range(1 if "gp" in sampler else 2):
        chance = random.Random(luck)
        space = make_space(trials=4, epochs=2, repeats=repeats, sampler=sampler, search=search)
        one = machine(disk / str(luck), space)
        for trials in (4, 6):  # the second session has a larger budget
            one.space = with_trials(space, trials)
            _happen(one, chance)
        records = one.records()
        assert is_finished(records, one.space)
        assert asked(records, one.space) == len([r for r in records if r.counts])


def _happen(one: Machine, chance: random.Random) -> None:
    with one.session() as session:
        sweep, running = session.coordinator, {}
        while True:
            if len(running) < 3 and (work := sweep.next()) is not None:
                running[work.number] = work
                _same(one, sweep)
                continue
            if not running:
                break
            number = chance.choice(sorted(running))
            what, trial = chance.random(), running[number].trial
            done = len(sweep._running[number].history)
            if what < 0.15:
                sweep.end(number, reason="error", error="so it is")
            elif what < 0.25:
                sweep.drop(number)
            elif done == 2:
                sweep.end(number)
            else:
                sweep.epoch(number, formula(trial, done + 1))
                continue
            del running[number]
            _same(one, sweep)
            record = session.study.trial(number)
            if record.outcome == "failed" and chance.random() < 0.5:
                origin = {"changes": dict(record.changes)} if record.changes else {}
                sweep.queue(record.params, request=f"r{number}", retry_of=number, **origin)
                _same(one, sweep)


def _same(one: Machine, sweep: Any) -> None:
    """What is told to a sampler, and what comes next, follow from the records."""
    records, choice = sweep._study.trials(), sweep._choice
    view, position = View(one.space, as_seen(records, one.space)), choice._position
    assert seen(choice.view) == seen(view)
    if one.space.sampler.name != "grid":
        assert choice.view.draw(position).params == view.draw(position).params
    again = Seeds(one.space, records)
    for all_drawn in (False, True):
        assert choice._seeds.next(all_drawn=all_drawn) == again.next(all_drawn=all_drawn)
    assert choice._seeds.left() == again.left()
