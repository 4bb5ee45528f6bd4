"""The rules of a sweep, and that no kill of the driver changes what comes out."""

from __future__ import annotations

import itertools
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ckconv_sweep.config.history import Epoch, objective
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import CannotWrite, ConfigError
from ckconv_sweep.record.events import Ended, EpochEnded, Started
from ckconv_sweep.report.summary import winner
from ckconv_sweep.sweep import coordinator
from ckconv_sweep.sweep.coordinator import Coordinator

from .in_process import (
    IN_MEMORY,
    Heard,
    Killed,
    Machine,
    Session,
    formula,
    machine,
    make_space,
    with_trials,
)

THOROUGH = "SWEEP_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("SWEEP_EXAMPLES", "3"))
"""SWEEP_EXAMPLES=200 searches longer than `make test` has time for."""

ASHA = "{name: asha, grace_epochs: 1, reduction_factor: 2}"


# What a sweep does when nothing goes wrong


@pytest.mark.parametrize("concurrency", [1, 2, 5])
@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc"])
def test_a_sweep_trains_exactly_its_budget_of_trials(
    sampler: str, concurrency: int, disk: Path
) -> None:
    one = machine(disk, make_space(sampler=sampler), concurrency=concurrency)
    assert one.run()
    records = one.records()
    assert [r.number for r in records] == [0, 1, 2, 3]
    assert {r.outcome for r in records} == {"completed"}
    assert {r.reason for r in records} == {"epochs"}
    assert [len(r.history) for r in records] == [3] * 4
    assert set(one.executed.values()) == {1}


def test_a_grid_tries_each_of_its_points_once_and_then_stops(disk: Path) -> None:
    one = machine(disk, make_space(sampler="grid", trials=100))
    assert one.run()
    points = [tuple(r.params.items()) for r in one.records()]
    assert len(points) == len(set(points)) == 2 * (1 + 2)
    assert one.run()
    assert len(one.records()) == 6


def test_the_seed_of_a_trial_is_the_base_trials_plus_its_number(disk: Path) -> None:
    heard = Heard()
    machine(disk, make_space(), listeners=(heard,)).run()
    seeds = {e.number: e.trial.training.seed for e in heard.events if isinstance(e, Started)}
    assert seeds == {0: 5, 1: 6, 2: 7, 3: 8}


def test_early_stopping_completes_a_trial_with_its_best_epochs_value(disk: Path) -> None:
    space = make_space(trials=2, epochs=9, training=", early_stopping_epochs: 2")

    def falling(trial: Trial, number: int) -> Epoch:
        metrics = {"val/accuracy": 1.0 / number, "val/loss": 0.0}
        return Epoch(number=number, metrics=metrics, timestamp_ms=number)

    one = machine(disk, space, work=falling)
    one.run()
    for record, row in zip(one.records(), one.result(), strict=True):
        assert (record.outcome, record.reason) == ("completed", "early_stopping")
        assert (len(record.history), row["values"]) == (3, [1.0])


def test_outcomes_are_told_as_they_are_and_only_completed_trials_are_ranked(
    disk: Path,
) -> None:
    # Trial 2 fails after an epoch that was better than all others.
    reasons = {(0, 1): "nonfinite", (1, 3): "out_of_memory", (2, 2): "error"}

    def work(trial: Trial, number: int) -> Epoch:
        epoch = formula(trial, number)
        better = {"val/accuracy": 0.999, "val/loss": 0.0}
        return Epoch(
            number=number,
            metrics=better if trial.training.seed == 7 else epoch.metrics,
            timestamp_ms=epoch.timestamp_ms,
        )

    heard = Heard()
    one = machine(
        disk,
        make_space(trials=6),
        fails=lambda number, epoch: reasons.get((number, epoch)),
        work=work,
        listeners=(heard,),
    )
    assert one.run()
    records = one.records()
    assert [r.outcome for r in records] == ["failed"] * 3 + ["completed"] * 3
    assert [r.reason for r in records[:3]] == ["nonfinite", "out_of_memory", "error"]
    assert [r.error for r in records[:3]] == [f"it was {r.reason}" for r in records[:3]]
    assert [len(r.history) for r in records] == [0, 2, 1, 3, 3, 3]
    assert [row["values"] for row in one.result()[:3]] == [None] * 3
    first = winner(records, one.space)
    assert first is not None
    assert first.number in (3, 4, 5)
    told = {e.number: e.values for e in heard.events if isinstance(e, Ended)}
    assert told.pop(0) == {}
    values = {number: told[number]["val/accuracy"] for number in told}
    assert values[2] == 0.999
    assert values[first.number] == max(values[n] for n in (3, 4, 5))


