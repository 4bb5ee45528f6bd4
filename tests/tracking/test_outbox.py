"""MLflow shows what the study knows: all of it, once."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from ckconv_sweep import keys
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.record.events import Event
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.tracking import outbox
from ckconv_sweep.tracking.outbox import Mark, events_of, uid

from .mlflow_real import runs_of
from .tracked import RECORDS, SPACE, all_events, check, deliver, make, record, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture(params=["sqlite", "server"])
def uri(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("database"))
    return str(request.getfixturevalue("server").uri)


def test_mlflow_shows_each_trial_once_with_its_settings_points_and_outcome(uri: str) -> None:
    deliver(uri, "whole", RECORDS)
    check(uri, "whole", RECORDS)


def test_delivering_everything_again_changes_nothing(uri: str) -> None:
    deliver(uri, "twice", RECORDS)
    deliver(uri, "twice", RECORDS, "FINISHED")
    check(uri, "twice", RECORDS, "FINISHED")


@pytest.mark.parametrize("heard", [1, 3, 5, 8])
def test_a_second_tracker_adds_what_one_that_was_abandoned_had_not_delivered(
    heard: int, database: str
) -> None:
    first, _ = make(database, "two")
    first.start()
    for event in all_events(RECORDS[:3])[:heard]:
        first.hear(event)
    wait_until(lambda: first.waiting == 0)
    # Its process dies without a word; the marks are those of some time before.
    stale = {0: Mark(epochs=1)} if heard > 3 else {}
    deliver(database, "two", RECORDS, marks=stale)
    check(database, "two", RECORDS)
    first.close("KILLED")


def test_marks_say_what_mlflow_has_and_what_is_marked_is_not_sent_again(database: str) -> None:
    tracker = deliver(database, "marks", RECORDS)
    assert tracker.marks == {
        0: Mark(3, True),
        1: Mark(1, True),
        2: Mark(2, True),
        3: Mark(0, True),
        4: Mark(2, False),
    }
    later, _ = make(database, "marks", marks=tracker.marks)
    later.catch_up(RECORDS, lambda r: SPACE.resolve(r.params, r.number))
    assert later.waiting == 0
    grown = [*RECORDS[:4], record(4, "completed", 3, "epochs"), RECORDS[5]]
    later.catch_up(grown, lambda r: SPACE.resolve(r.params, r.number))
    assert later.waiting == 3  # its start, the third epoch, the end


def test_a_trial_that_goes_on_after_an_interruption_is_the_same_run(uri: str) -> None:
    first = deliver(uri, "goes-on", RECORDS)
    grown = [*RECORDS[:4], record(4, "completed", 3, "epochs"), RECORDS[5]]
    deliver(uri, "goes-on", grown, "FINISHED", marks=first.marks)
    check(uri, "goes-on", grown, "FINISHED")


def test_the_resolved_space_is_an_artifact_of_the_parent_run(database: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    deliver(database, "artifact", [])
    run = runs_of(database, "artifact")["artifact"]
    assert run.info.artifact_uri.startswith((tmp_path / "mlartifacts").as_uri())
    client = MlflowClient(tracking_uri=database)
    path = client.download_artifacts(run.info.run_id, "space.yaml", str(tmp_path))
    assert Path(path).read_text() == SPACE.to_yaml()


def test_a_run_that_was_made_but_not_described_gets_its_settings(
    database: str, tmp_path: Path
) -> None:
    """As a driver leaves it that is killed between the two."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=database)
    files = (tmp_path / "artifacts").as_uri()
    where = client.create_experiment(keys.EXPERIMENT, artifact_location=files)
    tags = {keys.TAG_UID: uid("half"), "sweep": "half", "role": "sweep"}
    client.create_run(where, run_name="half", tags=tags)
    deliver(database, "half", RECORDS)
    check(database, "half", RECORDS)


def test_a_relative_database_is_opened_where_the_driver_stands(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, "mlflow.db")
    deliver("sqlite:///mlflow.db", "relative", RECORDS)
    check(f"sqlite:///{tmp_path}/mlflow.db", "relative", RECORDS)


