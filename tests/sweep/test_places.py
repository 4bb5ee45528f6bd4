"""A sweep's folder that was renamed, moved or copied, and MLflow's database beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from mlflow.tracking._tracking_service import utils as mlflow_utils
from tracking.mlflow_real import points_of, runs_of

from ckconv_sweep.api import Sweep
from ckconv_sweep.cli.pages import tracked
from ckconv_sweep.doctor import Finding, examine
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.executor import RayExecutor
from ckconv_sweep.record.events import Listener
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.sweep.delivery import Session, deliver, deliver_rest
from ckconv_sweep.sweep.driver import run_sweep
from ckconv_sweep.tracking.store import database_uri, default_database, default_uri

from .in_process import formula, in_this_process, make_space, with_trials

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.fault("folder-renamed"),
]

SPACE = make_space(trials=2)


class Heard(Listener):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(work: Any, signals: Any, known: Any) -> None:
        while assignment := work.next():
            for number in range(1, assignment.trial.training.epochs + 1):
                if not work.epoch(assignment.number, formula(assignment.trial, number)):
                    break
            work.end(assignment.number)

    in_this_process(monkeypatch, run)


def rest(folder: SweepFolder, uri: str, say: Callable[[str], None]) -> Session:
    """Launch a sweep that is finished."""
    with folder.records.open() as study:
        records = study.trials()
    return deliver_rest(folder, uri, records, say=say)


def resume(folder: SweepFolder, trials: int) -> list[str]:
    """A session with so many trials in all, tracked by default; what it said."""
    heard = Heard()
    session = run_sweep(
        folder,
        with_trials(SPACE, trials),
        RayExecutor(Placement()),
        tracking_uri=default_uri(folder.root.parent),
        data_dir=None,
        listeners=(heard,),
    )
    assert session.undelivered == 0
    assert len(session.records) == trials
    return [line for line in heard.said if "sweep" in line]


def sync(folder: SweepFolder) -> list[str]:
    said: list[str] = []
    assert deliver(folder, default_uri(folder.root.parent), say=said.append) == 0
    return said


def doctor(folder: SweepFolder) -> list[Finding]:
    findings = examine(folder)
    return [f for f in findings if f.check in ("study", "mlflow")]


def uid_of(folder: SweepFolder) -> str:
    with folder.records.open() as study:
        assert study._study.study_name == study.uid
        return study.uid


def in_mlflow(sweeps: Path, name: str, trials: int) -> dict[str, tuple[str, Any]]:
    """The runs of a sweep, of so many trials, each with its points; their files are beside the
    database."""
    uri = database_uri(default_database(sweeps))
    runs = runs_of(uri, name)
    assert sorted(runs) == sorted([name, *(f"t{number:03d}" for number in range(trials))])
    for run in runs.values():
        place = Path(unquote(urlsplit(run.info.artifact_uri).path))
        assert place.is_relative_to(sweeps / "mlartifacts")
        assert any(place.iterdir())
    return {n: (run.info.run_id, points_of(uri, run)) for n, run in runs.items()}


@pytest.fixture
def swept(disk: Path) -> SweepFolder:
    """A sweep of two trials that has ended, tracked by default."""
    folder = SweepFolder.of(disk / "sweeps", "first")
    assert resume(folder, 2) == []
    return folder


def renamed(folder: SweepFolder) -> SweepFolder:
    new = SweepFolder.of(folder.root.parent, "second")
    folder.root.rename(new.root)
    return new


def copied(folder: SweepFolder) -> SweepFolder:
    new = SweepFolder.of(folder.root.parent, "second")
    shutil.copytree(folder.root, new.root)
    return new


def moved(folder: SweepFolder) -> SweepFolder:
    """With all sweeps and MLflow's database, to where there is none of the old folder left."""
    new = folder.root.parents[1] / "elsewhere" / "sweeps 2"
    new.parent.mkdir()
    folder.root.parent.rename(new)
    mlflow_utils._artifact_repos_cache.clear()  # as in another process
    return SweepFolder.of(new, folder.name)