def test_a_pruned_trial_is_told_without_a_value_and_what_it_reached(disk: Path) -> None:
    heard = Heard()
    space = make_space(trials=8, epochs=5, scheduler=ASHA)
    one = machine(disk, space, listeners=(heard,))
    assert one.run()
    outcomes = Counter(r.outcome for r in one.records())
    assert outcomes.keys() == {"completed", "pruned"}
    ends = {e.number: e for e in heard.events if isinstance(e, Ended)}
    assert len(ends) == 8
    for record, row in zip(one.records(), one.result(), strict=True):
        reached = objective(record.history, space.metric)
        assert ends[record.number].values == {"val/accuracy": reached}
        assert ends[record.number].epochs == len(record.history)
        if record.outcome == "pruned":
            assert row["values"] in (None, [row["history"][-1][1]["val/accuracy"]])
            assert len(record.history) < 5
            assert record.reason == ""
        else:
            assert row["values"] == [reached]


def test_listeners_hear_each_trial_start_each_epoch_with_its_running_best_and_the_end(
    disk: Path,
) -> None:
    heard = Heard()
    one = machine(disk, make_space(), listeners=(heard,))
    one.run()
    for record in one.records():
        mine = [e for e in heard.events if e.number == record.number]
        assert isinstance(mine[0], Started)
        assert isinstance(mine[-1], Ended)
        middle = [e for e in mine if isinstance(e, EpochEnded)]
        assert [e.epoch for e in middle] == list(record.history)
        curve = [e.metrics["val/accuracy"] for e in record.history]
        assert [e.best for e in middle] == list(itertools.accumulate(curve, max))
        assert mine[0].params == record.params
        assert mine[-1].ended_ms == record.ended_ms


# Constraints


def test_draws_that_violate_a_constraint_are_outside_the_budget(disk: Path) -> None:
    space = make_space(trials=6, constraints=["optimizer.learning_rate <= 0.003"])
    heard = Heard()
    one = machine(disk, space, listeners=(heard,))
    assert one.run()
    records = one.records()
    violating = [r for r in records if not r.counts]
    assert violating
    assert len(records) - len(violating) == 6
    for record in records:
        holds = record.params["optimizer.learning_rate"] <= 0.003
        assert holds == (record.outcome == "completed") == record.counts
    assert {r.reason for r in violating} == {"constraint"}
    assert all(r.error.startswith("optimizer.learning_rate <= 0.003") for r in violating)
    assert {e.number for e in heard.events} == {r.number for r in records if r.counts}


def test_a_bound_on_the_number_of_parameters_is_a_constraint_too(disk: Path) -> None:
    search = "  model.hidden_channels: {low: 1, high: 20}"
    space = make_space(search=search, constraints=["model.parameters < 1_000"])  # 100 a channel
    one = machine(disk, space)
    one.run()
    assert all((r.params["model.hidden_channels"] < 10) == r.counts for r in one.records())
    assert Counter(r.counts for r in one.records())[True] == 4


