"""Who trains what: the desk over a real coordinator and study, and seats that only speak."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sweep.in_process import make_space

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import CannotWrite, ResourcesMissing
from ckconv_sweep.execution import desk as desks
from ckconv_sweep.execution.desk import Desk
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.roster import MOST_FAULTS, Roster
from ckconv_sweep.execution.worker import FAULT, GPU_FAULT, NO_WRITING
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.requests import Request, Requests
from ckconv_sweep.record.study import Study
from ckconv_sweep.sweep import control
from ckconv_sweep.sweep.coordinator import Coordinator

EPOCHS = 3


@dataclass
class Place:
    study: Study
    coordinator: Coordinator
    desk: Desk
    attempts: dict[int, str] = field(default_factory=dict)

    def ask(self, seat: str, *said: dict[str, Any]) -> list[int] | None:
        """The numbers of the trials that a seat is given; None where it is to end."""
        orders = self.desk.heard(seat, list(said))
        if orders is None:
            return None
        given = {int(Path(new["folder"]).name): new["attempt"] for new in orders["new"]}
        self.attempts |= given
        return list(given)

    def epoch(self, trial: int, number: int, seconds: float = 0.1) -> dict[str, Any]:
        metrics = {"val/accuracy": 0.5, "time/epoch_seconds": seconds}
        epoch = Epoch(number=number, metrics=metrics, timestamp_ms=time.time_ns() // 1_000_000)
        said = {"epoch": asdict(epoch), "warnings": [], "memory_gib": 0.5, "data": "d"}
        return {"attempt": self.attempts[trial], **said}

    def ended(self, trial: int) -> dict[str, Any]:
        return {"attempt": self.attempts[trial], "ended": True}


@pytest.fixture
def place(disk: Path) -> Iterator[Place]:
    folder = SweepFolder.of(disk, "sweep")
    folder.make()
    space = make_space(trials=6, epochs=EPOCHS)
    with folder.records.create(space) as study:
        coordinator = Coordinator(study, count_parameters=lambda trial: 1)
        data = KnownData(space, load(space.trial.data).identity)
        yield Place(
            study, coordinator, Desk(coordinator, data, places=1, at_a_time=2, roster=Roster())
        )


def test_seats_are_wanted_before_a_trial_is_drawn_and_no_more_than_there_are_places(
    place: Place,
) -> None:
    for seat in ("a", "b"):
        assert place.desk.seat_wanted() == 1
        place.desk.open(seat, 1)
    assert place.desk.seat_wanted() == 0
    assert place.study.trials() == []
    assert place.ask("a") == [0]
    assert place.ask("b") == [1]
    assert place.ask("a") == []


def test_a_pack_trains_the_seeds_of_a_setting_together(disk: Path) -> None:
    folder = SweepFolder.of(disk, "sweep")
    folder.make()
    space = make_space(trials=4, epochs=EPOCHS, repeats="{seeds: 3}")
    with folder.records.create(space) as study:
        coordinator = Coordinator(study, count_parameters=lambda trial: 1)
        data = KnownData(space, load(space.trial.data).identity)
        place = Place(
            study, coordinator, Desk(coordinator, data, places=3, at_a_time=6, roster=Roster())
        )
        place.desk.open("a", 3)
        place.desk.open("b", 3)
        for seat, first in (("a", 0), ("b", 3)):
            given = place.ask(seat)
            assert given == [first, first + 1, first + 2]
            assert [study.trial(n).repeat_of for n in given] == [None, first, first]


def test_the_next_trial_comes_before_the_last_short_epoch_has_ended(place: Place) -> None:
    place.desk.open("a", 1)
    place.desk.open("b", 1)
    assert place.ask("a") == [0]
    assert place.ask("b") == [1]
    assert place.ask("a", place.epoch(0, 1)) == []
    assert place.ask("a", place.epoch(0, 2)) == [2]
    assert place.ask("a") == []
    assert place.ask("b", place.epoch(1, 1, desks.AHEAD_SECONDS)) == []
    assert place.ask("b", place.epoch(1, 2, desks.AHEAD_SECONDS)) == []
    assert place.ask("b", place.epoch(1, 3, desks.AHEAD_SECONDS), place.ended(1)) == [3]
    assert place.ask("a", place.epoch(0, 3), place.ended(0)) == []
    assert place.ask("a", place.epoch(2, 1)) == []


@pytest.mark.fault("worker-killed")
def test_a_death_counts_for_the_trials_that_were_trained_and_not_for_one_that_waited(
    place: Place,
) -> None:
    for death in range(desks.MOST_DEATHS + 1):
        seat = f"seat-{death}"
        place.desk.open(seat, 1)
        given = place.ask(seat)
        assert given is not None
        assert given[0] == 0
        if not death:
            assert place.ask(seat, place.epoch(0, 1), place.epoch(0, 2)) == [1]
        else:
            # It tells again what it reads from its checkpoint.
            assert place.ask(seat, place.epoch(0, 1), place.epoch(0, 2)) == [1]
        place.desk.last_words[seat] = "The actor died unexpectedly"
        place.desk.died(seat)
    first, second = place.study.trials()
    assert (first.outcome, first.reason, len(first.history)) == ("failed", "worker_died", 2)
    assert second.outcome == "running"
    assert place.desk._deaths[1] == 0


def test_seats_that_die_without_a_word_are_started_after_growing_pauses_and_not_for_ever(
    place: Place,
) -> None:
    pauses = []
    while place.coordinator.fatal is None:
        assert place.desk.seat_wanted() == 1
        pauses.append(place.desk.open("seat", 1))
        place.desk.last_words["seat"] = (
            "Traceback ...\nModuleNotFoundError: No module named 'torch'"
        )
        place.desk.died("seat")
    assert pauses == [0.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    assert isinstance(place.coordinator.fatal, ResourcesMissing)
    assert "at last with: ModuleNotFoundError: No module named 'torch'" in str(
        place.coordinator.fatal
    )
    assert place.desk.seat_wanted() == 0
    assert place.desk.over
    assert place.study.trials() == []


def test_seats_that_cannot_start_are_not_started_at_once_again_because_another_one_works(
    place: Place,
) -> None:
    ready = {"ready": 1, "node": "a", "name": "10.0.0.1"}
    place.desk.open("works", 1)
    assert place.ask("works", ready) == [0]
    pauses = []
    for _ in range(2 * desks.MOST_FALSE_STARTS):
        assert place.desk.seat_wanted() == 1
        pauses.append(place.desk.open("dies", 1))
        assert place.ask("works") == []
        place.desk.died("dies")
    assert pauses[:6] == [0.0, 2.0, 4.0, 8.0, 16.0, 30.0]
    assert set(pauses[6:]) == {desks.LONGEST_PAUSE_SECONDS}
    assert place.coordinator.fatal is None

    place.desk.open("dies", 1)
    assert place.ask("dies", ready) == [1]
    place.desk.died("dies")
    assert place.desk.open("dies", 1) == 0.0

    place.desk.died("works")
    for _ in range(desks.MOST_FALSE_STARTS + 1):
        place.desk.died("dies")
        place.desk.open("dies", 1)
    assert isinstance(place.coordinator.fatal, ResourcesMissing)


def test_a_trial_that_is_handed_out_again_comes_with_what_the_study_has_of_it(
    place: Place,
) -> None:
    place.desk.open("a", 1)
    (new,) = place.desk.heard("a", [{"ready": 1, "node": "n"}])["new"]  # type: ignore[index]
    assert new["recorded"] == []
    place.attempts[0] = new["attempt"]
    said = place.epoch(0, 1)
    assert place.ask("a", said) == []
    place.desk.died("a")
    place.desk.open("b", 1)
    (new,) = place.desk.heard("b", [{"ready": 1, "node": "n"}])["new"]  # type: ignore[index]
    assert [Epoch(**epoch) for epoch in new["recorded"]] == [Epoch(**said["epoch"])]


def test_a_seat_with_nothing_to_do_stays_while_another_may_lose_its_trial(place: Place) -> None:
    place.desk.open("a", 1)
    place.desk.open("b", 1)
    assert place.ask("a") == [0]
    given = place.ask("b")
    for number in range(1, 6):
        assert given == [number]
        epochs = (place.epoch(number, n, desks.AHEAD_SECONDS) for n in range(1, EPOCHS + 1))
        given = place.ask("b", *epochs, place.ended(number))
    assert given == []
    assert not place.desk.over
    place.desk.died("a")
    assert place.ask("b") == [0]
    assert place.desk.seat_wanted() == 0
    epochs = (place.epoch(0, n) for n in range(1, EPOCHS + 1))
    assert place.ask("b", *epochs, place.ended(0)) is None
    place.desk.ended("b")
    assert place.desk.over
    assert [record.outcome for record in place.study.trials()] == ["completed"] * 6


# What people ask meanwhile


@pytest.fixture
def asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Asks something, and lets it be heard."""
    monkeypatch.setattr(control, "LOOK_SECONDS", 0.0)

    def ask(kind: Any, number: int = 0) -> None:
        Requests(place.study.folder).put(Request(kind=kind, number=number))
        place.desk.attend()

    return ask


