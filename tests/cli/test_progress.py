from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from ckconv_sweep.cli import words
from ckconv_sweep.cli.progress import LiveView, PlainLines
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Rejected, Started

TRIAL = Trial.model_validate(
    {"data": {"name": "digits"}, "model": {"hidden_channels": 4}, "training": {"epochs": 5}}
)


def started(number: int, before: int = 0, **params: object) -> Event:
    named = {f"model.{key}": value for key, value in params.items()}
    return Started(number=number, trial=TRIAL, params=named, started_ms=0, epochs_before=before)


def epoch_ended(number: int, epoch: int, value: float, best: float) -> EpochEnded:
    metrics = {"val/accuracy": value, "train/loss": 1.23456, "time/epoch_seconds": 0.5}
    return EpochEnded(
        number=number, epoch=Epoch(number=epoch, metrics=metrics, timestamp_ms=0), best=best
    )


def ended(number: int, outcome: str, epochs: int, reason: str = "", error: str = "") -> Ended:
    values = {"val/accuracy": 0.75} if epochs else {}
    return Ended(  # type: ignore[arg-type]
        number=number,
        outcome=outcome,
        reason=reason,
        error=error,
        epochs=epochs,
        values=values,
        ended_ms=0,
    )


LINES: list[tuple[Event, str]] = [
    (started(0, hidden_channels=8, dropout=0.125), "t000 started: hidden_channels=8 dropout=0.125"),
    (started(3, 4, dropout=0.1), "t003 started again after epoch 4: dropout=0.1"),
    (
        epoch_ended(0, 2, 0.5, 0.625),
        "t000 epoch 2/5: val/accuracy 0.5000 (best 0.6250), train/loss 1.2346, 0.50 s",
    ),
    (ended(0, "completed", 5, "epochs"), "t000 completed after 5 epochs, val/accuracy 0.7500"),
    (
        ended(0, "completed", 4, "early_stopping"),
        "t000 completed after 4 epochs (early stopping), val/accuracy 0.7500",
    ),
    (
        ended(12, "pruned", 2),
        "t012 pruned by the stopping rule after epoch 2, val/accuracy 0.7500",
    ),
    (
        ended(0, "failed", 0, "error", "Traceback ...\nValueError: no\n"),
        "t000 failed (error) after 0 epochs: ValueError: no",
    ),
]


@pytest.mark.parametrize(("event", "line"), LINES, ids=[line[:24] for _, line in LINES])
def test_elsewhere_than_on_a_terminal_an_event_is_one_line(
    event: Event, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    view = PlainLines((Metric(),))
    view.hear(started(0))
    capsys.readouterr()
    view.hear(event)
    said = capsys.readouterr().out
    assert re.fullmatch(r"\d\d:\d\d:\d\d (.*)\n", said)
    assert said[9:-1] == line


def test_a_trial_alone_is_said_without_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainLines((Metric(),), alone=True)
    view.hear(started(0))
    view.hear(epoch_ended(0, 1, 0.5, 0.5))
    (line,) = capsys.readouterr().out.splitlines()
    assert line[9:].startswith("epoch 1/5: val/accuracy 0.5000")


TWO = (Metric(), Metric(name="val/loss", mode="min"))


def with_loss(event: EpochEnded, loss: float) -> EpochEnded:
    metrics = {**event.epoch.metrics, "val/loss": loss}
    return replace(event, epoch=replace(event.epoch, metrics=metrics))


def test_further_metrics_stand_beside_the_first_in_every_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = PlainLines(TWO)
    view.hear(started(0))
    view.hear(with_loss(epoch_ended(0, 1, 0.5, 0.5), 0.25))
    view.hear(replace(ended(0, "completed", 5), values={"val/accuracy": 0.5, "val/loss": 0.25}))
    _, epoch, end = capsys.readouterr().out.splitlines()
    assert "val/accuracy 0.5000 (best 0.5000), val/loss 0.2500, train/loss 1.2346" in epoch
    assert end.endswith("completed after 5 epochs, val/accuracy 0.5000, val/loss 0.2500")


def test_further_metrics_have_a_column_in_the_live_view() -> None:
    console = Console(file=io.StringIO(), width=80, height=40, force_terminal=True)
    view = LiveView("digits", TWO, 2, console)
    with view.shown():
        for event in (started(0, dropout=0.1), started(1, dropout=0.2)):
            view.hear(event)
        view.hear(with_loss(epoch_ended(0, 1, 0.5, 0.5), 0.25))
    assert isinstance(console.file, io.StringIO)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).splitlines()
    (heading, *_) = [line.split() for line in reversed(lines) if "val/loss" in line]
    assert heading[2:6] == ["val/accuracy", "best", "val/loss", "train/loss"]
    (row, *_) = [line.split() for line in reversed(lines) if line.lstrip().startswith("t000")]
    assert row[1:6] == ["1/5", "0.5000", "0.5000", "0.25", "1.235"]


