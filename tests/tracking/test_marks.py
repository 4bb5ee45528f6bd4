"""What was delivered is compared with what MLflow has: whatever was lost there comes back, once."""

from __future__ import annotations

import contextlib
import functools
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sweep.in_process import Machine, machine, make_space
from thinned import each_second, first

from benchmarks.chaos.ports import free_port
from ckconv_sweep import keys
from ckconv_sweep.doctor import Finding, examine
from ckconv_sweep.sweep import delivery
from ckconv_sweep.sweep.delivery import deliver, deliver_rest
from ckconv_sweep.tracking import runs
from ckconv_sweep.tracking.marks import PARENT
from ckconv_sweep.tracking.outbox import Tracker

from .mlflow_real import Server, points_of, runs_of
from .tracked import RECORDS, SPACE, Gate, all_events, check, make, record, wait_until
from .tracked import deliver as deliver_records

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.fault("tracking-loses"),
]

WRITES = ("create_run", "log_batch", "log_inputs", "set_tag", "set_terminated", "update_run")


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def picture(uri: str, swept: Machine) -> Any:
    """All that MLflow holds of a sweep, but for the ids of its runs and the time of the last sync;
    and that it is what the study holds."""
    runs = runs_of(uri, "sweep")
    parent = runs["sweep"].info.run_id
    shown = {}
    for name, run in runs.items():
        assert name == "sweep" or run.data.tags.pop(PARENT) == parent
        files = [file.path for file in client(uri).list_artifacts(run.info.run_id)]
        end = run.info.end_time if name != "sweep" else None
        start = run.info.start_time if name != "sweep" else None
        said = (run.info.status, start, end, run.data.params, run.data.tags, files)
        shown[name] = said, points_of(uri, run)
    records = [r for r in swept.records() if r.counts]
    assert sorted(shown) == ["sweep", *(keys.trial_name(r.number) for r in records)]
    for r in records:
        points = shown[keys.trial_name(r.number)][1].get("val/loss", [])
        assert points == [(e.number, e.metrics["val/loss"], e.timestamp_ms) for e in r.history]
    return shown


def said_by_doctor(uri: str, swept: Machine) -> list[Finding]:
    findings = examine(swept.folder, uri)
    return [finding for finding in findings if finding.check == "mlflow"]


def check_missing(uri: str, swept: Machine, *words: str) -> None:
    """`doctor` says that MLflow lacks something, with `sync` as the next step."""
    (one,) = said_by_doctor(uri, swept)
    assert one.level == "warning"
    assert all(word in one.message for word in (" lacks ", *words)), one.message
    assert one.todo.startswith("ckconv-sweep sync sweep")


def check_whole(uri: str, swept: Machine, before: Any) -> None:
    assert picture(uri, swept) == before
    (one,) = said_by_doctor(uri, swept)
    assert (one.level, one.message) == ("ok", f"{uri} answers and has every record")


@dataclass
class Place:
    """A sweep that was delivered to a database, and copies of that, old and new."""

    root: Path
    swept: Machine
    copies: list[Path] = field(default_factory=list)
    """Of the database before each write to it."""
    whole: Any = None

    @property
    def database(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.database}"

    def copy(self, into: Path) -> Path:
        with (
            contextlib.closing(sqlite3.connect(self.database)) as source,
            contextlib.closing(sqlite3.connect(into)) as target,
        ):
            source.backup(target)
        return into

    def put(self, copy: Path | None) -> None:
        """In the place of the database, as a person does who takes its log away too."""
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        if engine := SqlAlchemyStore._engine_map.get(self.uri):
            engine.dispose()  # a process opens its database only once
        for path in self.root.glob("mlflow.db*"):
            path.unlink()
        if copy is not None:
            shutil.copy(copy, self.database)