def test_a_constraint_that_no_draw_meets_ends_the_sweep_with_a_message(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert coordinator.MOST_VIOLATIONS == 200
    monkeypatch.setattr(coordinator, "MOST_VIOLATIONS", 20)
    one = machine(disk, make_space(constraints=["training.epochs > 3"]))
    with one.session() as session:
        session.run()
        fatal = session.coordinator.fatal
    assert isinstance(fatal, ConfigError)
    assert "the last 20 draws were rejected" in str(fatal)
    assert "training.epochs > 3 does not hold: 3" in str(fatal)
    assert len(one.records()) == 20


# What an executor may do


def test_an_epoch_that_is_known_already_changes_nothing(disk: Path) -> None:
    one = machine(disk, make_space(), concurrency=1)
    with one.session() as session:
        for _ in range(2):
            session.step()
        before, written = one.everything(), one.writes
        for epoch in one.checkpoints[0]:
            assert session.coordinator.epoch(0, epoch)
        assert one.everything() == before
        assert one.writes == written


def test_an_epoch_after_a_gap_is_a_bug_and_is_not_written(disk: Path) -> None:
    one = machine(disk, make_space(), concurrency=1)
    with one.session() as session:
        session.step()
        trial = session.workers[0].assignment.trial
        with pytest.raises(AssertionError, match="trial 0: epoch 3 came after epoch 1"):
            session.coordinator.epoch(0, formula(trial, 3))
    assert len(one.records()[0].history) == 1


def test_an_epoch_of_a_trial_that_has_ended_is_answered_with_stop_and_not_kept(
    disk: Path,
) -> None:
    one = machine(disk, make_space())
    with one.session() as session:
        session.run()
        before = one.everything()
        trial = one.space.resolve(one.records()[0].params, 0)
        assert not session.coordinator.epoch(0, formula(trial, 4))
        session.coordinator.end(0, reason="error", error="late")
        assert one.everything() == before


def test_a_run_that_ends_before_its_last_epoch_without_a_reason_has_failed(disk: Path) -> None:
    one = machine(disk, make_space(trials=1))
    with one.session() as session:
        session.step()
        session.coordinator.end(0)
    (record,) = one.records()
    assert (record.outcome, record.reason) == ("failed", "error")
    assert "before its last epoch" in record.error


def test_a_sweep_that_cannot_write_leaves_its_running_trials_to_be_resumed(disk: Path) -> None:
    one = machine(disk, make_space(), concurrency=2)
    with one.session() as session:
        for _ in range(2):
            session.step()
        session.coordinator.stop(CannotWrite("a checkpoint cannot be written"))
        session.coordinator.stop(CannotWrite("a later one"))
        session.run()
        assert str(session.coordinator.fatal) == "a checkpoint cannot be written"
        assert session.coordinator.next() is None
    assert [r.outcome for r in one.records()] == ["running"] * 2
    assert one.run()
    undisturbed = machine(disk / "other", make_space())
    undisturbed.run()
    assert one.result() == undisturbed.result()
    assert set(one.executed.values()) == {1}


# Time


@pytest.mark.fault("clock-jump")
def test_the_hours_of_all_sessions_count_and_trials_stopped_by_time_go_on_later(
    disk: Path,
) -> None:
    """Each epoch takes 600 s; 2 trials at a time take turns."""
    space = make_space(trials=3, epochs=6, hours=1.0)
    one = machine(disk, space, concurrency=2)

    def work(trial: Trial, number: int) -> Epoch:
        one.clock.now += 600
        return formula(trial, number, at=one.clock.now)

    one.work = work

    def epochs() -> int:
        return sum(len(r.history) for r in one.records())

    with pytest.raises(Killed), one.session() as session:  # killed after 2 epochs of 600 s
        session.step()
        session.step()
        raise Killed
    one.clock.now += 100_000  # nobody runs it meanwhile
    with one.session() as session:
        session.run()
        assert session.coordinator.time_is_up
    # 1,200 s, then 2,400 s until the end of the fourth epoch; the other trial's comes after it.
    assert epochs() == 7
    assert [r.outcome for r in one.records()] == ["running"] * 2
    one.clock.now += 100_000
    before = one.result()
    assert one.run()
    assert one.result() == before  # the hour is spent
    one.space = make_space(trials=3, epochs=6, hours=9.0)
    assert one.run()
    assert epochs() == 18
    assert {r.outcome for r in one.records()} == {"completed"}
    assert set(one.executed.values()) == {1}


@pytest.mark.fault("clock-jump")
@pytest.mark.parametrize("jump_seconds", [-86_400, 86_400])
def test_a_clock_that_is_set_anew_neither_ends_a_sweep_nor_gives_it_more_time(
    jump_seconds: int, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-way through each session the system's clock jumps by a day; each epoch takes 600 s."""
    jump = 0
    real_ns, real = time.time_ns, time.time
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + jump * 10**9)
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    one = machine(disk, make_space(trials=2, epochs=9, hours=2.0), concurrency=1)

    def work(trial: Trial, number: int) -> Epoch:
        one.clock.now += 600
        return formula(trial, number, at=time.time())

    one.work = work
    spent = []
    for steps in (2, 5):  # two sessions that are killed; the second tells 2 epochs again
        with pytest.raises(Killed), one.session() as session:
            for _ in range(steps):
                session.step()
                jump += jump_seconds
                spent.append(session.coordinator._sessions.spent())
            raise Killed
        one.clock.now = 17.0  # after a reboot it counts from anywhere
    assert spent == [600, 1200, 1200, 1200, 1800, 2400, 3000]
    with one.session() as session:
        assert not session.coordinator.time_is_up
        session.run()
        assert session.coordinator.time_is_up
    # 7,200 s are 12 epochs of 600 s, whatever the clock said.
    assert [len(r.history) for r in one.records()] == [9, 3]
    for record in one.records():
        assert [e.number for e in record.history] == list(range(1, len(record.history) + 1))
    assert [r.number for r in one.records()] == [0, 1]


@pytest.mark.fault("clock-jump")
def test_a_resumed_sweep_hands_out_by_number_whatever_the_clock_said(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    past = iter(range(0, -(10**7), -1000))
    monkeypatch.setattr(time, "time", lambda: real() + next(past))
    one = machine(disk, make_space(trials=4), concurrency=3)
    with pytest.raises(Killed), one.session() as session:
        session.step()
        session.step()
        raise Killed
    with one.session() as session:
        session.run()
        assert session.handed_out == [0, 1, 2, 3]
    assert {r.outcome for r in one.records()} == {"completed"}


@pytest.mark.fault("resources-changed")
@pytest.mark.parametrize("sampler", ["random", "grid", "qmc"])
def test_a_resume_with_fewer_trials_at_a_time_gives_the_same_numbers(
    sampler: str, disk: Path
) -> None:
    space = make_space(sampler=sampler, trials=6)
    undisturbed = machine(disk / "undisturbed", space, concurrency=4)
    undisturbed.run()
    one = machine(disk / "one", space, concurrency=4)
    with pytest.raises(Killed), one.session() as session:
        for _ in range(6):
            session.step()
        raise Killed
    one.concurrency = 1
    assert one.run()
    assert one.result() == undisturbed.result()
    assert set(one.executed.values()) == {1}


def test_a_trial_whose_last_epoch_comes_when_time_is_up_is_completed(disk: Path) -> None:
    one = machine(disk, make_space(trials=2, hours=0.5), concurrency=1)

    def work(trial: Trial, number: int) -> Epoch:
        one.clock.now += 600
        return formula(trial, number, at=one.clock.now)

    one.work = work
    one.run()
    assert [r.outcome for r in one.records()] == ["completed"]


def test_a_finished_sweep_goes_on_with_a_larger_budget(disk: Path) -> None:
    small, large = make_space(trials=2), make_space(trials=5)
    one = machine(disk, small)
    one.run()
    first = one.result()
    one.space = large
    one.run()
    other = machine(disk / "other", large)
    other.run()
    assert one.result()[:2] == first
    assert one.result() == other.result()
    assert set(one.executed.values()) == {1}


# Kills


SMALL: dict[str, dict[str, Any]] = {
    "random": {"sampler": "random", "trials": 3},
    "grid": {"sampler": "grid", "trials": 3},
    "random_with_a_constraint": {
        "sampler": "random",
        "trials": 2,
        "constraints": ["optimizer.learning_rate <= 0.0008"],  # trials 1, 2 and 3 violate it
    },
}


def failing(number: int, epoch: int) -> str | None:
    return "nonfinite" if (number, epoch) == (1, 2) else None


@pytest.mark.fault("driver-sigkill")
@pytest.mark.parametrize("name", SMALL)
def test_a_kill_before_any_write_leaves_a_sweep_that_ends_as_the_undisturbed_one(
    name: str, disk: Path
) -> None:
    undisturbed = machine(disk, make_space(**SMALL[name]), fails=failing)
    photographs = undisturbed.run_and_photograph(disk / "killed")
    expected = undisturbed.result()
    assert len(expected) >= 3
    assert len(photographs) == undisturbed.writes >= 10
    step = 1 if THOROUGH or name == "random" else 2
    for k, one in list(enumerate(photographs))[::step]:
        assert one.run()
        assert one.result() == expected, f"killed before write {k}"
        assert max(one.executed.values()) == 1
        assert one.executed == undisturbed.executed


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_a_second_kill_while_it_recovers_from_the_first_changes_nothing(
    seed: int, disk: Path
) -> None:
    draws = random.Random(seed)
    space = make_space(**SMALL[draws.choice(list(SMALL))])
    undisturbed = machine(disk / "undisturbed", space, fails=failing)
    undisturbed.run()
    one = machine(disk / "killed", space, fails=failing, concurrency=draws.randint(1, 3))
    one.run(kill_before=draws.randrange(undisturbed.writes))
    one.run(kill_before=draws.randrange(15))
    one.run(kill_before=draws.randrange(15))
    assert one.run()
    assert one.result() == undisturbed.result()
    assert max(one.executed.values()) == 1


def check_acknowledged(one: Machine) -> None:
    """I1, I2: every acknowledged epoch is there, once, with its value; none is invented."""
    found = {
        (r.number, e.number): e.metrics["val/accuracy"] for r in one.records() for e in r.history
    }
    assert one.acknowledged.items() <= found.items()
    assert found.keys() <= one.executed.keys()
    for record in one.records():
        assert [e.number for e in record.history] == list(range(1, len(record.history) + 1))


def check_finished_unchanged(one: Machine, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """I3, I9: what had ended stays as it was."""
    now = one.result()
    for row in before:
        assert now[row["number"]] == row
    return [row for row in now if row["outcome"] != "running"]


def check_end(one: Machine) -> None:
    """I4, I5, I7, I10."""
    records = one.records()
    assert all(r.outcome != "running" for r in records)
    assert sum(r.counts for r in records) == one.space.budget.trials
    assert not one.executed or max(one.executed.values()) == 1
    before = one.everything()
    executed = one.executed.copy()
    assert one.run()
    assert one.everything() == before
    assert one.executed == executed


@pytest.mark.fault("driver-sigkill")
@pytest.mark.parametrize("scheduler", [ASHA, "{name: median, startup_trials: 2}"])
def test_with_tpe_and_a_stopping_rule_no_kill_loses_doubles_or_changes_what_was_acknowledged(
    scheduler: str, disk: Path
) -> None:
    space = make_space(sampler="tpe", scheduler=scheduler, trials=4)
    undisturbed = machine(disk, space)
    for one in undisturbed.run_and_photograph(disk / "killed")[:: 1 if THOROUGH else 7]:
        check_acknowledged(one)
        ended = check_finished_unchanged(one, [])
        assert one.run()
        check_acknowledged(one)
        check_finished_unchanged(one, ended)
        check_end(one)


class Interruptions(RuleBasedStateMachine):
    """Sessions, kills, failures and extensions in any order."""

    @initialize(
        sampler=st.sampled_from(["random", "qmc", "tpe"]),
        scheduler=st.sampled_from(["{name: none}", ASHA]),
        concurrency=st.integers(1, 3),
        constrained=st.booleans(),
    )
    def launch(self, sampler: str, scheduler: str, concurrency: int, constrained: bool) -> None:
        self.plan: dict[tuple[int, int], str] = {}
        space = make_space(
            sampler=sampler,
            scheduler=scheduler,
            trials=3,
            constraints=["optimizer.learning_rate <= 0.02"] if constrained else [],
        )
        self.work = tempfile.TemporaryDirectory(dir=IN_MEMORY)
        self.one = machine(
            Path(self.work.name),
            space,
            concurrency=concurrency,
            fails=lambda number, epoch: self.plan.get((number, epoch)),
        )
        self.over: list[dict[str, Any]] = []

    def _some(self, session: Session, steps: int) -> None:
        for _ in range(steps):
            if not session.step():
                break

    @rule(steps=st.integers(0, 8))
    def run_and_end_cleanly(self, steps: int) -> None:
        with self.one.session() as session:
            self._some(session, steps)

    @rule(write=st.integers(0, 40))
    def kill_before_a_write(self, write: int) -> None:
        self.one.run(kill_before=write)

    @rule(
        number=st.integers(0, 4),
        epoch=st.integers(1, 3),
        reason=st.sampled_from(["nonfinite", "out_of_memory", "error"]),
    )
    def a_trial_will_fail(self, number: int, epoch: int, reason: str) -> None:
        if (number, epoch) not in self.one.executed:  # as the settings say, so the same every time
            self.plan[number, epoch] = reason

    @precondition(lambda self: self.one.space.budget.trials < 6)
    @rule()
    def extend(self) -> None:
        self.one.space = with_trials(self.one.space, self.one.space.budget.trials + 1)

    @rule()
    def resume_to_the_end(self) -> None:
        assert self.one.run()
        check_end(self.one)

    @invariant()
    def nothing_is_lost(self) -> None:
        check_acknowledged(self.one)
        self.over = check_finished_unchanged(self.one, self.over)
        assert sum(r.counts for r in self.one.records()) <= self.one.space.budget.trials

    def teardown(self) -> None:
        if hasattr(self, "one"):
            self.resume_to_the_end()
            self.nothing_is_lost()
            self.work.cleanup()


def test_no_order_of_sessions_kills_failures_and_extensions_breaks_an_invariant() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Interruptions,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=6,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=not THOROUGH,
            database=None,
        ),
    )


def test_a_kill_before_or_after_a_trial_is_recorded_leaves_no_half_of_it(disk: Path) -> None:
    space = make_space(trials=1)
    undisturbed = machine(disk / "undisturbed", space)
    undisturbed.run()
    for k in (1, 2):  # a note, then the trial
        one = machine(disk / str(k), space)
        one.run(kill_before=k)
        assert [r.params for r in one.records()] == [undisturbed.records()[0].params][: k - 1]
        one.run()
        assert one.result() == undisturbed.result()


def test_a_coordinator_is_told_the_space_by_the_study_not_by_whoever_opens_it(
    disk: Path,
) -> None:
    one = machine(disk, make_space(trials=2))
    with one.folder.records.create(make_space(trials=9)) as study:
        assert Coordinator(study, count_parameters=lambda _: 0).space.budget.trials == 2


@pytest.mark.fault("driver-sigkill")
def test_the_epochs_of_a_report_are_one_commit_and_nobody_hears_of_them_before(
    tmp_path: Path,
) -> None:
    from record.test_study import written_commits

    place, heard = machine(tmp_path, make_space(trials=2, epochs=5)), Heard()
    with place.folder.records.create(place.space) as study:
        coordinator = Coordinator(study, count_parameters=lambda trial: 1, listeners=(heard,))
        first, second = coordinator.next(), coordinator.next()
        assert first is not None
        assert second is not None
        heard.events.clear()
        commits = written_commits(study)
        with coordinator.together():
            for epoch in (1, 2, 3):
                assert coordinator.epoch(0, formula(first.trial, epoch))
                assert coordinator.epoch(1, formula(second.trial, epoch))
            assert (heard.events, commits) == ([], [])
        assert len(commits) == 1
        assert [(e.number, e.epoch.number) for e in heard.events if isinstance(e, EpochEnded)] == [
            (number, epoch) for epoch in (1, 2, 3) for number in (0, 1)
        ]
        with coordinator.together():  # an end writes what came before it
            coordinator.epoch(0, formula(first.trial, 4))
            coordinator.epoch(0, formula(first.trial, 5))
            coordinator.end(0)
            assert len(commits) == 3
        assert len(commits) == 3
        assert [len(record.history) for record in study.trials()] == [5, 3]
        with pytest.raises(Killed), coordinator.together():
            coordinator.epoch(1, formula(second.trial, 4))
            raise Killed
        assert [len(record.history) for record in study.trials()] == [5, 3]
