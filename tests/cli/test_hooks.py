"""`--on-best` and `--on-finish`: commands of the user's own, which never hold a sweep up."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from ckconv_sweep.cli.hooks import Command, at_each_best, at_the_end
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.errors import ClusterLost
from ckconv_sweep.record.events import EpochEnded, Listener
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.report.confirmable import planned
from tests.sweep.in_process import machine, make_space


class Heard(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def epoch(value: float, trial: int = 0, number: int = 1) -> EpochEnded:
    metrics = {"val/accuracy": value}
    at = Epoch(number=number, metrics=metrics, timestamp_ms=0)
    return EpochEnded(number=trial, epoch=at, best=value)


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder.of(tmp_path, "odd")


def test_a_command_is_run_at_each_new_best_and_at_no_other_epoch(
    folder: SweepFolder, tmp_path: Path
) -> None:
    out, view = tmp_path / "out", Heard()
    line = f'echo "$CKCONV_SWEEP $CKCONV_METRIC $CKCONV_BEST_TRIAL $CKCONV_BEST_VALUE" >> {out}'
    with at_each_best(line, folder, Metric(), view) as runs:
        runs.begin([])
        for event, lines in ((epoch(0.5), 1), (epoch(0.4), 1), (epoch(0.625, 3), 2)):
            runs.hear(event)
            wait_for(lambda lines=lines: len(lines_of(out)) == lines)
    assert lines_of(out) == ["odd val/accuracy 0 0.5", "odd val/accuracy 3 0.625"]
    assert view.lines == []


def test_while_a_command_runs_only_the_newest_best_waits(
    folder: SweepFolder, tmp_path: Path
) -> None:
    out, gate = tmp_path / "out", tmp_path / "gate"
    line = f"echo $CKCONV_BEST_VALUE >> {out}; while [ ! -e {gate} ]; do sleep 0.05; done"
    with at_each_best(line, folder, Metric(), Heard()) as runs:
        runs.begin([])
        runs.hear(epoch(0.1))
        wait_for(out.exists)
        for value in range(2, 9):
            runs.hear(epoch(value / 10))
        gate.touch()
    assert lines_of(out) == ["0.1", "0.8"]


def test_what_was_the_best_before_a_resume_is_not_new(tmp_path: Path) -> None:
    run = machine(tmp_path, make_space(trials=2))
    assert run.run()
    top = max(e.metrics["val/accuracy"] for r in run.records() for e in r.history)
    out = tmp_path / "out"
    with at_each_best(f"echo x >> {out}", run.folder, Metric(), Heard()) as runs:
        runs.begin(run.records())
        runs.hear(epoch(top))
        runs.hear(epoch(top + 0.01))
    assert lines_of(out) == ["x"]


def test_a_command_that_fails_is_one_line_however_often(folder: SweepFolder) -> None:
    view = Heard()
    line = "echo first; echo 'no such channel' >&2; exit 3"
    with at_each_best(line, folder, Metric(), view) as runs:
        runs.begin([])
        for value in (0.1, 0.2, 0.3):
            runs.hear(epoch(value))
            time.sleep(0.3)
    assert view.lines == ["--on-best: the command ended with 3: no such channel"]


def test_a_command_that_hangs_is_left_alone_at_the_end(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckconv_sweep.cli.hooks.LONGEST_WAIT_SECONDS", 0.5)
    view, before = Heard(), time.monotonic()
    with at_each_best("exec sleep 15", folder, Metric(), view) as runs:
        runs.begin([])
        runs.hear(epoch(0.1))
        time.sleep(0.3)
    assert time.monotonic() - before < 10
    assert view.lines == ["--on-best: the command is still running and was not stopped"]


@pytest.mark.fault("secrets")
def test_no_value_becomes_a_part_of_the_command(folder: SweepFolder, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    value = f"$(touch {bad}); touch {bad} #"
    command = Command("--on-best", f'printf %s "$V" > {tmp_path}/out', folder, Metric())
    assert command.run({"V": value}) == ""
    assert (tmp_path / "out").read_text() == value
    assert not bad.exists()


SAY = 'echo "$CKCONV_STATE $CKCONV_EXIT_CODE $CKCONV_BEST_TRIAL $CKCONV_BEST_VALUE"'


@pytest.mark.parametrize(
    ("trials", "raised", "said"),
    [
        (2, None, "finished 0"),
        (9, typer.Exit(130), "interrupted 130"),
        (9, ClusterLost("it is gone"), "failed 75"),
        (9, RuntimeError("a bug"), "failed 1"),
    ],
)
def test_at_the_end_a_command_is_told_how_it_ended(
    trials: int, raised: Exception | None, said: str, tmp_path: Path
) -> None:
    run = machine(tmp_path, make_space(trials=2))
    assert run.run()
    if trials != 2:
        from tests.sweep.in_process import with_trials

        with run.folder.records.open() as study:
            study.set_space(with_trials(run.space, trials))
    values = {r.number: max(e.metrics["val/accuracy"] for e in r.history) for r in run.records()}
    best = max(values, key=lambda number: values[number])
    out = tmp_path / "out"

    def session() -> None:
        with at_the_end(f"{SAY} > {out}", run.folder, Metric()) as listener:
            listener.begin([])
            if raised is not None:
                raise raised

    if raised is None:
        session()
    else:
        with pytest.raises(type(raised)):
            session()
    assert lines_of(out) == [f"{said} {best} {values[best]!r}"]


def test_at_the_end_of_a_confirmation_a_command_is_told_how_far_that_is_not_the_search(
    tmp_path: Path,
) -> None:
    run = machine(tmp_path, make_space(trials=2))
    assert run.run()
    with run.folder.records.open() as study:
        run.plan = planned(study, 1, 3)
    out = tmp_path / "out"

    def session() -> None:
        with at_the_end(f"{SAY} > {out}", run.folder, Metric(), confirms=True) as listener:
            listener.begin([])

    with run.session() as begun:
        assert begun.step()
    session()
    (interrupted,) = lines_of(out)
    assert run.run()
    session()
    (finished,) = lines_of(out)
    assert [line.split()[0] for line in (interrupted, finished)] == ["interrupted", "finished"]


def test_what_never_began_has_no_end(folder: SweepFolder, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), at_the_end(f"touch {tmp_path}/out", folder, Metric()):
        raise RuntimeError
    assert not (tmp_path / "out").exists()


def test_our_own_commands_find_the_sweep_from_such_a_command(
    folder: SweepFolder, tmp_path: Path
) -> None:
    command = Command("--on-finish", f'echo "$CKCONV_SWEEPS" > {tmp_path}/out', folder, Metric())
    assert command.run({}) == ""
    assert lines_of(tmp_path / "out") == [str(folder.root.parent)]