def test_the_seats_of_a_paused_sweep_end_and_others_come_when_it_goes_on(
    place: Place, asked: Callable[..., None]
) -> None:
    for seat, number in {"a": 0, "b": 1}.items():
        place.desk.open(seat, 1)
        assert place.ask(seat) == [number]
    asked("pause")
    assert place.ask("a") == []  # its epoch is being trained
    for seat, number in {"a": 0, "b": 1}.items():
        assert place.ask(seat, place.epoch(number, 1)) is None
        place.desk.ended(seat)
    assert place.desk.seat_wanted() == 0
    assert not place.desk.over
    asked("continue")
    assert place.desk.seat_wanted() == 1
    place.desk.open("c", 1)
    assert place.ask("c") == [0]
    assert place.ask("c", place.epoch(0, 1), place.epoch(0, 2)) == [1]  # it is short: one ahead


def test_a_seat_leaves_when_fewer_are_to_run_and_comes_back_when_there_is_room(
    place: Place, asked: Callable[..., None]
) -> None:
    for seat, number in {"a": 0, "b": 1}.items():
        place.desk.open(seat, 1)
        assert place.ask(seat) == [number]
    asked("concurrency", 1)
    assert place.ask("b", place.epoch(1, 1)) is None
    place.desk.ended("b")
    assert place.ask("a", place.epoch(0, 1)) == []
    assert place.desk.seat_wanted() == 0
    asked("concurrency", 2)
    assert place.desk.seat_wanted() == 1
    place.desk.open("c", 1)
    assert place.ask("c") == [1]


