"""A sweep with two metrics, from its launch through a kill to its report; trials are a formula."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record.small import forked
from sweep.in_process import formula, in_this_process, make_space
from tracking.mlflow_real import points_of, runs_of
from typer.testing import CliRunner

from ckconv_sweep.api import Sweep
from ckconv_sweep.cli import app
from ckconv_sweep.config.history import Epoch, best
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.executor import RayExecutor
from ckconv_sweep.execution.protocol import Work
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.leaderboard import all_columns
from ckconv_sweep.sweep.driver import run_sweep

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

SPACE = make_space(
    sampler="tpe",
    scheduler="{name: asha, grace_epochs: 1, reduction_factor: 2}",
    trials=16,
    epochs=4,
    metrics="[{name: val/accuracy, mode: max}, {name: val/loss, mode: min}]",
)
NAMES = ["val/accuracy", "val/loss"]


def with_loss(epoch: Epoch) -> Epoch:
    """With a loss that differs from trial to trial, and is lowest before the accuracy is best."""
    accuracy = epoch.metrics["val/accuracy"]
    loss = 1000 * accuracy % 1 + 0.2 * abs(epoch.number - 2)
    metrics = {"val/accuracy": accuracy, "val/loss": loss, "time/epoch_seconds": 0.5}
    return replace(epoch, metrics=metrics)


def trained(work: Work, kill_after: int | None = None) -> None:
    """Four trials at a time, an epoch of each in turn."""
    epochs, running = 0, list[Any]()
    while running or (assignment := work.next()):
        while len(running) < 4 and (assignment := work.next() if running else assignment):
            running.append([assignment, 0])
        turn = running.pop(0)
        assignment, turn[1] = turn[0], turn[1] + 1
        if turn[1] > SPACE.trial.training.epochs:
            work.end(assignment.number)
            continue
        told = with_loss(formula(assignment.trial, turn[1]))
        epochs += 1
        if epochs == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if work.epoch(assignment.number, told):
            running.append(turn)


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A folder with the sweep `two`, whose driver was killed once, and its MLflow."""
    root = tmp_path_factory.mktemp("metrics") / "sweeps"
    root.mkdir()
    shutil.copy(empty_database, root / "mlflow.db")

    def launch(run: Callable[[Work], None]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            in_this_process(patch, lambda work, signals, known: run(work))
            run_sweep(
                SweepFolder.of(root, "two"),
                SPACE,
                RayExecutor(Placement()),
                tracking_uri=f"sqlite:///{root}/mlflow.db",
                data_dir=None,
                listeners=(),
            )

    with forked(lambda say: launch(lambda work: trained(work, kill_after=23))) as driver:
        assert driver.said.read() == ""  # until it is dead
    assert Sweep.open("two", sweeps_dir=root).state == "interrupted"
    launch(trained)
    return root


@pytest.fixture
def typed(sweeps: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """A command typed elsewhere; returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--sweeps-dir", str(sweeps)])
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


@pytest.fixture
def completed(sweeps: Path) -> list[TrialRecord]:
    sweep = Sweep.open("two", sweeps_dir=sweeps)
    records = [record for record in sweep.trials if record.outcome == "completed"]
    assert len(records) > 3
    assert {record.outcome for record in sweep.trials} == {"completed", "pruned"}
    return records


def at_best(record: TrialRecord) -> Epoch:
    return best(record.history, SPACE.metric)


def unbeaten(records: list[TrialRecord]) -> set[int]:
    """The Pareto front, by its definition."""
    scores = {
        r.number: (-at_best(r).metrics[NAMES[0]], at_best(r).metrics[NAMES[1]]) for r in records
    }
    return {
        number
        for number, (a, b) in scores.items()
        if not any(x <= a and y <= b and (x, y) != (a, b) for x, y in scores.values())
    }


def fronts_of(records: list[TrialRecord]) -> list[list[TrialRecord]]:
    """By the definition: what no other one beats, without it what no other one beats, and so on;
    on each the more accurate first."""

    def beats(one: TrialRecord, other: TrialRecord) -> bool:
        mine, theirs = (
            (-at_best(r).metrics["val/accuracy"], at_best(r).metrics["val/loss"])
            for r in (one, other)
        )
        return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))

    left, out = list(records), []
    while left:
        front = [r for r in left if not any(beats(other, r) for other in left)]
        out.append(sorted(front, key=lambda r: -at_best(r).metrics["val/accuracy"]))
        left = [r for r in left if r not in front]
    return out


def test_the_table_has_a_column_for_each_metric_at_one_epoch_and_marks_the_front(
    typed: Callable[..., str], completed: list[TrialRecord]
) -> None:
    rows = {row["trial"]: row for row in json.loads(typed("table", "two", "--format", "json"))}
    assert len(rows) == 16
    for record in completed:
        row, epoch = rows[record.number], at_best(record)
        assert [row[name] for name in NAMES] == [epoch.metrics[name] for name in NAMES]
        assert row["at epoch"] == epoch.number
    ranked = [record for front in fronts_of(completed) for record in front]
    assert [n for n, row in rows.items() if row["rank"]] == [r.number for r in ranked]
    front = {number for number, row in rows.items() if row["pareto"]}
    assert front == unbeaten(completed)
    assert 1 < len(front) < len(completed)
    assert {row["pareto"] for row in rows.values() if not row["rank"]} == {None}
    (chosen,) = (typed("table", "two", "--where", "pareto == true", "--format", "json"),)
    assert {row["trial"] for row in json.loads(chosen)} == front
    said = " ".join(typed("table", "two").split())
    assert (
        "ranked front by front, on each by val/accuracy; pareto, the first front: no other" in said
    )
    assert (
        "val/accuracy (higher is better) and val/loss (lower is better) and better in one" in said
    )


def test_best_and_status_tell_every_metric_of_the_best_trial(
    typed: Callable[..., str], sweeps: Path, completed: list[TrialRecord]
) -> None:
    winner = max(completed, key=lambda r: at_best(r).metrics["val/accuracy"])
    accuracy, loss = (at_best(winner).metrics[name] for name in NAMES)
    told = f"val/accuracy {accuracy:.6g}, val/loss {loss:.6g} at epoch {at_best(winner).number}"
    text = typed("best", "two")
    assert told in text.partition("\n")[0]
    Path("best.yaml").write_text(text)
    assert CliRunner().invoke(app, ["validate", "best.yaml"]).exit_code == 0
    status = json.loads(typed("status", "two", "--json"))
    assert (status["metric"], status["best_value"]) == ("val/accuracy", accuracy)
    assert status["best_values"] == {"val/accuracy": accuracy, "val/loss": loss}
    assert f"best val/accuracy: {accuracy:.4f}, val/loss {loss:.4f}" in typed("status", "two")
    assert Sweep.open("two", sweeps_dir=sweeps).best().values == status["best_values"]


def test_mlflow_has_every_metric_once_and_gives_the_same_table(
    typed: Callable[..., str], sweeps: Path, completed: list[TrialRecord]
) -> None:
    uri = f"sqlite:///{sweeps}/mlflow.db"
    runs = runs_of(uri, "two")
    assert len(runs) == 17
    for record in completed:
        points = points_of(uri, runs[f"t{record.number:03d}"])
        for name in NAMES:
            expected = [(e.number, e.metrics[name], e.timestamp_ms) for e in record.history]
            assert points[name] == expected
            summary = points[f"summary/{name.replace('/', '_')}"]
            assert summary == [(0, at_best(record).metrics[name], record.ended_ms)]
    note = runs["two"].data.tags["mlflow.note.content"]
    assert "higher is better, with val/loss (lower is better) at that epoch." in note
    assert "| rank | trial | val/accuracy | val/loss |" in note
    command = ("table", "two", "--format", "csv")
    assert typed(*command, "--tracking-uri", uri) == typed(*command)


def test_report_and_pareto_plot_show_the_front_of_the_metrics(
    typed: Callable[..., str], completed: list[TrialRecord], sweeps: Path
) -> None:
    typed("plot", "two", "pareto", "--out", "front.png")
    assert Path("front.png").read_bytes().startswith(b"\x89PNG")
    figure = Sweep.open("two", sweeps_dir=sweeps).plot("pareto")
    panel, _ = figure.axes  # the other one is of the hypervolume
    (line,) = panel.lines
    scores = {r.number: [at_best(r).metrics[name] for name in NAMES] for r in completed}
    front = sorted((scores[n][1], scores[n][0]) for n in unbeaten(completed))
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == front
    typed("report", "two", "--out", "report.html")
    text = re.sub(r"\s+", " ", Path("report.html").read_text())
    assert "(higher is better), with val/loss (lower is better) at that epoch." in text
    assert 'alt="val/accuracy against val/loss."' in text
    assert "<h3>Pareto front</h3>" in text
    assert '<p class="faint">ranked front by front, on each by val/accuracy; pareto' in text


def test_doctor_finds_nothing_wrong(typed: Callable[..., str]) -> None:
    assert "problem" not in typed("doctor", "two")


def test_a_sweep_with_other_metrics_is_another_sweep(
    typed: Callable[..., str], sweeps: Path
) -> None:
    text = SPACE.to_yaml().replace("val/loss", "train/loss")
    Path("space.yaml").write_text(text)
    words = ["launch", "space.yaml", "--name", "two", "--sweeps-dir", str(sweeps)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 0
    assert "was started with another space" in str(done.exception)
    assert "+- name: train/loss" in str(done.exception)


def test_the_front_counts_only_completed_trials(completed: list[TrialRecord], sweeps: Path) -> None:
    table = all_columns(Sweep.open("two", sweeps_dir=sweeps).trials, SPACE)
    assert set(table.loc[table["pareto"].notna(), "outcome"]) == {"completed"}
    assert len(completed) == table["pareto"].notna().sum()