def drawn(events: list[Event], asked: int | None, width: int = 120, *, begun: bool = True) -> str:
    """The last picture of the live view, as plain text."""
    console = Console(file=io.StringIO(), width=width, height=40, force_terminal=True)
    view = LiveView("digits", (Metric(),), asked, console)
    with view.shown():
        if begun:
            view.begin([])
        for event in events:
            view.hear(event)
    assert isinstance(console.file, io.StringIO)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return text[text.rindex("digits") :]


SCRIPT = [
    started(0, dropout=0.1),
    started(1, dropout=0.2),
    epoch_ended(0, 1, 0.25, 0.25),
    epoch_ended(1, 1, 0.875, 0.875),
    epoch_ended(0, 2, 0.5, 0.5),
    ended(1, "pruned", 1),
    started(2, dropout=0.3),
    ended(2, "failed", 0, "nonfinite", "train/loss became nan"),
    started(3, dropout=0.4),
]


def test_the_live_view_counts_what_ended_and_what_runs() -> None:
    text = drawn(SCRIPT, asked=8)
    assert "2 of 8 trials ended" in text
    assert "0 completed, 1 pruned, 1 failed" in text
    assert "2 running" in text


def test_the_live_view_names_the_best_so_far_and_its_settings() -> None:
    assert "best val/accuracy so far: 0.8750 (t001, epoch 1)  dropout=0.2" in drawn(SCRIPT, asked=8)


def test_the_live_view_has_a_row_for_each_running_trial() -> None:
    rows = [line.split() for line in drawn(SCRIPT, asked=8).splitlines() if " dropout=" in line]
    rows = [row for row in rows if row[0].startswith("t0")]
    assert rows == [
        ["t000", "2/5", "0.5000", "0.5000", "1.235", "0.50", "dropout=0.1"],
        ["t003", "0/5", "dropout=0.4"],
    ]


def test_the_live_view_of_a_trial_alone_has_no_counts() -> None:
    text = drawn([started(0), epoch_ended(0, 1, 0.5, 0.5)], asked=None)
    assert "trials" not in text
    assert "t000" not in text
    assert "best val/accuracy so far: 0.5000 (epoch 1)" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_live_view_never_wraps(width: int) -> None:
    lines = drawn(SCRIPT, asked=8, width=width).splitlines()
    assert max(map(len, lines)) <= width


def test_before_the_first_epoch_the_live_view_says_so() -> None:
    assert "no epoch has ended yet" in drawn([started(0)], asked=3)


def test_before_the_session_begins_the_live_view_says_what_it_waits_for() -> None:
    assert "reading the data and starting Ray" in drawn([], asked=3, begun=False)


def test_the_time_that_is_left_does_not_count_epochs_that_were_there_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four of the five epochs of a resumed trial took no time of this session."""
    now = [0.0]
    monkeypatch.setattr("ckconv_sweep.cli.progress.time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    view = LiveView("digits", (Metric(),), 2, console)
    view.hear(started(0, before=3))
    view.hear(epoch_ended(0, 3, 0.5, 0.5))  # as `watch` tells what it finds
    _, pace = view._headlines()
    assert str(pace) == "0:00 elapsed"
    now[0] = 10.0
    view.hear(epoch_ended(0, 4, 0.5, 0.5))
    _, pace = view._headlines()
    # One epoch in 10 s; one more and the five of another trial are left.
    assert str(pace) == "6 epochs a minute, 0:10 elapsed, about 1:00 left"
    now[0] = 20.0
    view.hear(epoch_ended(0, 5, 0.5, 0.5))
    view.hear(ended(0, "completed", 5, "epochs"))
    _, pace = view._headlines()
    assert str(pace) == "6 epochs a minute, 0:20 elapsed, about 0:50 left"


@pytest.mark.fault("grid-smaller-than-budget")
def test_the_time_that_is_left_has_no_trials_that_a_grid_cannot_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("ckconv_sweep.cli.progress.time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    view = LiveView("digits", (Metric(),), 3, console)
    view.hear(started(0))
    view.hear(Rejected(number=1, most=2))
    view.hear(Rejected(number=2, most=1))
    now[0] = 10.0
    view.hear(epoch_ended(0, 1, 0.5, 0.5))
    counts, pace = view._headlines()
    assert str(counts).startswith("digits: 0 of 1 trials ended")
    assert str(pace) == "6 epochs a minute, 0:10 elapsed, about 0:40 left"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.97222, "0.9722"),
        (0.0, "0.0000"),
        (1.0, "1.0000"),
        (12.5, "12.5000"),
        (0.01, "0.0100"),
        (0.0099, "0.0099"),
        (2.5747e-05, "2.575e-05"),
        (-0.5, "-0.5000"),
        (12345678.0, "1.235e+07"),
        (1e308, "1e+308"),
    ],
)
def test_a_score_is_said_with_the_digits_that_tell_something(value: float, said: str) -> None:
    assert words.score(value) == said