def test_a_seat_is_told_of_a_trial_that_a_person_stopped_though_it_has_nothing_to_say(
    place: Place, asked: Callable[..., None]
) -> None:
    place.desk.open("a", 1)
    assert place.ask("a") == [0]
    asked("stop_trial", 0)
    orders = place.desk.heard("a", [])
    assert orders is not None
    assert orders["gone"] == [place.attempts[0]]
    assert [Path(new["folder"]).name for new in orders["new"]] == ["0001"]
    assert place.desk.heard("a", [place.epoch(0, 1)]) == {"gone": [], "new": []}
    assert place.study.trials()[0].history == ()


def test_trials_that_wait_for_others_of_their_shape_wait_for_the_end_of_a_pause(
    place: Place, asked: Callable[..., None]
) -> None:
    place.desk._packing.places = 3
    place.desk.open("a", 1)
    assert place.ask("a") == [0]
    assert sorted(place.desk._drawn) == [1, 2]
    asked("pause")
    assert place.desk._drawn == {}
    assert place.coordinator.running == [0]
    assert place.ask("a", place.epoch(0, 1)) is None
    asked("continue")
    place.desk.open("b", 1)
    assert place.ask("b") == [1]


def test_trials_of_a_seat_share_its_gpu_while_they_are_in_it_together(place: Place) -> None:
    desk = Desk(
        place.coordinator, place.desk._data, places=2, at_a_time=2, roster=Roster(), gpus=0.5
    )
    place.desk = desk
    desk.open("a", 2)
    given = place.ask("a") or []
    assert len(given) == 2
    for number in (1, 2, 3):
        place.ask("a", *(place.epoch(trial, number, 100.0) for trial in given))
    place.ask("a", *(place.ended(trial) for trial in given))
    used = [place.study.trial(trial).gpu_seconds for trial in given]
    assert used == [75.0, 75.0]  # three epochs of 100 s, with a quarter each


