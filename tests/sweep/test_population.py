"""Population based training: which trials are continued, by what, and what a kill changes."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ckconv_sweep.cli.progress import asked_for, ended_in_words
from ckconv_sweep.config.history import Continue, Epoch
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.budget import asked, is_finished
from ckconv_sweep.record.events import Ended, Started
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.progress import Progress
from ckconv_sweep.report.summary import summarize
from ckconv_sweep.search.view import View
from ckconv_sweep.tracking.note import Standings

from .in_process import Heard, Machine, formula, machine, make_space, with_trials

SEARCH = """
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.dropout: {low: 0.0, high: 0.3}
"""
PBT = "{name: pbt, interval_epochs: 2, fraction: 0.3}"


def population(trials: int = 4, **others: object) -> Space:
    return make_space(scheduler=PBT, search=SEARCH, trials=trials, epochs=6, **others)  # type: ignore[arg-type]


def check(one: Machine) -> list[TrialRecord]:
    """What must hold of every sweep with a population; returns its trials."""
    records = one.records()
    continued = [r.number for r in records if r.outcome == "continued"]
    assert sorted(r.replaces for r in records if r.replaces is not None) == continued
    for record in records:
        numbers = [epoch.number for epoch in record.history]
        first = 1 + (record.from_epoch or 0)
        assert numbers == list(range(first, first + len(numbers)))
        assert isinstance(record.verdict, Continue) == (record.outcome == "continued")
        if record.replaces is None:
            assert record.position is not None or record.first is not None or record.request
            continue
        old, source = records[record.replaces], records[record.from_trial or 0]
        assert old.verdict == Continue(
            source.number, record.from_epoch or 0, old.verdict.reason, record.params
        )
        assert old.last_epoch - (record.from_epoch or 0) in (0, 1)
        at, before = (
            {epoch.number: epoch.metrics["val/accuracy"] for epoch in r.history}
            for r in (source, old)
        )
        assert at[record.from_epoch] > before[record.from_epoch]
        assert record.params != source.params
    with one.folder.records.open() as study:
        assert study.contradictions() == []
    return records


def test_a_trial_among_the_worst_is_continued_from_one_among_the_best(disk: Path) -> None:
    one = machine(disk, population(), concurrency=4)
    assert one.run()
    records = check(one)
    outcomes = Counter(record.outcome for record in records)
    assert outcomes["completed"] == 4
    assert outcomes["continued"] >= 2
    assert sum(record.is_of_budget for record in records) == asked(records, one.space) == 4
    assert is_finished(records, one.space)
    for record in records:
        if record.outcome == "completed":
            assert record.last_epoch == 6
        values = [epoch.metrics["val/accuracy"] for epoch in record.history]
        assert record.value(one.space.metric) == max(values)  # of its own epochs alone
    trained = sum(len(record.history) for record in records)
    late = sum(
        records[r.replaces or 0].last_epoch - (r.from_epoch or 0)
        for r in records
        if r.replaces is not None
    )
    assert trained == sum(one.executed.values()) == 4 * 6 + late


@pytest.mark.fault("population-killed")
def test_a_driver_that_is_killed_before_any_write_makes_each_continuation_once(
    disk: Path,
) -> None:
    undisturbed = machine(disk / "undisturbed", population(3), concurrency=3)
    photographs = undisturbed.run_and_photograph(disk / "killed")
    check(undisturbed)
    verdicts = 0
    for one in photographs[::2]:
        before = {r.number: r.verdict for r in one.records() if isinstance(r.verdict, Continue)}
        assert one.run()
        records = check(one)
        assert sum(record.is_of_budget for record in records) == 3
        assert Counter(record.outcome for record in records)["completed"] == 3
        assert is_finished(records, one.space)
        assert all(records[number].verdict == verdict for number, verdict in before.items())
        verdicts += len(before)
    assert verdicts


@pytest.mark.fault("population-killed")
def test_a_sweep_that_is_killed_again_and_again_ends_as_it_must(disk: Path) -> None:
    rng = random.Random(0)
    for n in range(8):
        one = machine(disk / str(n), population(4), concurrency=rng.choice([1, 2, 4]))
        while not one.run(kill_before=rng.randrange(1, 25)):
            unfinished = [r for r in one.records() if r.outcome == "running"]
            assert unfinished or len(one.records()) < 4
        check(one)


@pytest.mark.fault("population-killed")
def test_no_finished_sweep_lacks_a_continuation(disk: Path) -> None:
    """Killed between the verdict and its obedience, the sweep is not taken for finished."""
    undisturbed = machine(disk / "undisturbed", population(2), concurrency=2)
    for one in undisturbed.run_and_photograph(disk / "killed"):
        records = one.records()
        lacking = {r.number for r in records if isinstance(r.verdict, Continue)}
        if lacking - {r.replaces for r in records}:
            assert not is_finished(records, one.space)


def test_the_sampler_learns_from_no_continuation(disk: Path) -> None:
    one = machine(disk, population(sampler="tpe"), concurrency=4)
    assert one.run()
    shown = View(one.space, one.records())._study.get_trials(deepcopy=False)
    assert len(shown) == 4
    more = with_trials(one.space, 6)
    one.space = more
    assert one.run()
    assert sum(record.is_of_budget for record in check(one)) == 6


def test_a_failed_continuation_that_is_tried_again_begins_with_the_same_checkpoint(
    disk: Path,
) -> None:
    one = machine(disk, population(), concurrency=4)
    one.fails = lambda number, epoch: "nonfinite" if number == 4 else None
    assert one.run()
    failed = next(record for record in one.records() if record.outcome == "failed")
    assert failed.replaces is not None
    one.fails = lambda number, epoch: None
    with one.session() as session:
        again = session.coordinator.queue(failed.params, retry_of=failed.number, request="again")
        changed = session.coordinator.queue(
            {**failed.params, "model.dropout": 0.1}, retry_of=failed.number, request="changed"
        )
        session.run()
    records = one.records()
    kept = ("replaces", "from_trial", "from_epoch")
    assert all(records[again].origin[name] == failed.origin[name] for name in kept)
    assert records[again].history[0].number == failed.last_epoch + 1
    assert records[changed].replaces is None
    assert records[changed].history[0].number == 1
    assert is_finished(records, one.space)


def test_a_continuation_has_what_its_source_has_beside_the_space(disk: Path) -> None:
    """The source's weights are of a model with these settings."""
    one = machine(disk, population(), concurrency=5)
    beside = {"model.hidden_channels": 8}

    def work(trial: Trial, number: int) -> Epoch:
        epoch = formula(trial, number)
        better = {"val/accuracy": 0.95} if trial.model.hidden_channels == 8 else {}
        return replace(epoch, metrics={**epoch.metrics, **better})

    one.work = work
    with one.session() as session:
        params = {"optimizer.learning_rate": 0.01, "model.dropout": 0.1}
        session.coordinator.queue(params, request="mine", changes=beside)
        session.run()
    records = check(one)
    goes_on = [record for record in records if record.from_trial == 0]
    assert goes_on
    assert all(record.changes == beside for record in goes_on)