@pytest.mark.parametrize("told", ["by the study", "by the coordinator"])
def test_a_run_that_was_deleted_in_the_pages_is_there_again_with_all_of_its_epochs(
    told: str, database: str
) -> None:
    from mlflow import MlflowClient

    first = deliver(database, "deleted", RECORDS)
    MlflowClient(tracking_uri=database).delete_run(runs_of(database, "deleted")["t004"].info.run_id)
    grown = record(4, "completed", 3, "epochs")
    after = [*RECORDS[:4], grown, RECORDS[5]]
    if told == "by the study":
        deliver(database, "deleted", after, "FINISHED", marks=first.marks, lost=True)
    else:
        tracker, said = make(database, "deleted", marks=first.marks)
        tracker.catch_up(RECORDS, lambda r: SPACE.resolve(r.params, r.number))
        tracker.start()
        start, _, _, third, end = events_of(grown, SPACE.resolve(grown.params, 4), SPACE.metrics)
        for event in (start, third, end):
            tracker.hear(event)
        assert tracker.close("FINISHED") == 0
        assert len(said) == 1
    check(database, "deleted", after, "FINISHED")


def test_what_waits_of_one_trial_is_one_call_whatever_came_between(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, said = make(database, "turns")
    written: list[tuple[int, int]] = []
    write = tracker._runs.write_trial

    def counted(number: int, events: Sequence[Event]) -> None:
        written.append((number, len(events)))
        write(number, events)

    monkeypatch.setattr(tracker._runs, "write_trial", counted)
    trials = [all_events([record]) for record in RECORDS[:5]]
    for turn in itertools.zip_longest(*trials):  # as of trials that are trained at a time
        for event in filter(None, turn):
            tracker.hear(event)
    tracker.start()
    assert tracker.close("KILLED") == 0
    assert written == [(i, len(events)) for i, events in enumerate(trials)]
    assert said == []
    check(database, "turns", RECORDS)


def test_a_trial_of_an_earlier_session_waits_as_a_number_until_its_turn_comes(
    database: str,
) -> None:
    tracker, _ = make(database, "numbers")
    made: list[int] = []

    def resolve(record: TrialRecord) -> Trial:
        made.append(record.number)
        return SPACE.resolve(record.params, record.number)

    tracker.catch_up(RECORDS, resolve)
    counted = [r for r in RECORDS if r.counts]
    assert made == [r.number for r in counted if r.outcome == "running"]
    assert tracker.waiting == len(all_events(counted))
    tracker.start()
    assert tracker.close("KILLED") == 0
    assert sorted(made) == [r.number for r in counted]
    check(database, "numbers", RECORDS)


def test_it_is_said_how_far_mlflow_is_behind_and_that_it_has_caught_up(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_LATE_SECONDS", 0.0)
    tracker, said = make(database, "behind")
    events = all_events(RECORDS[:3])
    for event in events:
        tracker.hear(event)
    tracker.start()
    wait_until(lambda: tracker.waiting == 0)
    assert tracker.close("FINISHED") == 0
    behind, caught_up = said
    assert f"is {len(events)} records behind" in behind
    assert caught_up == "MLflow has caught up"


def test_mlflow_is_sent_nothing_before_the_study_is_synced(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    tracker, _ = make(database, "synced", sync=lambda: order.append("sync"))
    real = tracker._write
    monkeypatch.setattr(tracker, "_write", lambda items: order.append("write") or real(items))
    tracker.start()
    for event in all_events(RECORDS[:2]):
        tracker.hear(event)
        wait_until(lambda: tracker.waiting == 0)
    assert tracker.close("FINISHED") == 0
    assert order == ["sync", "write"] * (len(order) // 2)
    assert len(order) > 2


def test_a_sweep_s_first_epoch_comes_before_the_work_that_mlflow_makes(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, _ = make(database, "start")
    order: list[str] = []
    connect = tracker._runs.connect
    monkeypatch.setattr(tracker._runs, "connect", lambda: (order.append("MLflow"), connect()))
    tracker.start(first_epoch_seconds=60.0)
    start, epoch = all_events(RECORDS[4:5])[:2]
    tracker.hear(start)
    tracker._thread.join(0.3)  # time enough for a thread that does not wait
    order.append("epoch")
    tracker.hear(epoch)
    wait_until(lambda: tracker.waiting == 0)
    assert order[:2] == ["epoch", "MLflow"]
    assert tracker.close("KILLED") == 0


def test_a_sweep_that_ends_before_its_first_epoch_is_delivered_all_the_same(database: str) -> None:
    tracker, _ = make(database, "short")
    tracker.start(first_epoch_seconds=60.0)
    tracker.hear(all_events(RECORDS[4:5])[0])
    assert tracker.close("KILLED") == 0
    assert "t004" in runs_of(database, "short")
