"""`watch`: a sweep that runs elsewhere, seen from another terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.chaos.driver import Conditions, command
from ckconv_sweep.cli import app
from ckconv_sweep.cli.watch import News
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Listener, Rejected, Started
from ckconv_sweep.record.folder import SweepFolder
from tests.sweep.in_process import Machine, formula, machine, make_space, with_trials

from .commands import PROGRAM, ckconv_sweep, ended, environment, refused

SPACE = make_space(
    trials=5, epochs=3, scheduler="{name: asha, grace_epochs: 1}", constraints=["model.dropout < 1"]
)


class Ear(Listener):
    """What the driver's own listeners heard, in one order."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def hear(self, event: Event) -> None:
        self.heard.append(event)


def by_trial(events: list[Event]) -> dict[int, list[Event]]:
    return {n: [e for e in events if e.number == n] for n in sorted({e.number for e in events})}


@pytest.mark.parametrize("every", [1, 3, 100])
def test_who_looks_at_the_study_hears_what_the_driver_hears(every: int, tmp_path: Path) -> None:
    ear = Ear()
    run = machine(tmp_path, SPACE, listeners=(ear,))
    seen: list[Event] = []
    with run.session() as session, run.folder.records.open() as study:
        news, steps = News(study.space), 0
        news.skip(study.trials())
        while session.step():
            steps += 1
            if steps % every == 0:
                seen += news.of(study.trials())
        seen += news.of(study.trials())
        seen += news.of(study.trials())
    assert by_trial(seen) == by_trial(ear.heard)


def test_of_what_ran_before_the_last_epoch_is_told_and_not_the_others(tmp_path: Path) -> None:
    run = machine(tmp_path, SPACE)
    with run.session() as session, run.folder.records.open() as study:
        while len(study.trials()) < 3 or not study.trials()[2].history:
            session.step()
        records = study.trials()
        news = News(study.space)
        news.skip(records)
        told = by_trial(list(news.of(records)))
        later = {e.number for e in news.of(records)}
        running = [r for r in records if r.outcome == "running" and r.history]
        assert running
        assert [r.number for r in records if r.outcome != "running"]
        for r in running:
            start, last = told.pop(r.number)
            assert isinstance(start, Started)
            assert isinstance(last, EpochEnded)
            assert (start.epochs_before, last.epoch.number) == (len(r.history), len(r.history))
        assert told == {}
        # The second look finds one again that has only just been asked for.
        assert later == {r.number for r in records if r.outcome == "running" and not r.history}
        assert list(news.of(records)) == []


def test_a_trial_that_violates_a_constraint_is_never_told_of(tmp_path: Path) -> None:
    run = machine(tmp_path, make_space(trials=2, constraints=["model.dropout < 0.05"]))
    with run.session() as session, run.folder.records.open() as study:
        news, told = News(study.space), list[Event]()
        while session.step():
            told += news.of(study.trials())
        told += news.of(study.trials())
        rejected = {r.number for r in study.trials() if not r.counts}
    assert rejected
    assert not rejected & {event.number for event in told}
    assert sum(isinstance(event, Ended) for event in told) == 2


@pytest.mark.fault("grid-smaller-than-budget")
def test_every_point_that_a_constraint_takes_from_a_grid_is_told_to_both(tmp_path: Path) -> None:
    ear = Ear()
    asked = make_space(sampler="grid", trials=50, constraints=["optimizer.learning_rate <= 0.001"])
    run = machine(tmp_path, asked, listeners=(ear,))
    with run.session() as session, run.folder.records.open() as study:
        news, seen = News(study.space), list[Event]()
        while session.step():
            seen += news.of(study.trials())
        seen += news.of(study.trials())
        counted = [r.number for r in study.trials() if r.counts]
    assert by_trial(seen) == by_trial(ear.heard)
    assert [e.most for e in ear.heard if isinstance(e, Rejected)] == [5, 4, 3]
    assert len(counted) == 3