def test_a_failed_trial_is_no_source(disk: Path) -> None:
    one = machine(disk, population(), concurrency=4)
    one.fails = lambda number, epoch: "nonfinite" if epoch == 3 and number < 4 else None
    assert one.run()
    records = one.records()
    ended = {r.number: r.ended_ms or 0 for r in records if r.outcome == "failed"}
    for record in records:
        if record.from_trial in ended and record.replaces is not None:
            assert record.started_ms <= ended[record.from_trial]


def test_a_trial_that_a_person_stops_is_replaced_by_none(disk: Path) -> None:
    one = machine(disk, population(), concurrency=4)
    with one.session() as session:
        session.step()
        session.coordinator.drop(0)
        session.run()
    records = one.records()
    assert records[0].outcome == "pruned"
    assert all(record.replaces != 0 for record in records)


def test_who_looks_on_counts_a_trial_and_what_continues_it_once(disk: Path) -> None:
    heard = Heard()
    one = machine(disk, population(), concurrency=4, listeners=(heard,))
    progress = Progress(one.space.metrics, one.space)
    note = Standings(one.space)
    assert one.run()
    shares = []
    for event in heard.events:
        progress.hear(event)
        note.hear(event)
        assert progress.asked == 4
        assert progress.ended + len(progress.unfinished) <= 4 + 1  # one is made before one ends
        shares.append(progress.ended + sum(left.share for left in progress.unfinished.values()))
    assert progress.ended == shares[-1] == 4
    later = Progress(one.space.metrics, one.space)
    later.begin(one.records())
    assert (later.ended, later.asked, later.counts) == (4, 4, progress.counts)
    assert note._most() == note.best_so_far()[-1][0] == 4
    assert summarize("s", one.records(), one.space, held=False).asked == 4


