"""A population that is trained: real checkpoints are copied, the driver is killed on the way, and
all that is told of it agrees."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from tracking.mlflow_real import runs_of

from ckconv_sweep.config.read import read_segments
from ckconv_sweep.data.datasets import load
from ckconv_sweep.doctor import examine
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.executor import RayExecutor
from ckconv_sweep.execution.protocol import Assignment, Signals, Work
from ckconv_sweep.record.budget import is_finished
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.lineage import lineage, trial_file
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.from_mlflow import results_at
from ckconv_sweep.sweep.driver import run_sweep
from ckconv_sweep.sweep.single import run_single
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training.member import Member
from ckconv_sweep.training.pack import Pack

from .in_process import Killed, in_this_process, make_space

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.fault("population-killed"),
]

SPACE = make_space(
    search="""
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.dropout: {low: 0.0, high: 0.3}
""",
    scheduler="{name: pbt, interval_epochs: 2}",
    trials=4,
    epochs=6,
    training=", batch_size: 256",
)


@dataclass
class Trainer:
    """Trains four trials side by side in this process, as a seat does, until it is killed."""

    kill_after: int | None = None
    """Epochs."""

    def __call__(self, work: Work, signals: Signals, known: object) -> None:
        task, places, told = load(SPACE.trial.data), dict[int, tuple[Member, Pack]](), 0
        while True:
            while len(places) < 4 and (given := work.next()):
                member = self._opened(given)
                places[given.number] = member, Pack(task)
                places[given.number][1].join(member)
                for epoch in member.own:
                    work.epoch(given.number, epoch)
            if not places:
                return
            number = next(iter(places))
            member, pack = places.pop(number)
            pack.epoch()
            goes_on = work.epoch(number, member.keep())
            told += 1
            if told == self.kill_after:
                raise Killed
            if member.end is not None:
                member.finish()
                work.end(number)
            elif goes_on:
                places[number] = member, pack

    def _opened(self, given: Assignment) -> Member:
        return Member.open(
            given.trial,
            load(given.trial.data),
            folder=given.folder,
            recorded=given.recorded,
            source=given.source,
            kept_epochs=given.kept_epochs,
        )


def swept(folder: SweepFolder, uri: str) -> None:
    run_sweep(folder, SPACE, RayExecutor(Placement()), tracking_uri=uri, data_dir=None)


@pytest.fixture(scope="module")
def sweep(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> tuple[SweepFolder, str]:
    """A sweep that was killed three times, and resumed."""
    root = tmp_path_factory.mktemp("population")
    (root / "sweeps").mkdir()
    database = root / "sweeps" / "mlflow.db"
    database.write_bytes(empty_database.read_bytes())
    folder, uri = SweepFolder.of(root / "sweeps", "pbt"), f"sqlite:///{database}"
    with pytest.MonkeyPatch.context() as patched:
        for epochs in (7, 6, 5):
            in_this_process(patched, Trainer(kill_after=epochs), at_a_time=4)
            with pytest.raises(Killed):
                swept(folder, uri)
        in_this_process(patched, Trainer(), at_a_time=4)
        swept(folder, uri)
    return folder, uri


def records_of(folder: SweepFolder) -> list[TrialRecord]:
    with folder.records.open() as study:
        assert study.contradictions() == []
        return study.trials()


def test_a_population_that_is_killed_three_times_ends_whole(
    sweep: tuple[SweepFolder, str],
) -> None:
    folder, uri = sweep
    records = records_of(folder)
    assert is_finished(records, SPACE)
    assert sum(record.is_of_budget for record in records) == 4
    assert sum(record.outcome == "completed" for record in records) == 4
    assert sum(record.outcome == "continued" for record in records) >= 2
    assert [f for f in examine(folder, uri) if f.level == "problem"] == []
    assert max(record.sessions[-1] for record in records) == 4


def test_each_continuation_began_with_a_copy_of_what_its_record_names(
    sweep: tuple[SweepFolder, str],
) -> None:
    folder, _ = sweep
    records = records_of(folder)
    begun = [record for record in records if record.from_trial is not None]
    assert begun
    for record in begun:
        source = records[record.from_trial or 0]
        (epoch,) = [e for e in source.history if e.number == record.from_epoch]
        there, here = (
            folder.trial(number) / epoch.checkpoint for number in (source.number, record.number)
        )
        assert here.read_bytes() == there.read_bytes()
        state = checkpoint.load(here)
        assert [one["number"] for one in state["history"]] == list(range(1, epoch.number + 1))
        told = {
            one.number: dict(one.metrics)
            for link in lineage(source, records)
            for one in link.epochs
        }
        assert {one["number"]: one["metrics"] for one in state["history"]} == {
            number: metrics for number, metrics in told.items() if number <= epoch.number
        }
        rates = [e.metrics["train/learning_rate"] for e in record.history]
        assert rates == [record.params["optimizer.learning_rate"]] * len(rates)


def test_the_segments_of_a_continuation_give_its_curve_again(
    sweep: tuple[SweepFolder, str], tmp_path: Path
) -> None:
    folder, uri = sweep
    records = records_of(folder)
    record = max(
        (r for r in records if r.outcome == "completed"), key=lambda r: len(lineage(r, records))
    )
    links = lineage(record, records)
    assert len(links) > 1
    file = tmp_path / "best.yaml"
    file.write_text(trial_file(record, records, SPACE))
    trial, segments = read_segments(str(file))
    assert [until for _, until in segments] == [link.until for link in links[:-1]]
    run = run_single(
        trial,
        "again",
        tmp_path / "again",
        tracking_uri=uri,
        data_dir=None,
        device="cpu",
        segments=segments,
    )
    executed = {}
    for ledger in (tmp_path / "again").rglob("ledger.jsonl"):
        for line in map(json.loads, ledger.read_text().splitlines()):
            executed[line["epoch"]] = line["metrics"]
    expected = {e.number: e.metrics for link in links for e in link.epochs}
    assert executed.keys() == expected.keys()
    for number, metrics in expected.items():
        for name in metrics:
            if not name.startswith("time/"):
                assert executed[number][name] == metrics[name], (number, name)
    assert run.best is not None
    assert run.best.metrics["val/accuracy"] == record.value(SPACE.metric)


def test_mlflow_tells_the_same(sweep: tuple[SweepFolder, str]) -> None:
    folder, uri = sweep
    records = records_of(folder)
    runs = runs_of(uri, "pbt")
    for record in records:
        tags = runs[f"t{record.number:03d}"].data.tags
        assert tags["outcome"] == record.outcome
        if record.replaces is not None:
            assert tags["from"] == f"t{record.from_trial:03d} epoch {record.from_epoch}"
            assert tags["replaces"] == f"t{record.replaces:03d}"
        else:
            assert "from" not in tags
    read = results_at("pbt", uri).records
    for one, other in zip(read, records, strict=True):
        assert (one.outcome, one.params, one.origin) == (other.outcome, other.params, other.origin)
        assert [e.number for e in one.history] == [e.number for e in other.history]
        assert one.values(SPACE.metrics) == other.values(SPACE.metrics)
