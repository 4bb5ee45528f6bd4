"""The data change: between two sessions of a sweep, before a trial goes on, on another node."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from data.small_files import write_uea
from execution.test_seat import Brought, Driver
from execution.test_worker import in_turn
from training.tiny import make_task, make_trial, run

from ckconv_sweep.config.space import Space
from ckconv_sweep.data.datasets import load
from ckconv_sweep.doctor import examine
from ckconv_sweep.errors import DataChanged, ResourcesMissing
from ckconv_sweep.execution import seat, worker
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.desk import Desk
from ckconv_sweep.execution.executor import RayExecutor
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.protocol import Signals, Work
from ckconv_sweep.execution.roster import Roster
from ckconv_sweep.execution.seat import Seat
from ckconv_sweep.execution.surveyor import Surveyor
from ckconv_sweep.record.events import EpochEnded, Event, Listener
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trained_data import on_other_data
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.comparison import reservations
from ckconv_sweep.report.leaderboard import leaderboard
from ckconv_sweep.report.results import Results
from ckconv_sweep.sweep.driver import run_sweep
from ckconv_sweep.sweep.interruption import Interrupted
from ckconv_sweep.training import checkpoint

from .in_process import in_this_process, make_space, with_trials

pytestmark = pytest.mark.filterwarnings("ignore")

NOBODY = "http://127.0.0.1:1"
DATA = "uea, problem: Tiny, validation_fraction: 0.25"
DROPOUT = "  model.dropout: {choices: [0.0, 0.1]}\n"
SPACE = make_space(data=DATA, search=DROPOUT, trials=2, epochs=3)


def swapped_labels(train: Path) -> None:
    rows = train.read_text().splitlines()
    start = rows.index("@data") + 1
    swap = {"a": "b", "b": "a"}
    rows[start:] = [row[:-1] + swap[row[-1]] for row in rows[start:]]
    train.write_text("\n".join(rows))


def more_series(train: Path) -> None:
    train.write_text(train.read_text() + "\n1.0,2.0:3.0,4.0:b" * 4)


def another_class(train: Path) -> None:
    for path in (train, train.with_name("Tiny_TEST.ts")):
        path.write_text(path.read_text().replace("true b a", "true b a c"))


def another_value(train: Path) -> None:
    head, _, rows = train.read_text().partition("@data\n")
    train.write_text(f"{head}@data\n9{rows}")


@dataclass
class Heard(Listener):
    """Stops its session after an epoch, if it is told one."""

    stop_after: tuple[int, int] | None = None
    said: list[str] = field(default_factory=list)

    def hear(self, event: Event) -> None:
        if isinstance(event, EpochEnded) and (event.number, event.epoch.number) == self.stop_after:
            raise Interrupted(signal.SIGINT)

    def say(self, message: str) -> None:
        self.said.append(message)


@dataclass
class Place:
    """A sweep over `Tiny`, trained in this process."""

    root: Path
    heard: Heard = field(default_factory=Heard)

    @property
    def folder(self) -> SweepFolder:
        return SweepFolder.of(self.root / "sweeps", "tiny")

    @property
    def train(self) -> Path:
        return self.root / "uea" / "Tiny" / "Tiny_TRAIN.ts"

    def digest(self) -> str:
        return str(load(SPACE.trial.data, self.root).identity["digest"])

    def launch(self, space: Space = SPACE, *, allow: bool = False) -> list[TrialRecord]:
        return run_sweep(
            self.folder,
            space,
            RayExecutor(Placement()),
            tracking_uri=NOBODY,
            data_dir=self.root,
            listeners=(self.heard,),
            allow_data_change=allow,
        ).records


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    write_uea(tmp_path)
    made = Place(tmp_path)

    def run(work: Work, signals: Signals, known: KnownData) -> None:
        worker.task_of.cache_clear()  # another session has other processes
        in_turn(Desk(work, known, places=1, at_a_time=1, roster=Roster()), data_dir=made.root)

    in_this_process(monkeypatch, run, at_a_time=1)
    return made


def content(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}


@pytest.mark.fault("data-changed")
@pytest.mark.parametrize(
    ("change", "first"),
    [
        (swapped_labels, "the training targets differ"),
        (more_series, "training sequences: 12, now 15"),
        (another_class, "classes: 2, now 3"),
        (another_value, "the validation values differ"),
    ],
)
def test_a_sweep_whose_data_changed_is_refused_with_the_difference_and_left_as_it_was(
    change: Callable[[Path], None], first: str, place: Place
) -> None:
    place.launch()
    old = place.digest()
    before = content(place.folder.root)
    change(place.train)
    with pytest.raises(DataChanged) as refused:
        place.launch(with_trials(SPACE, 4))
    assert f"{first}; digest {old}, now {place.digest()}" in refused.value.message
    assert "--allow-data-change" in str(refused.value)
    assert content(place.folder.root) == before
    (said,) = [f for f in examine(place.folder, NOBODY, place.root) if f.check == "data"]
    assert (said.level, first in said.message) == ("problem", True)
    assert old in said.message


@pytest.mark.fault("data-changed")
def test_trials_on_other_data_are_marked_in_study_tables_and_doctor_if_it_is_allowed(
    place: Place,
) -> None:
    place.launch()
    (well,) = [f for f in examine(place.folder, NOBODY, place.root) if f.check == "data"]
    old = place.digest()
    assert (well.level, well.message) == ("ok", f"those of the sweep: digest {old}")
    swapped_labels(place.train)
    records = place.launch(with_trials(SPACE, 4), allow=True)
    new = place.digest()
    assert [set(r.data) for r in records] == [{old}, {old}, {new}, {new}]
    assert any(line.startswith("other data than before: the training") for line in place.heard.said)
    with place.folder.records.open() as study:
        noted = [(entry["session"], entry["digest"]) for entry in study.note("data")]
        results = Results.of_study(study)
    assert noted == [(1, old), (2, new)]
    assert on_other_data(records) == {old: [0, 1]}
    table = leaderboard(records, SPACE)
    assert dict(zip(table["trial"], table["data"], strict=True)) == {
        0: old[:8],
        1: old[:8],
        2: new[:8],
        3: new[:8],
    }
    (line,) = results.notes
    assert line.startswith("trained on other data than the newest trials: 0, 1 (digest ")
    found = [f for f in examine(place.folder, NOBODY, place.root) if f.check == "data"]
    assert [f.level for f in found] == ["warning", "ok"]
    assert found[0].message == line
    # The next session is compared with the last one.
    assert len(place.launch(with_trials(SPACE, 5))) == 5


@pytest.mark.fault("data-changed")
def test_a_sweep_on_one_data_has_no_column_and_no_word_about_them(place: Place) -> None:
    records = place.launch()
    assert "data" not in leaderboard(records, SPACE)
    with place.folder.records.open() as study:
        assert Results.of_study(study).notes == ()


def without_ledgers(files: dict[Path, bytes]) -> dict[Path, bytes]:
    return {path: text for path, text in files.items() if path.name != "ledger.jsonl"}


@pytest.mark.fault("data-changed")
def test_an_interrupted_trial_goes_on_from_its_checkpoint_on_other_data_only_if_it_is_allowed(
    place: Place,
) -> None:
    place.heard.stop_after = 0, 2
    (first,) = place.launch()
    place.heard.stop_after = None
    assert (first.outcome, len(first.history)) == ("running", 2)
    old = place.digest()
    swapped_labels(place.train)
    # The thread that trained may note one more epoch in its ledger, which is no record.
    before = without_ledgers(content(place.folder.root))
    with pytest.raises(DataChanged):
        place.launch()
    assert without_ledgers(content(place.folder.root)) == before
    first, second = place.launch(allow=True)
    new = place.digest()
    assert [first.data, second.data] == [(old, old, new), (new,) * 3]
    assert on_other_data([first, second]) == {old: [0]}
    assert f"{old[:8]}+{new[:8]}" in list(leaderboard([first, second], SPACE)["data"])


@pytest.mark.fault("data-changed")
def test_data_of_searched_settings_are_told_apart_and_compared_by_their_settings(
    place: Place,
) -> None:
    search = "  data.split_seed: {choices: [0, 1]}\n" + DROPOUT
    space = make_space(data=DATA, search=search, sampler="grid", trials=4, epochs=1)
    records = place.launch(space)
    assert len({r.data for r in records}) == 2
    assert on_other_data(records) == {}
    assert "data" not in leaderboard(records, space)
    # Their own data change, those of the base trial do not: the worker sees it.
    searched = next(r for r in records if r.params["data.split_seed"] == 1)
    data = space.resolve(searched.params, searched.number).data
    other = json.dumps({"digest": "0" * 32})
    known = KnownData(space, load(space.trial.data, place.root).identity, records)
    assert known.of(data) == {"digest": searched.data[-1]}
    with pytest.raises(DataChanged, match="digest 0000"):
        worker.check_data(load(data, place.root), json.loads(other))


@pytest.mark.fault("data-changed")
@pytest.mark.fault("data-changed")
def test_sweeps_on_other_data_under_the_same_settings_are_not_ranked_together(place: Place) -> None:
    place.launch()
    with place.folder.records.open() as study:
        first = Results.of_study(study)
    swapped_labels(place.train)
    other = Place(place.root, place.heard)
    place.folder.root.rename(place.folder.root.with_name("old"))
    other.launch()
    with other.folder.records.open() as study:
        second = Results.of_study(study)
    assert reservations([first, first]) == []
    (said,) = reservations([first, second])
    assert said.startswith("trained on different data (the same settings, other sequences)")


@pytest.mark.fault("data-changed")
def test_a_node_with_other_data_trains_nothing_and_no_trial_fails(place: Place) -> None:
    """As the driver reads them they are the old ones; as the worker does, they are not."""
    seen = Surveyor.identity_of

    def then_changed(*args: Any) -> Any:
        identity = seen(*args)
        swapped_labels(place.train)
        return identity

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Surveyor, "identity_of", then_changed)
        with pytest.raises(ResourcesMissing) as stopped:
            place.launch()
    assert "the training targets differ" in str(stopped.value)
    with place.folder.records.open() as study:
        assert [(r.outcome, r.history) for r in study.trials()] == [("running", ())]
    assert [path.name for path in place.folder.trial(0).iterdir()] == ["lease"]
    swapped_labels(place.train)
    assert [r.outcome for r in place.launch()] == ["completed"] * 2


@pytest.mark.fault("node-unfit")
@pytest.mark.parametrize(
    ("needed", "gpus", "why"), [({"torch": "0.1"}, 0.0, "here 0.1"), ({}, 1.0, "sees no GPU")]
)
def test_a_seat_whose_node_may_not_train_says_so_before_it_is_given_a_trial(
    needed: dict[str, str], gpus: float, why: str
) -> None:
    versions = worker.nodes.versions.of_worker() | needed
    (said,) = Seat(1, gpus, None, versions, allow_data_change=False).said()
    assert said["reason"] == worker.UNFIT
    assert why in said["error"]
    assert "ready" not in said


@pytest.mark.fault("node-unfit")
def test_a_seat_refuses_a_trial_for_which_its_node_has_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat, "task_of", lambda data, data_dir: make_task())
    needed = worker.nodes.versions.of_worker()
    driver = Driver(Seat(1, 0.0, None, needed, allow_data_change=False))
    data = {"digest": "0" * 32}
    said = Brought(driver, make_trial(), tmp_path / "0", data=data).to_its_end()
    assert said["reason"] == worker.UNFIT
    assert "digest 0000" in said["error"]
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["lease"]


@pytest.mark.fault("data-changed")
def test_a_checkpoint_goes_on_with_its_own_data_alone_and_one_that_names_none_with_any(
    tmp_path: Path,
) -> None:
    trial = make_trial(training={"epochs": 2})
    run(make_trial(training={"epochs": 2}), tmp_path)
    (_, newest), (_, first) = checkpoint.checkpoints(tmp_path)
    newest.unlink()
    state = checkpoint.load(first)
    assert state["data"] == make_task().identity
    with pytest.raises(DataChanged, match="the checkpoint here was trained on other data: the"):
        run(trial, tmp_path, make_task(noise=2.0))
    said: list[str] = []
    run(trial, tmp_path, make_task(noise=2.0), allow_data_change=True, warn=said.append)
    assert said[0].startswith("continues on other data than before: the training values differ")
    assert checkpoint.newest(tmp_path)[0]["data"] == make_task(noise=2.0).identity  # type: ignore[index]
    for _, path in checkpoint.checkpoints(tmp_path):
        path.unlink()
    del state["data"]
    checkpoint.save(tmp_path, 1, state)
    _, epochs = run(trial, tmp_path, make_task(noise=2.0))
    assert [epoch.number for epoch in epochs] == [1, 2]
