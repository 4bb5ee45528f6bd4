"""What people ask of a sweep while it runs: requests in its folder, answers in its study."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.crash_points import POINTS
from ckconv_sweep.record.budget import asked, is_finished
from ckconv_sweep.record.events import Ended, Started
from ckconv_sweep.record.requests import NOTE, PAUSED, Answer, Request, Requests, answers
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.progress import Progress
from ckconv_sweep.sweep import control

from .in_process import Heard, Killed, Machine, Session, formula, machine, make_space

POINT = {
    "optimizer.learning_rate": 0.01,
    "model.dropout": 0.1,
    "schedule": "plateau",
    "schedule.plateau.patience": 2,
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is looked at whenever there is time."""
    monkeypatch.setattr(control, "LOOK_SECONDS", 0.0)


def ask(of: Machine, kind: Any, **fields: Any) -> str:
    return Requests(of.folder).put(Request(kind=kind, **fields))


def answer(to: str, of: Machine) -> Answer:
    with of.folder.records.open() as study:
        return answers(study.notes())[to]


def waiting(of: Machine) -> list[str]:
    return [name for name, _ in Requests(of.folder).waiting()]


def drawn(records: list[TrialRecord]) -> list[dict[str, Any]]:
    """What the sampler chose, in the order in which it did."""
    own = sorted((r for r in records if not r.request), key=lambda r: r.position or 0)
    return [dict(r.params) for r in own]


def without_seed(trial: Trial, number: int) -> Epoch:
    """The same metrics whatever a trial's number is."""
    training = trial.training.model_copy(update={"seed": 0})
    return formula(trial.model_copy(update={"training": training}), number)


# add


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid"])
def test_an_added_trial_comes_next_and_on_top_of_what_would_have_been_drawn_without(
    sampler: str, disk: Path
) -> None:
    space = make_space(sampler=sampler, trials=4)
    alone, one = machine(disk / "alone", space), machine(disk / "one", space, concurrency=1)
    assert alone.run()
    params = dict(alone.records()[0].params)
    with one.session() as session:
        session.step()
        name = ask(one, "add", params=params)
        session.run()
        assert session.handed_out == [0, 1, 2, 3, 4]
    records = one.records()
    assert [bool(record.request) for record in records] == [False, True, False, False, False]
    assert (records[1].request, records[1].params) == (name, params)
    assert drawn(records) == drawn(alone.records())
    assert {record.outcome for record in records} == {"completed"}
    assert answer(name, one).said == "it is t001, and comes next"
    assert waiting(one) == []
    assert is_finished(records, space)
    assert asked(records, space) == 5


def test_a_tpe_learns_from_an_added_trial(disk: Path) -> None:
    space = make_space(sampler="tpe", trials=14, epochs=1)
    alone = machine(disk / "alone", space, concurrency=1, work=without_seed)
    one = machine(disk / "one", space, concurrency=1, work=without_seed)
    ask(one, "add", params=POINT)
    assert alone.run()
    assert one.run()
    assert drawn(one.records()) != drawn(alone.records())


def test_a_finished_sweep_takes_one_more(disk: Path) -> None:
    one = machine(disk, make_space(trials=2))
    assert one.run()
    ask(one, "add", params=POINT)
    assert one.run()
    assert [record.outcome for record in one.records()] == ["completed"] * 3
    assert is_finished(one.records(), one.space)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"params": {}}, "schedule is missing"),
        ({"params": POINT | {"model.dropout": 0.15}}, "model.dropout is 0.15, and what is"),
        ({"params": POINT | {"model.blocks": 2}}, "nothing called model.blocks is searched here"),
        ({"params": POINT, "changes": {"model.blocks": -1}}, "these settings make no trial: "),
        (
            {"params": POINT, "changes": {"model.hidden_channels": 30}},
            "model.parameters <= 2_000 does not hold: 3_000",
        ),
        ({"params": POINT, "retry_of": 0}, "trial 0 has not failed: "),
        ({"params": POINT, "retry_of": 9}, "there is no trial 9"),
    ],
)
def test_what_cannot_be_a_trial_is_refused_by_the_driver_too(
    fields: dict[str, Any], why: str, disk: Path
) -> None:
    one = machine(disk, make_space(trials=1, constraints=["model.parameters <= 2_000"]))
    with one.session() as session:
        session.step()
        name = ask(one, "add", **fields)
        session.run()
    found = answer(name, one)
    assert found.refused
    assert found.said.startswith(why)
    assert len(one.records()) == 1
    assert waiting(one) == []


