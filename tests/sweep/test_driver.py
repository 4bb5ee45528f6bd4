"""One session of a sweep from the lock to the last word to MLflow; here trials are a formula."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tracking.mlflow_real import Server, points_of, runs_of

from benchmarks.chaos.ports import free_port
from ckconv_sweep.cli.result import show_result
from ckconv_sweep.config import suitable
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import CannotWrite, ConfigError, DamagedData, SpaceChanged, SweepBusy
from ckconv_sweep.execution import cluster
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.executor import RayExecutor
from ckconv_sweep.execution.protocol import Signals, Work
from ckconv_sweep.record import lock, versions
from ckconv_sweep.record.budget import is_finished
from ckconv_sweep.record.confirmation import SESSION
from ckconv_sweep.record.database import Writes
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Listener
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.report.confirmable import confirmation_in_words, planned
from ckconv_sweep.report.summary import summarize
from ckconv_sweep.sweep import coordinator as coordinators
from ckconv_sweep.sweep.coordinator import Coordinator
from ckconv_sweep.sweep.delivery import Session, deliver, deliver_rest
from ckconv_sweep.sweep.driver import check_same_space, run_sweep
from ckconv_sweep.sweep.interruption import Interruption
from ckconv_sweep.tracking.outbox import Tracker

from .in_process import formula, in_this_process, machine, make_space, with_trials

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

REPOSITORY = Path(__file__).parents[2]
SPACE = make_space(trials=3)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder.of(tmp_path / "sweeps", "digits")


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


Each = Callable[[Any, Any, int, Epoch], None]


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> Callable[[Each], None]:
    """Instead of Ray: one trial after the other. Returns what takes a function that is called
    after each epoch."""
    after: list[Each] = []

    def run(coordinator: Work, interruption: Signals) -> None:
        while assignment := coordinator.next():
            for number in range(1, assignment.trial.training.epochs + 1):
                epoch = formula(assignment.trial, number)
                if not coordinator.epoch(assignment.number, epoch):
                    break
                for call in after:
                    call(coordinator, interruption, assignment.number, epoch)
                interruption.check()
            coordinator.end(assignment.number)

    in_this_process(monkeypatch, lambda work, signals, _: run(work, signals))
    return after.append


def launch(folder: SweepFolder, uri: str, space: Space = SPACE, *listeners: Listener) -> Session:
    return run_sweep(
        folder,
        space,
        RayExecutor(Placement()),
        tracking_uri=uri,
        data_dir=None,
        listeners=listeners,
    )


def content(root: Path) -> dict[Path, bytes]:
    """Every file but the lock, which says who held it last."""
    return {p: p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != "lock"}


def everything(uri: str, name: str) -> Any:
    """What MLflow holds of a sweep, without the time at which its last session ended."""
    return {
        run_name: (
            run.info.run_id,
            run.info.status,
            run.data.params,
            run.data.tags,
            points_of(uri, run),
        )
        for run_name, run in runs_of(uri, name).items()
    }


# The space

HERE = SweepFolder.of(Path("sweeps"), "digits")


@pytest.mark.fault("space-changed")
def test_another_space_is_refused_with_the_lines_that_differ() -> None:
    other = make_space(trials=3, epochs=7)
    with pytest.raises(SpaceChanged) as refused:
        check_same_space(SPACE, other, HERE)
    assert "  -    epochs: 3\n  +    epochs: 7" in refused.value.message
    assert "hidden_channels" not in refused.value.message
    assert str(refused.value).endswith(
        "\n  take another --name for the new space, or resume with "
        "the old one: ckconv-sweep resume digits"
    )


@pytest.mark.fault("space-changed")
@pytest.mark.parametrize(
    "other",
    [
        make_space(sampler="qmc"),
        make_space(scheduler="{name: asha}"),
        make_space(constraints=["model.parameters < 9"]),
        make_space(search="  model.dropout: {low: 0.0, high: 0.3}"),
        make_space(training=", batch_size: 32"),
    ],
    ids=["sampler", "scheduler", "constraints", "search", "trial"],
)
def test_every_part_of_a_space_but_its_budget_is_compared(other: Space) -> None:
    with pytest.raises(SpaceChanged):
        check_same_space(make_space(), other, HERE)


@pytest.mark.fault("space-changed")
def before_precision(text: str) -> str:
    """Settings as they were written before there was a precision."""
    assert text.count("precision: float32\n") == 1
    return "".join(line for line in text.splitlines(True) if "precision: float32" not in line)


def test_a_sweep_from_before_there_was_a_precision_goes_on() -> None:
    check_same_space(parse_space(before_precision(SPACE.to_yaml()), "space.yaml"), SPACE, HERE)


def test_the_budget_may_differ() -> None:
    check_same_space(SPACE, make_space(trials=30, hours=2.0), HERE)


@pytest.mark.usefixtures("without_ray")
def test_a_sweep_that_is_extended_keeps_the_sampler_that_auto_took(
    folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suitable, "FEW_TRIALS", 2)
    for trials, name in ((2, "gp"), (3, "nsgaii")):
        space = make_space(sampler="auto", trials=trials)
        assert space.sampler.name == name
        launch(folder, uri, space)
    with folder.records.open() as study:
        assert (study.space.sampler.name, len(study.trials())) == ("gp", 3)
        assert study.space.sampler.taken_by_auto
    assert "name: gp" in folder.space.read_text()


# A sweep of which no trial has begun


OTHER = make_space(
    search="  model.hidden_channels: {low: 2, high: 6}",
    sampler="tpe",
    trials=2,
    metrics="[{name: val/loss}, {name: val/accuracy}]",
)


def begin(folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch, space: Space) -> str:
    """A session that a signal ends before its first trial; returns the sweep's uid."""

    def interrupted(work: Work, signals: Signals, known: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signals.check()

    with monkeypatch.context() as patched:
        in_this_process(patched, interrupted)
        assert launch(folder, uri, space).signal_exit_code == 143
    with folder.records.open() as study:
        assert study.trials() == []
        return study.uid


@pytest.mark.fault("space-changed")
def test_a_sweep_of_which_no_trial_has_begun_starts_over_with_another_space(
    folder: SweepFolder,
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
    without_ray: Callable[[Each], None],
) -> None:
    old, heard = begin(folder, uri, monkeypatch, SPACE), Heard()
    session = launch(folder, uri, OTHER, heard)
    assert "no trial had begun with another space; the sweep starts over with this" in heard.said
    assert [r.number for r in session.records] == [0, 1]
    assert "tpe" in folder.space.read_text()
    with folder.records.open() as study:
        assert study.space == OTHER
        assert study.uid != old
        assert study._study.study_name == study.uid
        assert [d.name for d in study._study.directions] == ["MINIMIZE", "MAXIMIZE"]
        assert len(study.note("sessions")) == 1
        assert study.contradictions() == []


@pytest.mark.fault("space-changed")
@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_draws_that_were_all_rejected_are_no_trials(
    sampler: str, folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinators, "MOST_VIOLATIONS", 20)
    none = make_space(trials=3, sampler=sampler, constraints=["model.parameters < 1"])
    with contextlib.suppress(ConfigError):
        launch(folder, uri, none)
    with folder.records.open() as study:
        assert len(study.trials()) == (20 if sampler == "random" else 6)
    session = launch(folder, uri, OTHER)
    assert [(r.number, r.outcome) for r in session.records] == [(0, "completed"), (1, "completed")]
    with folder.records.open() as study:
        assert study.contradictions() == []
        assert study.changed_trials() == []


@pytest.mark.fault("space-changed")
def test_one_trial_that_has_begun_keeps_the_space_though_no_epoch_has_ended(
    folder: SweepFolder,
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
    without_ray: Callable[[Each], None],
) -> None:
    begin(folder, uri, monkeypatch, SPACE)
    with folder.records.create(SPACE) as study:
        study.create({}, {}, position=0)
    before = content(folder.root)
    with pytest.raises(SpaceChanged):
        launch(folder, uri, OTHER)
    assert content(folder.root) == before


@pytest.mark.fault("space-changed")
@pytest.mark.usefixtures("without_ray")
def test_a_study_without_trials_beside_their_files_is_not_started_over(
    folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an older copy of the study was put in its place."""
    begin(folder, uri, monkeypatch, SPACE)
    folder.trial(0).mkdir()
    with pytest.raises(SpaceChanged):
        launch(folder, uri, OTHER)


@pytest.mark.fault("space-changed")
def test_a_start_over_that_is_killed_leaves_the_old_study_whole(
    folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = begin(folder, uri, monkeypatch, SPACE)
    monkeypatch.setattr(Writes, "set_notes", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    if (pid := os.fork()) == 0:
        with contextlib.suppress(BaseException), folder.records.open() as study:
            study.start_over(OTHER)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with folder.records.open() as study:
        assert (study.uid, study.space) == (old, SPACE)
        assert [d.name for d in study._study.directions] == ["MAXIMIZE"]


# A start that is refused


def test_a_start_that_is_refused_leaves_no_folder_behind(
    folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_cluster(*_: Any) -> Iterator[None]:
        raise ConfigError("no Ray cluster answers")

    monkeypatch.setattr(cluster, "connected", no_cluster)
    with pytest.raises(ConfigError, match="no Ray cluster"):
        launch(folder, uri)
    with pytest.raises(ConfigError, match="ray://"):
        executor = RayExecutor(Placement(address="ray://x:1"))
        run_sweep(folder, SPACE, executor, tracking_uri=uri, data_dir=None)
    assert not folder.root.exists()


@pytest.mark.fault("space-changed")
@pytest.mark.usefixtures("without_ray")
def test_a_refused_launch_of_an_older_sweep_leaves_it_as_it_was(
    folder: SweepFolder, uri: str
) -> None:
    launch(folder, uri)
    before = content(folder.root)
    with pytest.raises(SpaceChanged):
        launch(folder, uri, make_space(trials=3, epochs=7))
    assert content(folder.root) == before


@pytest.mark.fault("two-drivers")
def test_a_second_driver_is_refused_and_told_who_runs_the_sweep(
    folder: SweepFolder, uri: str
) -> None:
    folder.make()
    with folder.records.lock():
        with pytest.raises(SweepBusy) as refused:
            launch(folder, uri)
        assert "process " in refused.value.message
        with pytest.raises(SweepBusy):
            deliver_there(folder, uri)


def deliver_there(folder: SweepFolder, uri: str) -> None:
    """`deliver`, of a sweep that has a study."""
    with folder.records.create(SPACE):
        pass
    deliver(folder, uri)


def test_of_two_drivers_that_start_a_sweep_at_once_the_refused_one_does_not_delete_it(
    folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder was new to both; the other one has the lock and has not made the study yet."""

    def others(_: Path) -> Any:
        raise SweepBusy("process 1 runs this sweep")

    monkeypatch.setattr(lock, "held", others)
    with pytest.raises(SweepBusy):
        launch(folder, uri)
    assert (folder.root / "trials").exists()


def test_a_signal_before_anything_began_ends_it_without_a_trace(
    folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def slow_start(*_: Any) -> Iterator[None]:
        signal.raise_signal(signal.SIGTERM)
        yield

    monkeypatch.setattr(cluster, "connected", slow_start)
    before = signal.getsignal(signal.SIGTERM)
    session = launch(folder, uri)
    assert (session.signal_exit_code, session.trained, session.records) == (143, False, [])
    assert not folder.root.exists()
    assert signal.getsignal(signal.SIGTERM) == before


def rest(folder: SweepFolder, uri: str) -> Session:
    """Launch a sweep that is finished."""
    with folder.records.open() as study:
        records = study.trials()
    return deliver_rest(folder, uri, records)


# A session


@pytest.mark.usefixtures("without_ray")
def test_a_session_ends_with_the_records_and_all_of_them_in_mlflow(
    folder: SweepFolder, uri: str
) -> None:
    session = launch(folder, uri)
    assert [r.outcome for r in session.records] == ["completed"] * 3
    assert (session.trained, session.undelivered, session.time_is_up) == (True, 0, False)
    runs = runs_of(uri, "digits")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len(runs) == 4
    assert folder.space.read_text() == SPACE.to_yaml()
    with folder.records.open() as study:
        assert study.note("mlflow")["whole"] == [[0, 2]]
        assert study.note("mlflow")["marks"] == {}
        assert study.note("mlflow")["experiment_id"] == session.experiment_id


@pytest.mark.fault("launched-twice")
@pytest.mark.usefixtures("without_ray")
def test_what_a_driver_owes_that_was_killed_after_the_last_trial_is_delivered_later_once(
    folder: SweepFolder, uri: str
) -> None:
    class Killed(BaseException):
        pass

    def killed(self: Any, *args: Any, **options: Any) -> int:
        with self._wake:  # its thread is not there any more, as after a real kill
            self._closing = True
            self._wake.notify()
        self._thread.join()
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Tracker, "close", killed)
        launch(folder, uri)
    assert runs_of(uri, "digits")["digits"].info.status == "RUNNING"
    session = rest(folder, uri)
    assert (session.trained, session.undelivered) == (False, 0)
    assert [r.outcome for r in session.records] == ["completed"] * 3
    runs = runs_of(uri, "digits")
    assert {name: run.info.status for name, run in runs.items()} == dict.fromkeys(
        ("digits", "t000", "t001", "t002"), "FINISHED"
    )
    before = everything(uri, "digits")
    assert rest(folder, uri) == session
    assert everything(uri, "digits") == before


@pytest.mark.usefixtures("without_ray")
def test_a_sweep_that_was_extended_has_its_new_budget_in_mlflow_too(
    folder: SweepFolder, uri: str, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    launch(folder, uri)
    more = replace(SPACE, budget=SPACE.budget.model_copy(update={"trials": 4}))
    launch(folder, uri, more)
    run = runs_of(uri, "digits")["digits"]
    client = MlflowClient(tracking_uri=uri)
    path = client.download_artifacts(run.info.run_id, "space.yaml", str(tmp_path))
    assert Path(path).read_text() == more.to_yaml() != SPACE.to_yaml()


@pytest.mark.fault("launched-twice")
def test_a_signal_ends_the_session_and_the_next_one_goes_on(
    folder: SweepFolder, uri: str, without_ray: Callable[[Each], None]
) -> None:
    sent: list[int] = []

    def after(_: Coordinator, __: Interruption, number: int, epoch: Epoch) -> None:
        if (number, epoch.number) == (1, 2) and not sent:
            sent.append(number)
            signal.raise_signal(signal.SIGINT)

    without_ray(after)
    first = launch(folder, uri)
    assert first.signal_exit_code == 130
    assert [(r.outcome, len(r.history)) for r in first.records] == [
        ("completed", 3),
        ("running", 2),
    ]
    assert runs_of(uri, "digits")["digits"].info.status == "KILLED"
    second = launch(folder, uri)
    assert second.signal_exit_code is None
    assert [(r.outcome, len(r.history)) for r in second.records] == [("completed", 3)] * 3
    runs = runs_of(uri, "digits")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {len(points_of(uri, run)["val/loss"]) for n, run in runs.items() if n != "digits"} == {3}
    for run, record in zip(sorted(runs)[1:], second.records, strict=True):
        assert points_of(uri, runs[run])["val/loss"] == [
            (e.number, e.metrics["val/loss"], e.timestamp_ms) for e in record.history
        ]


@pytest.mark.fault("driver-sigterm")
@pytest.mark.usefixtures("without_ray")
def test_a_signal_that_comes_while_mlflow_is_given_the_rest_does_not_lose_the_session(
    folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Tracker.close

    def close(self: Any, *args: Any, **options: Any) -> int:
        signal.raise_signal(signal.SIGTERM)
        return real(self, *args, **options)

    monkeypatch.setattr(Tracker, "close", close)
    session = launch(folder, uri)
    assert session.signal_exit_code == 143
    assert [r.outcome for r in session.records] == ["completed"] * 3
    assert session.undelivered == 0


def test_what_the_sweep_cannot_go_on_without_is_raised_when_all_is_put_away(
    folder: SweepFolder, uri: str, without_ray: Callable[[Each], None]
) -> None:
    def after(coordinator: Coordinator, *_: Any) -> None:
        coordinator.stop(CannotWrite("No space left on device"))

    without_ray(after)
    with pytest.raises(CannotWrite, match="No space left"):
        launch(folder, uri)
    runs = runs_of(uri, "digits")
    assert runs["digits"].info.status == "KILLED"
    assert len(points_of(uri, runs["t000"])["val/loss"]) == 2
    with folder.records.open() as study:
        assert [r.outcome for r in study.trials()] == ["running"]


@pytest.mark.fault("own-error-wins")
@pytest.mark.parametrize(
    "error",
    [
        CannotWrite("database or disk is full", where="study.db"),
        SweepBusy("another program has kept the study locked"),
        DamagedData("the study cannot be read"),
        AssertionError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_study_raises_is_not_hidden_by_what_the_executor_makes_of_it(
    error: Exception, folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray Tune does, which turns whatever it meets into a text in an error of its own."""
    handed_out = []

    def run(work: Work, signals: Signals, known: Any) -> None:
        try:
            while assignment := work.next():
                handed_out.append(assignment.number)
                work.epoch(assignment.number, formula(assignment.trial, 1))
        except Exception:
            assert work.stopping
            assert work.next() is None
            raise RuntimeError("219 lines of traceback") from None

    def add_epoch(*_: Any, **__: Any) -> None:
        raise error

    in_this_process(monkeypatch, run)
    monkeypatch.setattr(Study, "add_epoch", add_epoch)
    with pytest.raises(type(error)) as caught:
        launch(folder, uri)
    assert caught.value is error
    assert handed_out == [0]
    assert runs_of(uri, "digits")["digits"].info.status == "KILLED"


@pytest.mark.fault("own-error-wins")
def test_what_goes_wrong_after_that_is_not_raised_in_its_place(
    folder: SweepFolder, uri: str, without_ray: Callable[[Each], None]
) -> None:
    def after(coordinator: Coordinator, *_: Any) -> None:
        for path in folder.root.glob("study.db*"):
            path.unlink()
        coordinator.stop(CannotWrite("No space left on device"))

    without_ray(after)
    with pytest.raises(CannotWrite, match="No space left"):
        launch(folder, uri)


@pytest.mark.fault("disk-full")
def test_a_disk_that_an_executor_finds_full_is_said(
    folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28]")

    in_this_process(monkeypatch, run)
    with pytest.raises(CannotWrite, match="a file cannot be written: No space left on device"):
        launch(folder, uri)


@pytest.mark.usefixtures("without_ray")
def test_a_larger_budget_is_written_down_before_it_is_spent(folder: SweepFolder, uri: str) -> None:
    launch(folder, uri)
    session = launch(folder, uri, with_trials(SPACE, 5))
    assert len(session.records) == 5
    with folder.records.open() as study:
        assert study.space.budget.trials == 5
    assert "trials: 5" in folder.space.read_text()


@pytest.mark.fault("no-success")
@pytest.mark.usefixtures("without_ray")
def test_a_grid_that_is_walked_to_its_end_is_finished_though_the_budget_is_larger(
    folder: SweepFolder, uri: str
) -> None:
    launch(folder, uri, make_space(sampler="grid", trials=50))
    assert runs_of(uri, "digits")["digits"].info.status == "FINISHED"
    with folder.records.open() as study:
        assert is_finished(study.trials(), study.space)
        summary = summarize("grid", study.trials(), study.space, held=False)
        assert summary.state == "finished"


# Another code, another clock, another checkpoint, no place to write


class Heard(Listener):
    """Keeps what a person would read."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize(("trials", "told"), [(2, False), (3, True)])
def test_a_population_that_does_not_run_side_by_side_is_told(
    trials: int, told: bool, folder: SweepFolder, uri: str
) -> None:
    search = "\n  model.dropout: {low: 0.0, high: 0.4}"
    heard, space = Heard(), make_space(trials=trials, scheduler="{name: pbt}", search=search)
    launch(folder, uri, space, heard)
    said = [line for line in heard.said if "the 3 trials of the population do not run" in line]
    assert (heard.said[0], bool(said)) == ("trials at a time: 2", told)


@pytest.mark.fault("code-changed")
@pytest.mark.usefixtures("without_ray")
def test_a_resume_under_other_versions_says_so_and_notes_it_for_its_epochs(
    folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = Heard(), Heard(), Heard()
    launch(folder, uri, SPACE, first)
    assert first.said == ["trials at a time: 2"]
    now = versions.versions()
    monkeypatch.setattr(versions, "versions", lambda: now | {"optuna": "5.99.0"})
    launch(folder, uri, with_trials(SPACE, 4), second)
    assert second.said[0] == (
        f"optuna was {now['optuna']}, is 5.99.0; results of new epochs may differ"
    )
    session = launch(folder, uri, with_trials(SPACE, 5), third)
    assert third.said == ["trials at a time: 2"]
    assert [r.sessions for r in session.records] == [(1, 1, 1)] * 3 + [(2, 2, 2), (3, 3, 3)]
    with folder.records.open() as study:
        assert [entry["session"] for entry in study.note("versions")] == [1, 2]


@pytest.mark.fault("code-changed")
@pytest.mark.usefixtures("without_ray")
def test_another_major_version_is_refused_before_anything_changes_unless_it_is_allowed(
    folder: SweepFolder, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(folder, uri)
    before = content(folder.root)
    now = versions.versions()
    monkeypatch.setattr(versions, "versions", lambda: now | {"torch": "99.0.0"})
    with pytest.raises(ConfigError, match=r"torch was .*, is 99\.0\.0"):
        launch(folder, uri, with_trials(SPACE, 4))
    assert content(folder.root) == before
    session = run_sweep(
        folder,
        with_trials(SPACE, 4),
        RayExecutor(Placement()),
        tracking_uri=uri,
        data_dir=None,
        allow_code_change=True,
    )
    assert len(session.records) == 4


@pytest.mark.fault("read-only-storage")
@pytest.mark.parametrize("older", [False, True])
def test_a_folder_that_cannot_be_written_to_is_refused_before_ray_is_asked(
    older: bool,
    folder: SweepFolder,
    uri: str,
    monkeypatch: pytest.MonkeyPatch,
    without_ray: Callable[[Each], None],
) -> None:
    if older:
        launch(folder, uri)
    before = content(folder.root)

    def never(*_: Any) -> Iterator[None]:
        raise AssertionError("Ray was started")

    def read_only(_: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(cluster, "connected", never)
    monkeypatch.setattr(os, "fsync", read_only)
    with pytest.raises(CannotWrite, match="cannot be synced: Read-only file system") as refused:
        launch(folder, uri, with_trials(SPACE, 9))
    assert refused.value.exit_code == 73
    assert content(folder.root) == before
    assert folder.root.exists() == older


@pytest.mark.fault("foreign-checkpoint")
def test_the_checkpoint_of_another_trial_is_refused_and_nothing_of_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckconv_sweep.data.datasets import load
    from ckconv_sweep.training import loop
    from ckconv_sweep.training.loop import train

    task = load(TRIAL.data, None)
    train(TRIAL, task, lambda _: None, folder=tmp_path / "0001")
    foreign = tmp_path / "0000"
    shutil.copytree(tmp_path / "0001", foreign)
    before = content(foreign)
    loaded: list[object] = []
    monkeypatch.setattr(loop.SequenceModel, "load_state_dict", lambda *_, **__: loaded.append(None))
    reported: list[Epoch] = []
    training = TRIAL.training.model_copy(update={"seed": TRIAL.training.seed + 1})
    other = TRIAL.model_copy(update={"training": training})
    with pytest.raises(ConfigError, match="is of a trial with other settings"):
        train(other, task, reported.append, folder=foreign)
    assert (loaded, reported) == ([], [])
    assert content(foreign) == before


@pytest.mark.fault("clock-jump")
def test_the_newest_checkpoint_is_the_one_of_the_highest_epoch_whatever_its_time(
    tmp_path: Path,
) -> None:
    from ckconv_sweep.training import checkpoint

    checkpoint.save(tmp_path, 1, {"epoch": 1})
    first = next(tmp_path.glob("checkpoint-00001-*"))
    checkpoint.save(tmp_path, 2, {"epoch": 2})
    tomorrow = time.time() + 86_400
    os.utime(first, (tomorrow, tomorrow))
    assert checkpoint.newest(tmp_path) == ({"epoch": 2}, [])


@pytest.mark.fault("no-success")
def test_a_sweep_whose_trials_all_failed_is_finished_and_has_no_best(
    folder: SweepFolder, uri: str, without_ray: Callable[[Each], None]
) -> None:
    def after(coordinator: Coordinator, _: Interruption, number: int, epoch: Epoch) -> None:
        coordinator.end(number, reason="nonfinite", error=f"val/loss became nan in epoch {epoch}")

    without_ray(after)
    session = launch(folder, uri)
    assert [(r.outcome, r.reason) for r in session.records] == [("failed", "nonfinite")] * 3
    with folder.records.open() as study:
        summary = summarize("digits", study.trials(), study.space, held=False)
    assert (summary.state, summary.failed, summary.best_value) == ("finished", 3, None)


@pytest.mark.usefixtures("without_ray")
def test_where_the_records_go_is_known_from_the_beginning(
    folder: SweepFolder, uri: str, without_ray: Callable[[Each], None]
) -> None:
    noted: list[Any] = []

    def after(*_: Any) -> None:
        with folder.records.open() as study:
            noted.append(study.note("mlflow")["uri"])

    without_ray(after)
    launch(folder, uri)
    assert noted[0] == uri


# MLflow


@pytest.mark.fault("tracking-loses")
def test_a_sweep_that_goes_on_gives_a_new_database_what_the_deleted_one_had(
    folder: SweepFolder, uri: str, without_ray: Callable[[Each], None]
) -> None:
    def after(_: Coordinator, interruption: Interruption, number: int, epoch: Epoch) -> None:
        if (number, epoch.number) == (1, 2) and not stopped:
            stopped.append(number)
            signal.raise_signal(signal.SIGTERM)

    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    stopped: list[int] = []
    without_ray(after)
    assert launch(folder, uri).signal_exit_code == 143
    SqlAlchemyStore._engine_map[uri].dispose()
    for path in folder.root.parents[1].glob("mlflow.db*"):
        path.unlink()
    session = launch(folder, uri)
    assert session.undelivered == 0
    runs = runs_of(uri, "digits")
    assert len(runs) == 4
    for record in session.records:
        points = points_of(uri, runs[f"t{record.number:03d}"])["val/loss"]
        assert points == [(e.number, e.metrics["val/loss"], e.timestamp_ms) for e in record.history]


@pytest.mark.fault("tracking-loses")
@pytest.mark.usefixtures("without_ray")
def test_a_finished_sweep_gives_a_database_that_was_put_back_what_it_had_lost(
    folder: SweepFolder, uri: str, empty_database: Path
) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    launch(folder, uri)
    runs = runs_of(uri, "digits")
    before = {name: points_of(uri, run) for name, run in runs.items()}
    SqlAlchemyStore._engine_map[uri].dispose()
    for path in folder.root.parents[1].glob("mlflow.db*"):
        path.unlink()
    shutil.copy(empty_database, uri.removeprefix("sqlite:///"))
    session = rest(folder, uri)
    assert (session.trained, session.undelivered) == (False, 0)
    assert {name: points_of(uri, run) for name, run in runs_of(uri, "digits").items()} == before


@pytest.mark.fault("tracking-down-at-end")
@pytest.mark.usefixtures("without_ray")
def test_a_finished_sweep_whose_mlflow_is_gone_does_not_say_that_it_has_everything(
    folder: SweepFolder, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    launch(folder, uri)
    SqlAlchemyStore._engine_map[uri].dispose()
    for path in folder.root.parents[1].glob("mlflow.db*"):
        path.write_bytes(b"no database")
    session = rest(folder, uri)
    assert session.undelivered > 0
    show_result(folder, session.records, SPACE, None, session)
    said = " ".join(capsys.readouterr().out.split())
    assert "MLflow did not confirm that it has every record; when it answers: ckconv-sweep" in said
    assert "not delivered" not in said


@pytest.mark.fault("tracking-loses")
@pytest.mark.usefixtures("without_ray")
def test_a_finished_sweep_that_can_only_be_read_is_still_shown(
    folder: SweepFolder, uri: str
) -> None:
    launch(folder, uri)
    (folder.root / "lock").unlink()
    (folder.root / "lock").mkdir()  # as where nothing can be written, for the superuser too
    session = rest(folder, uri)
    assert session.undelivered == 0


@pytest.mark.usefixtures("without_ray")
def test_delivering_again_changes_nothing(folder: SweepFolder, uri: str) -> None:
    launch(folder, uri)
    before = everything(uri, "digits")
    assert deliver(folder, uri) == 0
    assert everything(uri, "digits") == before
    with folder.records.create(SPACE) as study:  # as if nothing had been marked
        study.set_note("mlflow", {})
    assert deliver(folder, uri) == 0
    assert everything(uri, "digits") == before


@pytest.mark.usefixtures("without_ray")
def test_marks_of_one_server_are_not_believed_of_another(
    folder: SweepFolder, uri: str, empty_database: Path, tmp_path: Path
) -> None:
    launch(folder, uri)
    shutil.copy(empty_database, tmp_path / "other.db")
    other = f"sqlite:///{tmp_path}/other.db"
    assert deliver(folder, other) == 0

    def points(where: str) -> Any:
        return {name: points_of(where, run) for name, run in runs_of(where, "digits").items()}

    assert points(other) == points(uri)
    assert len(points(other)) == 4


@pytest.mark.fault("tracking-down-at-end")
@pytest.mark.usefixtures("without_ray")
def test_what_a_closed_server_missed_is_counted_and_its_password_is_written_nowhere(
    folder: SweepFolder, server: Server
) -> None:
    class Heard(Listener):
        def __init__(self) -> None:
            self.said: list[str] = []

        def say(self, message: str) -> None:
            self.said.append(message)

    heard = Heard()
    session = launch(folder, f"http://me:S3CR3T@127.0.0.1:{free_port()}", SPACE, heard)
    assert session.undelivered == 2 + 3 * 5
    assert [r.outcome for r in session.records] == ["completed"] * 3
    assert "S3CR3T" not in str(heard.said)
    with folder.records.open() as study:
        assert "me:***@127.0.0.1" in study.note("mlflow")["uri"]
    for path in folder.root.rglob("*"):
        assert path.is_dir() or b"S3CR3T" not in path.read_bytes()
    assert deliver(folder, server.uri) == 0
    runs = runs_of(server.uri, "digits")
    assert len(runs) == 4
    for name, run in runs.items():
        if name != "digits":
            assert [step for step, *_ in points_of(server.uri, run)["val/loss"]] == [1, 2, 3]


@pytest.mark.usefixtures("without_ray")
def test_checkpoints_of_an_ended_trial_are_forgotten_and_those_of_a_running_one_are_kept(
    folder: SweepFolder, uri: str, without_ray: Callable[[Each], None]
) -> None:
    def after(_: Coordinator, interruption: Interruption, number: int, epoch: Epoch) -> None:
        place = folder.trial(number)
        place.mkdir(exist_ok=True)
        (place / f"checkpoint-{epoch.number:05d}-0123456789abcdef.pt").touch()
        if (number, epoch.number) == (1, 1):
            signal.raise_signal(signal.SIGTERM)

    without_ray(after)
    launch(folder, uri)
    assert list(folder.trial(0).iterdir()) == []
    assert len(list(folder.trial(1).iterdir())) == 1


def test_a_trial_killed_while_it_was_drawn_does_not_hinder_delivery(
    folder: SweepFolder, uri: str
) -> None:
    one = machine(folder.root.parent, replace(SPACE))
    one.run(kill_before=3)
    assert deliver(one.folder, uri) == 0
    assert list(runs_of(uri, "sweep")) == ["sweep"]


# One trial by itself


class Stopping(Listener):
    """Sends a signal after an epoch."""

    def __init__(self, after: int = 0) -> None:
        self.after, self.events = after, list[Event]()

    def hear(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, EpochEnded) and event.epoch.number == self.after:
            signal.raise_signal(signal.SIGINT)


TRIAL = make_space(epochs=3, training=", batch_size: 256").trial


def single(folder: Path, uri: str, *listeners: Listener, trial: Any = TRIAL) -> Any:
    from ckconv_sweep.sweep.single import run_single

    return run_single(
        trial,
        "alone",
        folder,
        tracking_uri=uri,
        data_dir=None,
        device="cpu",
        listeners=listeners,
    )


def run_named(uri: str, name: str) -> Any:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    (run,) = [
        run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id])
        if run.info.run_name == name
    ]
    return run


def test_a_single_trial_is_resumed_and_tracked_once(tmp_path: Path, uri: str) -> None:
    whole = single(tmp_path / "whole", "sqlite:///" + uri.removeprefix("sqlite:///") + ".other")
    place = tmp_path / "alone"
    first = single(place, uri, Stopping(after=2))
    assert first.signal_exit_code == 130
    assert first.weights is None
    run = run_named(uri, "alone")
    assert run.info.status == "KILLED"
    # Whoever raised it stands before MLflow, which has not heard of the second epoch yet.
    assert [step for step, *_ in points_of(uri, run)["val/loss"]] == [1]
    second = single(place, uri)
    assert second.signal_exit_code is None
    assert second.undelivered == 0
    assert second.weights is not None
    assert second.weights.exists()

    def curve(e: Epoch) -> dict[str, float]:
        return {k: v for k, v in e.metrics.items() if not k.startswith("time/")}

    assert curve(second.best) == curve(whole.best)
    run = run_named(uri, "alone")
    assert run.info.status == "FINISHED"
    points = points_of(uri, run)
    assert {name: len(found) for name, found in points.items()} == {
        name: 1 if name.startswith("summary/") else 3 for name in points
    }
    assert points["summary/epochs"][0][1] == 3.0
    # A third time there is nothing left to train, and nothing is told twice.
    again = Stopping()
    third = single(place, uri, again)
    assert third.best.metrics == second.best.metrics
    assert isinstance(again.events[-1], Ended)
    assert points_of(uri, run_named(uri, "alone")) == points


@pytest.mark.fault("foreign-checkpoint")
def test_a_folder_that_holds_another_trial_is_refused_and_left_as_it_is(
    tmp_path: Path, uri: str
) -> None:
    place = tmp_path / "alone"
    single(place, uri, Stopping(after=1))
    before = content(place)
    training = TRIAL.training.model_copy(update={"seed": 77})
    with pytest.raises(ConfigError, match="other settings"):
        single(place, uri, trial=TRIAL.model_copy(update={"training": training}))
    assert content(place) == before


@pytest.mark.fault("nonfinite")
def test_a_single_trial_that_diverges_is_failed_in_mlflow_and_raises(
    tmp_path: Path, uri: str
) -> None:
    from ckconv_sweep.config.optimization import SGD
    from ckconv_sweep.errors import NonFiniteLoss

    diverging = TRIAL.model_copy(update={"optimizer": SGD(learning_rate=1e30)})
    with pytest.raises(NonFiniteLoss):
        single(tmp_path / "alone", uri, trial=diverging)
    run = run_named(uri, "alone")
    assert run.info.status == "FAILED"
    assert run.data.tags["outcome"] == "failed"
    assert run.data.tags["reason"] == "nonfinite"


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path: Path, uri: str) -> None:
    place = tmp_path / "alone"
    place.mkdir()
    with lock.held(place / "lock"), pytest.raises(SweepBusy):
        single(place, uri)


# The worker


def test_a_worker_that_cannot_write_its_trials_folder_does_not_fail_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ckconv_sweep.record.lease import Lease

    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(CannotWrite, match="cannot be written"):
        Lease(blocked / "0000", "1:1").take()


@pytest.mark.fault("two-drivers")
def test_only_the_newest_hand_out_of_a_trial_may_write(tmp_path: Path) -> None:
    from ckconv_sweep.record.lease import Lease

    old, new = Lease(tmp_path, "1:1"), Lease(tmp_path, "2:5")
    old.take()
    old.check()
    new.take()
    new.check()
    with pytest.raises(RuntimeError, match=r"handed out again: 2:5\S*, not 1:1"):
        old.check()


def test_the_driver_of_a_sweep_loads_ray_only_when_it_runs_one() -> None:
    code = "import sys, ckconv_sweep.sweep.driver; assert not {'ray', 'mlflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_a_confirmation_leaves_the_options_of_the_search_and_runs_only_while_its_driver_does(
    folder: SweepFolder, uri: str, without_ray: Callable[[Each], None]
) -> None:
    given: dict[str, Any] = {"executor": RayExecutor(Placement()), "tracking_uri": uri}
    given["data_dir"] = None
    run_sweep(folder, SPACE, **given, options={"concurrency": 1, "data_dir": "/data"})
    with folder.records.open() as study:
        plan = planned(study, 1, 3)
    said = list[str]()

    def look(work: Any, signals: Any, number: int, epoch: Epoch) -> None:
        with folder.records.open() as study:
            said.append(confirmation_in_words(study, folder.records.holder()))

    without_ray(look)
    run_sweep(folder, SPACE, **given, options={"concurrency": 7, "pack": 3}, plan=plan)
    assert said[0].endswith("; it runs now")
    with folder.records.open() as study:
        assert study.note("options") == {"concurrency": 1, "data_dir": "/data"}
        assert len(study.confirmations()) == plan.most
        assert not study.note(SESSION)
