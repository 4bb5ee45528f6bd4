from __future__ import annotations

import io
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, ConsoleDimensions

from ckconv_sweep.cli import words
from ckconv_sweep.cli.progress import LiveView, PlainLines, view_of
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Started
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.progress import Progress
from tests.report.records import record
from tests.sweep.in_process import make_space

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
        last_epoch=epochs,
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


SPACE = make_space(trials=8, epochs=5)


def view_on(
    size: tuple[int, int] = (120, 40),
    *,
    metrics: tuple[Metric, ...] = (Metric(),),
    alone: bool = False,
    records: Sequence[TrialRecord] = (),
) -> LiveView:
    console = Console(
        file=io.StringIO(),
        width=size[0],
        height=size[1],
        force_terminal=True,
        _environ={"TERM": "xterm"},  # a dumb one shows nothing again
    )
    known = Progress(metrics, None if alone else SPACE)
    known.begin(records)
    return LiveView("digits", metrics, known, console, since=time.time())


def drawn(
    events: Sequence[Event], size: tuple[int, int] = (120, 40), *, begun: bool = True, **others: Any
) -> list[str]:
    """What the live view shows after these events."""
    view = view_on(size, **others)
    if begun:
        view.begin(others.get("records", ()))
    for event in events:
        view.hear(event)
    return [line.plain.rstrip() for line in view.lines(size[0], size[1] - 1)]


SCRIPT: list[Event] = [
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
MANY = {f"setting_{i}": i / 7 for i in range(9)}
"""Settings that no terminal has room for beside a trial's numbers."""


def test_the_live_view_counts_what_ended_and_what_runs() -> None:
    counts, *_ = drawn(SCRIPT)
    assert counts == ("digits: 2 of 8 trials ended (0 completed, 1 pruned, 1 failed), 2 running")


def test_the_live_view_names_the_best_so_far_and_its_settings() -> None:
    assert "best val/accuracy so far: 0.8750 (t001, epoch 1)  dropout=0.2" in drawn(SCRIPT)


def test_the_live_view_has_a_row_for_each_running_trial() -> None:
    assert [line.split() for line in drawn(SCRIPT)[3:]] == [
        ["trial", "epoch", "val/accuracy", "best", "train/loss", "s/epoch", "settings"],
        ["t000", "2/5", "0.5000", "0.5000", "1.235", "0.50", "dropout=0.1"],
        ["t003", "0/5", "dropout=0.4"],
    ]


def test_further_metrics_have_a_column_in_the_live_view() -> None:
    events = [started(0, dropout=0.1), with_loss(epoch_ended(0, 1, 0.5, 0.5), 0.25)]
    heading, row = (line.split() for line in drawn(events, metrics=TWO)[3:])
    assert heading[2:6] == ["val/accuracy", "best", "val/loss", "train/loss"]
    assert row[1:6] == ["1/5", "0.5000", "0.5000", "0.25", "1.235"]


def test_the_live_view_of_a_trial_alone_has_no_counts() -> None:
    text = "\n".join(drawn([started(0), epoch_ended(0, 1, 0.5, 0.5)], alone=True))
    assert "trials" not in text
    assert "t000" not in text
    assert "best val/accuracy so far: 0.5000 (epoch 1)" in text


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (60, 24), (44, 12)])
@pytest.mark.parametrize("trials", [2, 40])
def test_no_terminal_is_too_narrow_for_trial_epoch_value_and_best(
    size: tuple[int, int], trials: int
) -> None:
    events: list[Event] = []
    for number in range(trials):
        events += [started(number, **MANY), with_loss(epoch_ended(number, 3, 0.5, 0.75), 0.25)]
    lines = drawn(events, size, metrics=TWO)
    assert len(lines) < size[1]
    assert max(map(len, lines)) <= size[0]
    (place,) = (i for i, line in enumerate(lines) if line.split()[:1] == ["trial"])
    assert lines[place].split()[:4] == ["trial", "epoch", "val/accuracy", "best"]
    assert lines[place + 1].split()[:4] == ["t000", "3/5", "0.5000", "0.7500"]
    hidden = re.search(r"and (\d+) more running", lines[-1])
    rows = sum(line.split()[0].startswith("t0") for line in lines[place:])
    assert rows + (int(hidden[1]) if hidden else 0) == trials


def test_settings_stand_below_a_trial_where_there_is_room_and_are_cut_where_there_is_none() -> None:
    few = drawn([started(n, **MANY) for n in range(2)], (80, 24))
    every = " ".join(f"setting_{i}={i / 7:.4g}" for i in range(9))
    assert " ".join(" ".join(few).split()).count(every) == 2
    many = drawn([started(n, **MANY) for n in range(12)], (80, 24))
    assert sum("setting_0=0 " in line and line.endswith("…") for line in many) == 12


def test_before_the_first_epoch_the_live_view_says_so() -> None:
    assert "no epoch has ended yet" in drawn([started(0)])


EARLIER = [
    record(0, [0.5, 0.75]),
    record(1, [0.25], "pruned"),
    record(2, [0.125], "running"),
]


def test_while_ray_starts_a_resumed_sweep_is_shown_as_it_was_left() -> None:
    counts, pace, best, *more = drawn([], records=EARLIER, begun=False)
    assert counts == "digits: 2 of 8 trials ended (1 completed, 1 pruned, 0 failed), 0 running"
    assert pace == "0:00 elapsed, reading the data and starting Ray"
    assert best.startswith("best val/accuracy so far: 0.7500 (t000, epoch 2)")
    assert more == []
    assert drawn([], records=EARLIER)[0] == counts


def test_while_ray_starts_a_log_says_what_a_resumed_sweep_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with view_of("digits", SPACE.metrics, SPACE, EARLIER):
        pass
    assert capsys.readouterr().out[9:] == "resuming: 2 trials ended before, 1 unfinished\n"


def test_a_terminal_of_another_size_gets_a_new_picture_and_keeps_the_messages() -> None:
    view = view_on((100, 30))
    console = view._console
    assert isinstance(console.file, io.StringIO)
    with view.shown():
        view.say("trials at a time: 2")
        shown_by = console.file
        console.size = ConsoleDimensions(60, 20)
        deadline = time.monotonic() + 30
        while CLEARED not in shown_by.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
    text = shown_by.getvalue()
    assert text.count(CLEARED) == 1
    after = text[text.index(CLEARED) :]
    assert after.index("trials at a time: 2") < after.index("digits: 0 of 8 trials ended")


CLEARED = "\x1b[2J\x1b[H"


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