def test_a_continuation_says_what_it_is(disk: Path) -> None:
    heard = Heard()
    one = machine(disk, population(), concurrency=4, listeners=(heard,))
    one.fails = lambda number, epoch: "nonfinite" if number == 5 else None
    assert one.run()
    started = [e for e in heard.events if isinstance(e, Started) and "replaces" in e.origin]
    ended = {e.number: e for e in heard.events if isinstance(e, Ended)}
    assert started
    for event in started:
        record = one.records()[event.number]
        assert event.epochs_before == record.from_epoch
        assert f"from t{record.from_trial:03d} epoch {record.from_epoch}" in asked_for(event)
        if record.outcome == "failed":
            said = ended_in_words(ended[record.number])
            assert said.startswith(f"failed (nonfinite) after {record.last_epoch} epochs: ")
        told = ended_in_words(ended[record.replaces or 0])
        assert told.startswith("continued by another trial after epoch ")
        if record.outcome == "completed":
            own = ended_in_words(ended[record.number])
            assert own.startswith(f"completed after 6 epochs ({len(record.history)} of its own), ")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"search": "  model.hidden_channels: {low: 2, high: 8}"}, "model.hidden_channels cannot"),
        (
            {"search": "  model.kernel.omega_0: {low: 2.0, high: 8.0}"},
            "model.kernel.omega_0 cannot",
        ),
        ({"search": "  training.epochs: {low: 2, high: 8}"}, "training.epochs cannot"),
        ({"search": "  optimizer: {choices: {adam: {}, sgd: {}}}"}, "adam, sgd"),
        (
            {"search": "  model.weight_dropout: {low: 0.0, high: 0.5}"},
            "model.weight_dropout must not be 0 in some trials only",
        ),
        ({"search": SEARCH, "repeats": "{seeds: 2}"}, "repeats"),
    ],
)
def test_what_cannot_change_while_the_weights_stay_is_refused(
    change: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        make_space(scheduler=PBT, **change)  # type: ignore[arg-type]
    assert says in str(refused.value)
    assert (refused.value.where or "").startswith("space.yaml:")


def test_a_trial_that_a_person_stopped_is_continued_by_none(disk: Path) -> None:
    undisturbed = machine(disk / "undisturbed", population(), concurrency=4)
    assert undisturbed.run()
    first = next(r for r in undisturbed.records() if r.replaces is not None)
    assert first.from_trial is not None
    one = machine(disk / "stopped", population(), concurrency=4)
    with one.session() as session:
        while len(one.records()) < 4 or one.records()[first.from_trial].last_epoch < 2:
            session.step()
        session.coordinator.drop(first.from_trial)
        session.run()
    records = check(one)
    assert records[first.from_trial].reason == "stopped"
    assert all(record.from_trial != first.from_trial for record in records)
    assert any(record.replaces is not None for record in records)