@pytest.mark.parametrize(
    ("options", "trials"),
    [({"sampler": "grid", "trials": 100}, 7), ({"repeats": "{seeds: 2}", "trials": 2}, 6)],
)
def test_the_number_of_trials_that_are_shown_grows_with_what_is_added(
    options: dict[str, Any], trials: int, disk: Path
) -> None:
    space = make_space(**options)
    heard = Heard()
    one = machine(disk, space, listeners=(heard,))
    point = {name: POINT.get(name, 0.1) for name in space.parameters()}
    ask(one, "add", params=space.draw(lambda name, domain: point[name]))
    assert one.run()
    live, read = Progress(space.metrics, space), Progress(space.metrics, space)
    for event in heard.events:
        live.hear(event)
    read.begin(one.records())
    assert live.asked == read.asked == asked(one.records(), space) == trials
    assert live.ended == trials


# retry


def failing(number: int, epoch: int) -> str | None:
    return {0: "out_of_memory", 1: "nonfinite"}.get(number)


def test_a_failed_trial_is_tried_again_under_a_new_number_and_stays_as_it_is(disk: Path) -> None:
    one = machine(disk, make_space(trials=4), fails=failing)
    assert one.run()
    before = one.records()
    params = dict(before[0].params)
    name = ask(one, "add", params=params, retry_of=0)
    assert one.run()
    records = one.records()
    assert records[:4] == before
    assert (records[4].retry_of, records[4].params, records[4].outcome) == (0, params, "completed")
    again = ask(one, "add", params=params, retry_of=0)
    assert one.run()
    assert answer(name, one).said == "it is t004, and comes next"
    assert answer(again, one).said == "trial 0 is tried again already, as trial 4"
    assert len(one.records()) == 5


def test_a_change_beside_the_space_is_trained_and_no_sampler_learns_from_it(disk: Path) -> None:
    space = make_space(sampler="tpe", trials=14, epochs=1)
    heard, changes = Heard(), {"model.blocks": 2}
    alone = machine(disk / "alone", space, concurrency=1, work=without_seed)
    one = machine(disk / "one", space, concurrency=1, work=without_seed, listeners=(heard,))
    ask(one, "add", params=POINT, changes=changes)
    assert alone.run()
    assert one.run()
    added = [event for event in heard.events if isinstance(event, Started) and event.origin]
    assert [event.trial.model.blocks for event in added] == [2]
    assert [r.changes for r in one.records() if r.request] == [changes]
    assert drawn(one.records()) == drawn(alone.records())


# pause, concurrency, stop


def test_a_paused_sweep_trains_nothing_and_goes_on_as_if_it_had_not_been(disk: Path) -> None:
    space = make_space(trials=4)
    alone, one = machine(disk / "alone", space), machine(disk / "one", space)
    assert alone.run()
    with one.session() as session:
        session.step()
        paused = ask(one, "pause")
        session.step()
        assert answer(paused, one) == Answer(
            asked="pause",
            said="first t000, t001 end the epoch that is being trained",
            done=False,
            at_ms=answer(paused, one).at_ms,
        )
        session.run()  # nobody has work
        session.coordinator.attend()
        assert session.coordinator.room == 0
        assert session.coordinator.awaited
        assert session.coordinator.left == 0
        assert answer(paused, one).said == "paused after trial 0, epoch 2"
        assert answer(paused, one).done
        assert session.study.note(PAUSED) is True
        executed = one.executed.total()
        session.step()
        assert one.executed.total() == executed
        ask(one, "continue")
        session.run()
        assert session.study.note(PAUSED) is False
    assert one.result() == alone.result()
    assert set(one.executed.values()) == {1}