def test_a_renamed_sweep_is_that_sweep_under_the_new_name(swept: SweepFolder) -> None:
    uid, before = uid_of(swept), in_mlflow(swept.root.parent, "first", 2)
    folder = renamed(swept)
    opened = Sweep.open("second", sweeps_dir=folder.root.parent)
    assert (opened.name, opened.state, len(opened.table())) == ("second", "finished", 2)
    assert [(f.check, f.level) for f in doctor(folder)] == [("study", "ok"), ("mlflow", "ok")]
    assert tracked(folder).view == f"sweep-{uid}"
    (line,) = resume(folder, 3)
    assert line == f"this sweep was in {swept.root}; it keeps its runs in MLflow"
    assert uid_of(folder) == uid
    after = in_mlflow(folder.root.parent, "second", 3)
    assert after["second"] == (before["first"][0], after["second"][1])
    assert [after[n] for n in ("t000", "t001")] == [before[n] for n in ("t000", "t001")]
    assert runs_of(default_uri(folder.root.parent), "first") == {}
    assert resume(folder, 4) == []  # it is no news any more


def test_sync_and_a_launch_of_a_finished_sweep_give_its_runs_the_new_name(
    swept: SweepFolder,
) -> None:
    folder = renamed(swept)
    assert sync(folder) == [f"this sweep was in {swept.root}; it keeps its runs in MLflow"]
    in_mlflow(folder.root.parent, "second", 2)
    folder.root.rename(swept.root)
    said: list[str] = []
    assert rest(swept, default_uri(swept.root.parent), say=said.append).undelivered == 0
    assert said == [f"this sweep was in {folder.root}; it keeps its runs in MLflow"]
    in_mlflow(folder.root.parent, "first", 2)


@pytest.mark.parametrize("how", ["resume", "sync", "launch of a finished sweep"])
def test_a_copy_becomes_a_sweep_of_its_own(how: str, swept: SweepFolder) -> None:
    uid, before = uid_of(swept), in_mlflow(swept.root.parent, "first", 2)
    folder, uri = copied(swept), default_uri(swept.root.parent)
    study, mlflow = [f for f in doctor(folder) if f.level != "ok"]
    assert study.message == f"a copy of the sweep in {swept.root}; MLflow has nothing of it yet"
    assert " lacks " in mlflow.message
    assert study.todo == mlflow.todo == folder.command("sync")
    assert tracked(folder).view == f"sweep-{uid}"  # where its trials are until then
    trials, said = 2, list[str]()
    if how == "resume":
        trials, said = 3, resume(folder, 3)
    elif how == "sync":
        said = sync(folder)
    else:
        assert rest(folder, uri, say=said.append).undelivered == 0
    assert said == [
        f"this is a copy of the sweep in {swept.root}; it gets runs of its own in MLflow"
    ]
    assert uid_of(folder) != uid == uid_of(swept)
    copies = in_mlflow(folder.root.parent, "second", trials)
    assert in_mlflow(folder.root.parent, "first", 2) == before
    assert copies["t000"][0] != before["t000"][0]
    assert copies["t000"][1] == before["t000"][1]
    assert [f.level for f in doctor(folder)] == ["ok", "ok"]
    assert (sync(folder), sync(swept)) == ([], [])
    resume(swept, 4)  # and the original goes on by itself
    assert len(in_mlflow(folder.root.parent, "second", trials)) == trials + 1


def test_the_original_of_a_copy_is_known_when_it_was_renamed_too(swept: SweepFolder) -> None:
    uid, folder = uid_of(swept), copied(swept)
    original = SweepFolder.of(swept.root.parent, "third")
    swept.root.rename(original.root)
    assert sync(original) == [f"this sweep was in {swept.root}; it keeps its runs in MLflow"]
    (line,) = sync(folder)
    assert line.startswith(f"this is a copy of the sweep in {original.root}")
    assert uid_of(original) == uid != uid_of(folder)


def test_a_backup_that_is_put_in_the_place_of_its_sweep_is_that_sweep(swept: SweepFolder) -> None:
    uid, backup = uid_of(swept), copied(swept)
    resume(swept, 3)
    shutil.rmtree(swept.root)
    backup.root.rename(swept.root)
    assert resume(swept, 3) == []
    assert uid_of(swept) == uid
    in_mlflow(swept.root.parent, "first", 3)