# The command


def work(trial: Trial, number: int) -> Epoch:
    """As `formula`, with all that a live view shows."""
    told = formula(trial, number)
    more = {"train/loss": 1.0 / number, "time/epoch_seconds": 0.1}
    return replace(told, metrics={**told.metrics, **more})


@contextlib.contextmanager
def half_run(folder: Path):  # type: ignore[no-untyped-def]
    """A sweep `sweep` that this process holds, in the middle, and its machine."""
    run: Machine = machine(folder / "sweeps", SPACE, work=work)
    with run.folder.records.lock(), run.session() as session:
        for _ in range(5):
            session.step()
        yield session


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_looking_and_leaves_the_sweep_alone(
    number: signal.Signals, tmp_path: Path
) -> None:
    with half_run(tmp_path) as session:
        process = subprocess.Popen(
            [PROGRAM, "watch", "sweep"],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        before = session.study.trials()
        process.send_signal(number)
        said, complaint = process.communicate(timeout=30)
        assert process.returncode == 128 + number
        assert complaint == ""
        assert re.match(r"\S+ [01] of 5 trials ended; a line for each follows$", first)
        assert said == "sweep is still running; watch it again with: ckconv-sweep watch sweep\n"
        assert session.study.trials() == before
        session.run()
    assert {r.outcome for r in session.machine.records()} <= {"completed", "pruned"}


def test_on_a_terminal_it_is_the_live_view_and_ends_with_the_sweep(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with half_run(tmp_path) as session:
        process = subprocess.Popen(
            [PROGRAM, "watch", "sweep"],
            cwd=tmp_path,
            env=environment(TERM="xterm", COLUMNS="120", LINES="40"),
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        text = read_until(ours, "running")
        assert "sweep: " in text
        assert "of 5 trials ended" in text
        assert "best val/accuracy so far" in text
        session.run()
    text = read_until(ours, "all its trials: ckconv-sweep table sweep")
    os.close(ours)
    assert process.wait(timeout=30) == 0
    assert "sweep: finished, 5 trials requested" in text


def test_a_sweep_whose_driver_still_starts_is_waited_for(tmp_path: Path) -> None:
    run = machine(tmp_path / "sweeps", SPACE, work=work)
    study = run.folder.records.path
    study.rename(tmp_path / "study.db")
    with run.folder.records.lock():
        said = refused(ckconv_sweep("status", "sweep", cwd=tmp_path))
        assert said.startswith("error: sweep: the sweep is starting")
        assert f"process {os.getpid()} on " in said
        process = subprocess.Popen(
            [PROGRAM, "watch", "sweep"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"sweep is starting\n"
        (tmp_path / "study.db").rename(study)
        assert b" 0 of 5 trials ended; " in process.stdout.readline()
        assert run.run()
    text, _ = process.communicate(timeout=30)
    assert b"sweep: finished, 5 trials requested\n" in text


def test_a_sweep_that_is_extended_is_followed_to_its_new_end(tmp_path: Path) -> None:
    run = machine(tmp_path / "sweeps", with_trials(SPACE, 1), work=work)
    assert run.run()
    with run.folder.records.lock():
        process = subprocess.Popen(
            [PROGRAM, "watch", "sweep"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert b" 1 of 1 trials ended; " in process.stdout.readline()
        run.space = with_trials(SPACE, 3)
        with run.session() as session:
            assert b" 1 of 3 trials ended; " in process.stdout.readline()
            session.run()
    text, _ = process.communicate(timeout=30)
    assert re.findall(rb" (t\d+) ", text) == [b"t001", b"t002"]


@pytest.mark.parametrize("arguments", [["resume", "sweep"], ["launch", "space.yaml"]])
def test_a_resume_holds_the_sweep_before_anything_heavy_is_imported(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = machine(tmp_path, SPACE)
    (tmp_path / "space.yaml").write_text(SPACE.to_yaml())
    held: list[str | None] = []

    def look(folder: SweepFolder, *_: object) -> None:
        held.append(folder.records.holder())

    monkeypatch.setattr("ckconv_sweep.cli.run._run", look)
    monkeypatch.chdir(tmp_path)
    options = ["--name", "sweep"] * (arguments[0] == "launch")
    done = CliRunner().invoke(app, [*arguments, *options, "--sweeps-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (who,) = held
    assert str(who).startswith(f"process {os.getpid()} on ")
    assert run.folder.records.holder() is None


def read_until(descriptor: int, text: str) -> str:
    """What a terminal shows, without its control codes."""
    shown, deadline = "", time.monotonic() + 60
    while text not in shown:
        assert time.monotonic() < deadline, shown
        try:
            shown += os.read(descriptor, 10_000).decode()
        except OSError:
            break
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert text in shown
    return shown


def test_a_finished_and_an_interrupted_sweep_are_said_to_be_so(tmp_path: Path) -> None:
    with half_run(tmp_path) as session:
        pass
    said = ended(ckconv_sweep("watch", "sweep", cwd=tmp_path))
    assert said.startswith("sweep: interrupted, 5 trials requested\n")
    assert "  resume with: ckconv-sweep resume sweep\n" in said
    assert session.machine.run()
    said = ended(ckconv_sweep("watch", "sweep", cwd=tmp_path))
    assert said.startswith("sweep: finished, 5 trials requested\n")
    assert said.endswith("  all its trials: ckconv-sweep table sweep\n")


def test_a_sweep_is_watched_to_its_end_and_then_runs_the_users_command(here: Path) -> None:
    """While it runs; `--on-best` and `--on-finish` ride on the same sweep."""
    on_best = f'echo "$CKCONV_BEST_TRIAL $CKCONV_BEST_VALUE" >> {here}/best'
    on_finish = (
        f"{shutil.which('env')} | grep ^CKCONV_ > {here}/end; "
        f'cd {here}; "{PROGRAM}" status > status'
    )
    options = ["--on-best", on_best, "--on-finish", on_finish, "--concurrency", 1]
    options.append("--set=training.epochs=10")
    places = ["--sweeps-dir", here / "sweeps", "--tracking-uri", "http://127.0.0.1:1"]
    launched = command(
        ["launch", here / "small.yaml", *options, *places], here / "said", Conditions(digits=True)
    )
    while "t000 started" not in launched.said():
        assert launched.runs, launched.said()
        time.sleep(0.02)
    watched = command(["watch", "small", *places[:2]], here / "watched", Conditions())
    code, said = launched.wait(), launched.said()
    assert code == 0, said
    assert watched.wait() == 0, watched.said()
    lines = watched.said().splitlines()
    stamped = [line[9:] for line in lines if re.match(r"\d\d:\d\d:\d\d t", line)]
    completed = [line[9:] for line in said.splitlines() if "completed after" in line]
    assert [line.split()[0] for line in completed] == ["t000", "t001", "t002"]
    assert stamped  # the first may have ended before somebody looked
    assert stamped == completed[-len(stamped) :]
    assert "small: finished, 3 trials requested" in lines

    with SweepFolder.existing(here / "sweeps", "small").records.open() as study:
        values = {
            r.number: max(e.metrics["val/accuracy"] for e in r.history) for r in study.trials()
        }
    best = max(values, key=lambda number: values[number])
    last = (here / "best").read_text().splitlines()[-1]
    assert last == f"{best} {values[best]!r}"
    end = dict(line.split("=", 1) for line in (here / "end").read_text().splitlines())
    assert end["CKCONV_STATE"] == "finished"
    assert end["CKCONV_EXIT_CODE"] == "0"
    assert end["CKCONV_SWEEP"] == "small"
    assert (end["CKCONV_BEST_TRIAL"], float(end["CKCONV_BEST_VALUE"])) == (str(best), values[best])
    assert "small" in (here / "status").read_text()