def fault(place: Place, trial: int, reason: str, node: str = "b") -> dict[str, Any]:
    """What a seat says whose node cannot train the trial."""
    where = {"node": node, "name": f"10.0.0.{node}"}
    return {"attempt": place.attempts[trial], "reason": reason, "error": "no disk", **where}


@pytest.mark.fault("node-fault")
@pytest.mark.parametrize("reason", [FAULT, NO_WRITING])
def test_a_fault_of_a_node_is_none_of_its_trial_and_the_third_is_the_last(
    place: Place, reason: str
) -> None:
    for turn in range(MOST_FAULTS):
        place.desk.open("b", 1)
        assert place.ask("b", {"ready": 1, "node": "b"}) == [0]
        assert place.desk.roster.unfit == {}, turn
        assert place.ask("b", fault(place, 0, reason)) is None
        place.desk.ended("b")
    assert place.desk.roster.unfit == {"b": "10.0.0.b: no disk"}
    place.desk.open("a", 1)
    assert place.ask("a", {"ready": 1, "node": "a"}) == [0]
    assert place.study.trial(0).outcome == "running"
    assert place.coordinator.fatal is None


@pytest.mark.fault("node-fault")
def test_where_the_drivers_own_node_cannot_write_the_sweep_ends(place: Place) -> None:
    place.desk.open("a", 1)
    assert place.ask("a", {"ready": 1, "node": ""}) == [0]
    place.ask("a", fault(place, 0, NO_WRITING, node=""))
    assert isinstance(place.coordinator.fatal, CannotWrite)


@pytest.mark.fault("node-fault")
def test_a_trial_on_which_a_second_gpu_fails_has_failed(place: Place) -> None:
    for node in ("a", "b"):
        place.desk.open(node, 1)
        assert place.ask(node, {"ready": 1, "node": node}) == [0]
        assert place.ask(node, fault(place, 0, GPU_FAULT, node)) is None
        place.desk.ended(node)
    record = place.study.trial(0)
    assert (record.outcome, record.reason, record.error) == ("failed", "error", "no disk")
    assert place.desk.roster.unfit == {}


@pytest.mark.fault("node-lost")
def test_the_trial_of_a_node_that_leaves_again_and_again_does_not_fail(place: Place) -> None:
    for turn in range(3 * desks.MOST_DEATHS):
        place.desk.open(seat := f"seat-{turn}", 1)
        assert place.ask(seat) == [0]
        place.desk.last_words[seat] = "The actor died because its node has died."
        place.desk.died(seat)
    assert place.study.trial(0).outcome == "running"


def test_seats_follow_the_places(place: Place) -> None:
    for seat in ("a", "b"):
        assert place.desk.seat_wanted() == 1
        place.desk.open(seat, 1)
    assert place.desk.seat_wanted() == 0
    place.desk.has_places(3)
    assert place.desk.seat_wanted() == 1
    place.desk.has_places(1)
    assert place.desk.seat_wanted() == 0