def test_a_copy_whose_original_is_gone_or_damaged_is_that_sweep(swept: SweepFolder) -> None:
    uid, folder = uid_of(swept), copied(swept)
    swept.records.path.write_bytes(b"no database")
    assert resume(folder, 3) == [f"this sweep was in {swept.root}; it keeps its runs in MLflow"]
    assert uid_of(folder) == uid


def test_a_link_to_a_sweep_is_that_sweep(swept: SweepFolder) -> None:
    (swept.root.parent / "link").symlink_to(swept.root)
    folder = SweepFolder.of(swept.root.parent, "link")
    assert sync(folder) == []
    assert uid_of(folder) == uid_of(swept)


@pytest.mark.fault("sweeps-moved")
def test_sweeps_that_are_moved_take_mlflow_and_its_files_along(swept: SweepFolder) -> None:
    before = in_mlflow(swept.root.parent, "first", 2)
    folder = moved(swept)
    found = doctor(folder)
    assert [f.level for f in found] == ["ok", "ok"], found
    uri = default_uri(folder.root.parent)
    assert uri in doctor(folder)[1].message
    assert tracked(folder).uri == uri
    assert resume(folder, 3) == [f"this sweep was in {swept.root}; it keeps its runs in MLflow"]
    after = in_mlflow(folder.root.parent, "first", 3)
    assert [after[n] for n in ("t000", "t001")] == [before[n] for n in ("t000", "t001")]
    new = SweepFolder.of(folder.root.parent, "new")
    resume(new, 2)
    in_mlflow(new.root.parent, "new", 2)
    assert not swept.root.parent.exists()


@pytest.mark.fault("sweeps-moved")
def test_doctor_looks_for_files_beside_a_database_that_was_moved(swept: SweepFolder) -> None:
    folder = moved(swept)
    for path in (folder.root.parent / "mlartifacts").rglob("trial.yaml"):
        path.unlink()
    before = default_database(folder.root.parent).read_bytes()
    _, mlflow = doctor(folder)
    assert "lacks 8 records of trials 0, 1; 8 of them had been delivered" in mlflow.message
    assert default_database(folder.root.parent).read_bytes() == before
    assert sync(folder) != []
    in_mlflow(folder.root.parent, "first", 2)


@pytest.mark.fault("sweeps-moved")
def test_a_copy_of_all_sweeps_goes_on_in_its_own_database(swept: SweepFolder) -> None:
    uid, before = uid_of(swept), in_mlflow(swept.root.parent, "first", 2)
    shutil.copytree(swept.root.parent, swept.root.parents[1] / "other")
    mlflow_utils._artifact_repos_cache.clear()
    folder = SweepFolder.of(swept.root.parents[1] / "other", "first")
    there = sorted(swept.root.parent.rglob("*"))
    assert [f.level for f in doctor(folder)] == ["ok", "ok"]
    assert resume(folder, 3) == []
    assert sorted(swept.root.parent.rglob("*")) == there
    assert in_mlflow(swept.root.parent, "first", 2) == before
    after = in_mlflow(folder.root.parent, "first", 3)
    assert [after[n] for n in ("t000", "t001")] == [before[n] for n in ("t000", "t001")]
    # A server that both are delivered to tells them apart.
    shared, said = f"sqlite:///{swept.root.parents[1]}/shared.db", list[str]()
    assert deliver(swept, shared, say=said.append) == 0
    assert said == []
    assert deliver(folder, shared, say=said.append) == 0
    assert said[0].startswith("this is a copy of")
    assert uid_of(folder) != uid == uid_of(swept)


@pytest.mark.fault("sweeps-moved")
@pytest.mark.parametrize("name", ["which one?", "100%", "50%25", "a#b", "größe 1"])
def test_a_path_may_have_letters_that_mean_something_in_an_address(name: str, disk: Path) -> None:
    folder = SweepFolder.of(disk / name, "digits")
    resume(folder, 2)
    in_mlflow(disk / name, "digits", 2)
    assert [path.name for path in disk.iterdir()] == [name]
    assert [f.level for f in doctor(folder)] == ["ok", "ok"]