def test_a_pause_takes_nothing_of_the_hours(disk: Path) -> None:
    one = machine(disk, make_space(trials=2, hours=1.0))
    with one.session() as session:
        session.step()
        ask(one, "pause")
        session.run()
        session.coordinator.attend()
        one.clock.now += 7200
        assert not session.coordinator.stopping
        ask(one, "continue")
        session.run()
    assert [record.outcome for record in one.records()] == ["completed"] * 2
    assert max(record.spent_seconds for record in one.records()) < 3600


def test_a_pause_ends_with_its_session(disk: Path) -> None:
    one = machine(disk, make_space(trials=3))
    with one.session() as session:
        session.step()
        ask(one, "pause")
        session.run()
    assert one.run()
    assert [record.outcome for record in one.records()] == ["completed"] * 3
    with one.folder.records.open() as study:
        assert not study.note(PAUSED)


def test_a_pause_that_was_not_over_with_its_session_is_told_so(disk: Path) -> None:
    one = machine(disk, make_space(trials=3))
    with one.session() as session:
        session.step()
        name = ask(one, "pause")
        session.coordinator.attend()
    assert not answer(name, one).done
    with one.session():
        pass
    assert answer(name, one).said == "the session ended before that"


def test_fewer_at_a_time_means_that_the_others_wait_and_lose_nothing(disk: Path) -> None:
    space = make_space(trials=6)
    one = machine(disk, space, concurrency=4)
    most = []
    with one.session() as session:
        session.step()
        assert len(session.coordinator.running) == 4
        name = ask(one, "concurrency", number=2)
        for _ in range(3):
            session.step()
        while session.step():
            most.append(len(session.coordinator.running))
    assert max(most) == 2
    assert set(one.executed.values()) == {1}
    assert [record.outcome for record in one.records()] == ["completed"] * 6
    assert answer(name, one).said == "at most 2 at a time from now on, also after a resume"
    with one.folder.records.open() as study:
        assert study.note("options") == {"concurrency": 2}


def test_more_than_the_session_has_places_for_comes_with_the_next_one(disk: Path) -> None:
    one = machine(disk, make_space(trials=2), concurrency=2)
    name = ask(one, "concurrency", number=8)
    assert one.run()
    assert answer(name, one).said == (
        "this session can run 2 at a time, and does so from now on; the next one can run 8"
    )
    with one.folder.records.open() as study:
        assert study.note("options") == {"concurrency": 8}


def test_a_stopped_sweep_lets_epochs_end_and_is_resumed(disk: Path) -> None:
    space = make_space(trials=4)
    alone, one = machine(disk / "alone", space), machine(disk / "one", space)
    assert alone.run()
    with one.session() as session:
        session.step()
        name = ask(one, "stop")
        session.run()
        session.coordinator.control.close(session.coordinator)
        assert session.coordinator.stopping
    assert answer(name, one).said == "stopped after trial 0, epoch 2"
    assert [record.outcome for record in one.records()] == ["running"] * 2
    assert one.run()
    assert one.result() == alone.result()
    assert set(one.executed.values()) == {1}