@pytest.fixture(
    scope="module", params=["interrupted", pytest.param("finished", marks=pytest.mark.slow)]
)
def delivered(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    empty_database: Path,
) -> Place:
    """Three trials, of which the second failed and the third may still run."""
    root = tmp_path_factory.mktemp("delivered")
    swept = machine(
        root / "sweeps",
        make_space(trials=3, epochs=2),
        fails=lambda number, epoch: "error" if (number, epoch) == (1, 2) else None,
    )
    swept.run(kill_before=10 if request.param == "interrupted" else None)
    outcomes = [r.outcome for r in swept.records()]
    last = "running" if request.param == "interrupted" else "completed"
    assert outcomes == ["completed", "failed", last]
    place = Place(root, swept)
    place.put(empty_database)

    from mlflow import MlflowClient

    def photographing(real: Any) -> Any:
        def call(self: Any, *args: Any, **options: Any) -> Any:
            place.copies.append(place.copy(root / f"old-{len(place.copies)}.db"))
            return real(self, *args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(MlflowClient, name, photographing(getattr(MlflowClient, name)))
        assert deliver(swept.folder, place.uri) == 0
    place.whole = picture(place.uri, swept)
    place.copy(root / "whole.db")
    shutil.copytree(root / "mlartifacts", root / "files")
    return place


@pytest.fixture
def place(delivered: Place) -> Place:
    """The sweep as it was delivered."""
    delivered.put(delivered.root / "whole.db")
    shutil.rmtree(delivered.root / "mlartifacts")
    shutil.copytree(delivered.root / "files", delivered.root / "mlartifacts")
    return delivered


# The database


def test_a_database_that_was_deleted_is_filled_anew(place: Place) -> None:
    place.put(None)
    check_missing(place.uri, place.swept, "is not there", "the sweep's own run and trials 0, 1, 2")
    assert deliver(place.swept.folder, place.uri) == 0
    check_whole(place.uri, place.swept, place.whole)


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_any_older_copy_of_the_database_gets_what_came_after_it(step: int, place: Place) -> None:
    assert len(place.copies) > 20
    for copy in place.copies[::-step]:
        place.put(copy)
        (one,) = said_by_doctor(place.uri, place.swept)
        if copy not in place.copies[-3:]:  # those lack but the page of the sweep's run
            assert (one.level, " lacks " in one.message) == ("warning", True)
        assert deliver(place.swept.folder, place.uri) == 0
        check_whole(place.uri, place.swept, place.whole)


@pytest.mark.parametrize("content", ["nothing", "another sweep"])
def test_another_database_under_the_same_address_gets_all_of_the_sweep(
    content: str, place: Place, empty_database: Path
) -> None:
    place.put(empty_database)
    if content == "another sweep":
        deliver_records(place.uri, "another", RECORDS)
    check_missing(place.uri, place.swept, "the sweep's own run and trials 0, 1, 2")
    assert deliver(place.swept.folder, place.uri) == 0
    check_whole(place.uri, place.swept, place.whole)
    if content == "another sweep":
        check(place.uri, "another", RECORDS)


def test_the_log_of_a_database_that_was_deleted_is_not_written_into_the_new_one(
    tmp_path: Path,
) -> None:
    """As it stays behind where a driver is killed; SQLite would play it back."""
    path, log = tmp_path / "mlflow.db", tmp_path / "mlflow.db-wal"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA journal_mode=WAL")
        old.execute("CREATE TABLE of_the_old_database (x)")
        left = log.read_bytes()
    path.unlink()
    log.write_bytes(left)
    deliver_records(f"sqlite:///{path}", "new", RECORDS)
    check(f"sqlite:///{path}", "new", RECORDS)
    with contextlib.closing(sqlite3.connect(path)) as new:
        tables = {name for (name,) in new.execute("SELECT name FROM sqlite_master")}
    assert "runs" in tables
    assert "of_the_old_database" not in tables


# Runs


def for_good(uri: str, run_id: str) -> None:
    """As `mlflow gc` does."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    client(uri).delete_run(run_id)
    SqlAlchemyStore(uri, None)._hard_delete_run(run_id)


def deleted(uri: str, run_id: str) -> None:
    client(uri).delete_run(run_id)


def without_outcome(uri: str, run_id: str) -> None:
    client(uri).delete_tag(run_id, keys.TAG_OUTCOME)


def running(uri: str, run_id: str) -> None:
    client(uri).update_run(run_id, status="RUNNING")


def without_file(uri: str, run_id: str) -> None:
    place = Path(client(uri).get_run(run_id).info.artifact_uri.removeprefix("file://"))
    shutil.rmtree(place)


SWEEP, ENDED, FAILED, RUNNING = "the sweep's own run", "trial 0", "trial 1", "trial 2"
NAMES = {SWEEP: "sweep", ENDED: "t000", FAILED: "t001", RUNNING: "t002"}


@pytest.mark.parametrize(
    ("loss", "whose"),
    each_second(
        [
            (deleted, SWEEP),
            (deleted, ENDED),
            (deleted, RUNNING),
            (for_good, SWEEP),
            (for_good, FAILED),
            (for_good, RUNNING),
            (without_file, SWEEP),
            (without_file, ENDED),
            (without_file, RUNNING),
            (without_outcome, ENDED),
            (running, FAILED),
        ]
    ),
)
def test_a_run_that_was_deleted_or_lost_a_part_is_whole_again(
    loss: Callable[[str, str], None], whose: str, place: Place
) -> None:
    loss(place.uri, runs_of(place.uri, "sweep")[NAMES[whose]].info.run_id)
    by_parent = (loss, whose) == (for_good, SWEEP)  # nothing tells any more whose the others are
    lost = f"{SWEEP} and trials 0, 1, 2" if by_parent else whose
    check_missing(place.uri, place.swept, f" of {lost}; ")
    assert deliver(place.swept.folder, place.uri) == 0
    check_whole(place.uri, place.swept, place.whole)


def test_all_files_that_were_deleted_are_written_again(place: Place) -> None:
    shutil.rmtree(place.root / "mlartifacts")
    check_missing(place.uri, place.swept, "the sweep's own run and trials 0, 1, 2")
    assert deliver(place.swept.folder, place.uri) == 0
    check_whole(place.uri, place.swept, place.whole)


def test_an_experiment_that_was_deleted_is_restored(place: Place) -> None:
    there = client(place.uri)
    there.delete_experiment(there.get_experiment_by_name(keys.EXPERIMENT).experiment_id)
    check_missing(place.uri, place.swept, "the sweep's own run and trials 0, 1, 2")
    assert deliver(place.swept.folder, place.uri) == 0
    check_whole(place.uri, place.swept, place.whole)


@pytest.mark.parametrize(
    "lost", first(1, ["a trial's run", "the sweep's run", "the experiment", "files"])
)
def test_what_a_server_has_lost_is_delivered_again(
    lost: str, server: Server, tmp_path: Path
) -> None:
    swept = machine(tmp_path, make_space(trials=2, epochs=2))
    assert swept.run()
    assert deliver(swept.folder, server.uri) == 0
    before, there = picture(server.uri, swept), client(server.uri)
    run = runs_of(server.uri, "sweep")["t001" if lost == "a trial's run" else "sweep"]
    if lost == "files":
        shutil.rmtree(server.folder / "artifacts" / run.info.experiment_id)
    elif lost == "the experiment":
        there.delete_experiment(run.info.experiment_id)
    else:
        there.delete_run(run.info.run_id)
    check_missing(server.uri, swept)
    assert deliver(swept.folder, server.uri) == 0
    check_whole(server.uri, swept, before)
    for other in runs_of(server.uri, "sweep").values():  # the server is one for all tests
        there.delete_run(other.info.run_id)


# When it is asked, and how


def test_what_is_asked_does_not_grow_with_the_number_of_trials(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    asked: list[int] = []
    real = SqlAlchemyStore._search_runs

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        asked[-1] += 1
        return real(self, *args, **options)

    monkeypatch.setattr(SqlAlchemyStore, "_search_runs", counted)
    for trials in (1, 6):
        swept = machine(tmp_path / str(trials), make_space(trials=trials, epochs=1))
        assert swept.run()
        asked.append(0)
        assert deliver(swept.folder, database) == 0
        asked[-1] = 0
        assert deliver(swept.folder, database) == 0
    assert asked[0] == asked[1] <= 3


@pytest.mark.fault("tracking-down-at-start")
def test_while_mlflow_cannot_be_asked_the_marks_stay_and_they_are_compared_when_it_answers(
    server: Server,
) -> None:
    marks = deliver_records(server.uri, "asked-later", RECORDS).marks
    for name in ("t000", "t004"):
        client(server.uri).delete_run(runs_of(server.uri, "asked-later")[name].info.run_id)
    grown = [*RECORDS[:4], record(4, "completed", 3, "epochs"), RECORDS[5]]
    with Gate(server.port, is_open=False) as gate:
        tracker, said = make(gate.uri, "asked-later", marks=marks)
        tracker.catch_up(RECORDS, lambda r: SPACE.resolve(r.params, r.number))
        tracker.start()
        for event in all_events(grown[4:5]):
            if getattr(event, "epoch", None) is None or event.epoch.number == 3:
                tracker.hear(event)  # nobody waits
        wait_until(lambda: said)
        assert tracker.marks == marks
        gate.open = True
        wait_until(lambda: tracker.waiting == 0)
        assert tracker.close("FINISHED") == 0
    assert said[1].endswith("has lost records that it had of this sweep; they are delivered again")
    assert said[2:] == ["MLflow answers again"]
    check(server.uri, "asked-later", grown, "FINISHED")


def test_doctor_says_that_mlflow_cannot_be_asked(tmp_path: Path) -> None:
    swept = machine(tmp_path, make_space(trials=1, epochs=1))
    assert swept.run()
    uri = f"http://127.0.0.1:{free_port()}"
    deliver(swept.folder, uri)
    with swept.folder.records.open() as study:
        noted = study.note("mlflow") | {"marks": {"0": [1, True]}, "status": "FINISHED"}
        study.set_note("mlflow", noted)
    (one,) = said_by_doctor(uri, swept)
    assert one.level == "warning"
    assert f"{uri} does not answer" in one.message
    assert one.message.endswith("; what it has was not compared with the study")
    assert one.todo.startswith("nothing is lost; when it answers: ckconv-sweep sync sweep")


def test_nothing_is_delivered_before_it_is_known_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's thread as fast as can be: what the driver hands it is delivered at once. One epoch
    of a trial was delivered, its run was deleted for good, and the study has two more."""
    swept = machine(tmp_path / "sweeps", make_space(trials=1, epochs=3))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert not swept.run(kill_before=3)
    assert [len(r.history) for r in swept.records()] == [1]
    deliver(swept.folder, uri)
    assert swept.run()
    for_good(uri, runs_of(uri, "sweep")["t000"].info.run_id)

    class Fast(Tracker):
        def _put(self, item: Any) -> None:
            super()._put(item)
            wait_until(lambda: not self._thread.is_alive() or self.waiting == 0)

    monkeypatch.setattr(delivery, "Tracker", Fast)
    assert deliver(swept.folder, uri) == 0
    picture(uri, swept)


# A finished sweep that is launched again


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Place:
    """Two trials, of which the second failed; the sweep is finished and delivered."""
    root = tmp_path_factory.mktemp("over")
    swept = machine(
        root / "sweeps",
        make_space(trials=2, epochs=2),
        fails=lambda number, epoch: "error" if (number, epoch) == (1, 2) else None,
    )
    assert swept.run()
    place = Place(root, swept)
    place.put(empty_database)
    place.copies.append(place.copy(root / "empty.db"))
    assert deliver(swept.folder, place.uri) == 0
    place.whole = picture(place.uri, swept)
    place.copy(root / "whole.db")
    return place


def launched_again(place: Place, said: list[str]) -> int:
    session = deliver_rest(place.swept.folder, place.uri, place.swept.records(), say=said.append)
    return session.undelivered


def test_a_finished_sweep_of_which_mlflow_has_all_is_not_compared_trial_by_trial(
    over: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **options: Any) -> Any:
        raise AssertionError("MLflow is asked about every trial")

    monkeypatch.setattr(delivery, "Tracker", never)
    monkeypatch.setattr(runs, "in_mlflow", never)
    said: list[str] = []
    assert launched_again(over, said) == 0
    assert said == []


@pytest.mark.parametrize(
    ("loss", "whose"),
    [(deleted, SWEEP), (deleted, ENDED), (for_good, FAILED), (running, ENDED), (running, SWEEP)],
)
def test_a_finished_sweep_of_which_mlflow_lost_a_run_gives_it_again(
    loss: Callable[[str, str], None], whose: str, over: Place
) -> None:
    over.put(over.root / "whole.db")
    loss(over.uri, runs_of(over.uri, "sweep")[NAMES[whose]].info.run_id)
    said: list[str] = []
    assert launched_again(over, said) == 0
    assert picture(over.uri, over.swept) == over.whole


@pytest.mark.parametrize("instead", ["nothing", "an empty one"])
def test_a_finished_sweep_whose_database_is_another_one_is_delivered_to_that(
    instead: str, over: Place
) -> None:
    over.put(None if instead == "nothing" else over.copies[0])
    said: list[str] = []
    assert launched_again(over, said) == 0
    assert picture(over.uri, over.swept) == over.whole


# A sweep of many trials that goes on


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trials are many, and a sweep is delivered as by a driver that goes on with it."""
    monkeypatch.setattr(runs, "MANY", 1)
    real = delivery.tracker_of
    monkeypatch.setattr(delivery, "tracker_of", functools.partial(real, thoroughly=False))


@pytest.mark.usefixtures("many")
def test_a_sweep_of_many_trials_of_which_nothing_was_lost_is_not_compared_trial_by_trial(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **options: Any) -> Any:
        raise AssertionError("MLflow is asked about every trial")

    monkeypatch.setattr(runs, "in_mlflow", never)
    assert deliver(place.swept.folder, place.uri) == 0
    assert picture(place.uri, place.swept) == place.whole


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("loss", "whose"),
    [
        (deleted, SWEEP),
        (for_good, SWEEP),
        (deleted, ENDED),
        (running, FAILED),
        (deleted, RUNNING),
        (for_good, RUNNING),
        (without_file, SWEEP),
    ],
)
def test_a_sweep_of_many_trials_that_goes_on_gives_mlflow_again_what_it_lost(
    loss: Callable[[str, str], None], whose: str, place: Place
) -> None:
    loss(place.uri, runs_of(place.uri, "sweep")[NAMES[whose]].info.run_id)
    assert deliver(place.swept.folder, place.uri) == 0
    check_whole(place.uri, place.swept, place.whole)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_an_older_copy_of_the_database_is_noticed_by_a_sweep_of_many_trials(
    step: int, place: Place
) -> None:
    for copy in place.copies[::-step]:
        place.put(copy)
        assert deliver(place.swept.folder, place.uri) == 0
        check_whole(place.uri, place.swept, place.whole)