@pytest.mark.parametrize("paused", [False, True])
def test_a_stopped_trial_is_recorded_as_that(paused: bool, disk: Path) -> None:
    heard = Heard()
    one = machine(disk, make_space(trials=3), listeners=(heard,))
    with one.session() as session:
        session.step()
        session.step()
        if paused:
            ask(one, "pause")
            session.run()
        name = ask(one, "stop_trial", number=1)
        session.run()
        if paused:
            ask(one, "continue")
        session.run()
    records = one.records()
    assert (records[1].outcome, records[1].reason) == ("pruned", "stopped")
    assert 1 <= len(records[1].history) < 3
    assert answer(name, one).said == f"it ended after {len(records[1].history)} epochs"
    assert [e.reason for e in heard.events if isinstance(e, Ended) and e.number == 1] == ["stopped"]
    assert [records[i].outcome for i in (0, 2)] == ["completed"] * 2
    with one.folder.records.open() as study:
        assert study.contradictions() == []


def test_a_stop_is_answered_as_one_also_by_the_next_driver(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(point: str) -> None:
        if point == "request.obeyed":
            raise Killed

    one = machine(disk, make_space(trials=2))
    with one.session() as session:
        session.step()
        name = ask(one, "stop_trial", number=1)
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(control, "crash_point", killed)
            session.run()
    assert one.run()
    said = f"it ended after {len(one.records()[1].history)} epochs"
    assert (answer(name, one).said, answer(name, one).refused) == (said, False)


def test_a_trial_that_is_stopped_before_its_first_epoch_failed(disk: Path) -> None:
    heard = Heard()
    one = machine(disk, make_space(trials=1), concurrency=1, listeners=(heard,))
    ask(one, "add", params=POINT)
    ask(one, "stop_trial", number=0)
    assert one.run()
    records = one.records()
    assert (records[0].outcome, records[0].reason) == ("failed", "stopped")
    assert records[1].outcome == "completed"
    assert heard.started == [0, 1]
    with one.folder.records.open() as study:
        assert study.contradictions() == []


@pytest.mark.parametrize(
    ("number", "why"),
    [(0, "trial 0 has ended already: completed"), (7, "there is no trial 7")],
)
def test_who_stops_what_does_not_run_is_told_so(number: int, why: str, disk: Path) -> None:
    one = machine(disk, make_space(trials=1))
    assert one.run()
    name = ask(one, "stop_trial", number=number)
    assert one.run()
    assert answer(name, one).refused
    assert answer(name, one).said == why


# What the driver finds in the folder


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1-pause.json", b""),
        ("1-pause.json", b"{"),
        ("1-pause.json", b"[" * 60_000),
        ("1-pause.json", b"\xff\xfe"),
        ("1-pause.json", b'{"kind": "pause", "shell": "rm -rf /"}'),
        ("1-pause.json", b'{"kind": "explode"}'),
        ("1-pause.json", b'{"kind": "concurrency", "number": "2"}'),
        ("1-pause.json", b" " * 100_000),
        ("1-0123456789abcdef.json", b"{}"),
        ("notes.txt", b"buy milk"),
    ],
)
def test_a_damaged_or_foreign_file_is_named_once_and_left_alone(
    name: str, content: bytes, disk: Path
) -> None:
    heard = Heard()
    one = machine(disk, make_space(trials=2), listeners=(heard,))
    file = one.folder.root / "requests" / name
    file.parent.mkdir()
    file.write_bytes(content)
    (file.parent / ".tmp-half-written").write_bytes(b'{"kind": "pause"}')
    good = ask(one, "concurrency", number=1)
    assert one.run()
    assert len([line for line in heard.said if name in line]) == 1
    assert file.read_bytes() == content
    assert answer(good, one).done
    assert len(one.records()) == 2


def test_what_is_no_file_is_not_opened(disk: Path) -> None:
    heard = Heard()
    one = machine(disk, make_space(trials=1), listeners=(heard,))
    folder = one.folder.root / "requests"
    folder.mkdir()
    os.mkfifo(folder / "fifo.json")
    (folder / "folder.json").mkdir()
    (folder / "link.json").symlink_to(one.folder.space)
    assert one.run()
    assert sum("it is no file of ours" in line for line in heard.said) == 3


def test_requests_are_taken_in_the_order_in_which_they_were_made(disk: Path) -> None:
    heard = Heard()
    one = machine(disk, make_space(trials=1), listeners=(heard,))
    for number in (3, 1, 2):
        ask(one, "concurrency", number=number)
    assert one.run()
    taken = [line.partition(":")[0] for line in heard.said]
    assert taken == ["concurrency 3", "concurrency 1", "concurrency 2"]
    with one.folder.records.open() as study:
        assert study.note("options") == {"concurrency": 2}


def test_the_folder_is_looked_at_twice_a_second_at_most(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    one, looks = machine(disk, make_space(trials=1)), []
    monkeypatch.setattr(Requests, "waiting", lambda self: looks.append(one.clock.now) or iter(()))
    with one.session() as session:
        for _ in range(100):
            session.coordinator.attend()
            one.clock.now += 0.25
    assert len(looks) == 50


# Kills


def asked_at(one: Machine, session: Session) -> None:
    """All kinds, at one moment."""
    session.step()
    ask(one, "add", params=POINT)
    ask(one, "concurrency", number=1)
    ask(one, "stop_trial", number=1)
    ask(one, "add", params=POINT | {"model.dropout": 0.2})


@pytest.mark.fault("request-taken-once")
def test_a_kill_at_any_write_takes_no_request_twice_and_none_is_forgotten(disk: Path) -> None:
    space = make_space(trials=3, epochs=2)
    for kill in range(0, 100, 5):
        one = machine(disk / str(kill), space)
        with one.session() as session:
            asked_at(one, session)
        try:
            with one.session(kill_before=kill) as session:
                session.run()
        except Killed:
            assert one.run()
        else:
            assert kill > 20
            break
        records = one.records()
        added = [r for r in records if r.request]
        assert [r.params["model.dropout"] for r in added] == [0.1, 0.2]
        assert {r.outcome for r in records if r.number != 1} == {"completed"}
        assert records[1].reason in ("stopped",)
        assert len(records) == 5
        assert waiting(one) == []
        with one.folder.records.open() as study:
            found = answers(study.notes())
            assert len(found) == 4
            assert [a.done for a in found.values()] == [True] * 4
            assert study.contradictions() == []
    else:
        raise AssertionError("it never came to its end")


def test_a_request_that_has_its_answer_is_only_taken_away(disk: Path) -> None:
    one = machine(disk, make_space(trials=1))
    name = ask(one, "add", params=POINT)
    content = (one.folder.root / "requests" / name).read_bytes()
    assert one.run()
    (one.folder.root / "requests" / name).write_bytes(content)
    assert one.run()
    assert len(one.records()) == 2
    assert waiting(one) == []


def test_a_file_that_cannot_be_taken_away_is_not_taken_twice(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Requests, name: str) -> None:
        raise PermissionError

    monkeypatch.setattr(Requests, "take_away", refuse)
    one = machine(disk, make_space(trials=1))
    ask(one, "add", params=POINT)
    assert one.run()
    assert one.run()
    assert len(one.records()) == 2


def test_an_old_study_has_no_answers_and_no_added_trials(disk: Path) -> None:
    one = machine(disk, make_space(trials=1))
    assert one.run()
    with one.folder.records.open() as study:
        assert not any(key.startswith(NOTE) for key in study.notes())
        assert answers(study.notes()) == {}
    assert [(r.request, r.retry_of, r.changes) for r in one.records()] == [("", None, {})]
    assert {"request.obeyed", "request.answered"} <= set(POINTS)


@pytest.fixture
def written(disk: Path) -> Any:
    one = machine(disk, make_space(trials=1))
    name = ask(one, "add", params=POINT, changes={"model.blocks": 2}, retry_of=3)
    return json.loads((one.folder.root / "requests" / name).read_text())


def test_a_request_says_no_more_than_it_must(written: Any) -> None:
    assert written == {
        "kind": "add",
        "params": POINT,
        "changes": {"model.blocks": 2},
        "retry_of": 3,
    }
