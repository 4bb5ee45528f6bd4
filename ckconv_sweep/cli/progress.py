"""What a person sees while trials run: a live view on a terminal, one line an event elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ckconv_sweep.cli.words import count, duration, number, score, scores, settings
from ckconv_sweep.config.grid import most_trials
from ckconv_sweep.config.history import Epoch, best
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Listener, Rejected, Started
from ckconv_sweep.record.trials import TrialRecord


def progress(name: str, space: Space, rejected: int = 0) -> AbstractContextManager[Listener]:
    """The view of a sweep that fits where the output goes; `rejected` as in `most_trials`."""
    return view_of(name, space.metrics, most_trials(space, rejected))


@contextlib.contextmanager
def view_of(name: str, metrics: Sequence[Metric], trials: int | None = None) -> Iterator[Listener]:
    """The view of so many trials, or of a single run (None), that fits where the output goes."""
    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainLines(metrics, alone=trials is None)
        return
    view = LiveView(name, metrics, trials, console)
    with view.shown():
        yield view


class PlainLines(Listener):
    """One line an event.

    Args:
        metrics: the primary one first.
    """

    def __init__(self, metrics: Sequence[Metric], *, alone: bool = False) -> None:
        self._metric, self._beside, self._alone = metrics[0], _beside(metrics), alone
        self._epochs: dict[int, int] = {}

    def begin(self, records: Sequence[TrialRecord]) -> None:
        if records:
            unfinished = sum(r.outcome == "running" for r in records)
            self.say(
                f"resuming: {count(len(records) - unfinished, 'trial')} ended before, {unfinished} "
                f"unfinished"
            )

    def hear(self, event: Event) -> None:
        name = "" if self._alone else trial_name(event.number) + " "
        match event:
            case Started():
                self._epochs[event.number] = event.trial.training.epochs
                if not self._alone:
                    again = f" again after epoch {event.epochs_before}"
                    self.say(
                        f"{name}started{again if event.epochs_before else ''}: "
                        f"{settings(event.params)}"
                    )
            case EpochEnded():
                metrics = event.epoch.metrics
                of = f"{event.epoch.number}/{self._epochs[event.number]}"
                self.say(
                    f"{name}epoch {of}: {self._metric.name} {score(metrics[self._metric.name])} "
                    f"(best {score(event.best)}), {scores({n: metrics[n] for n in self._beside})}, "
                    f"{metrics['time/epoch_seconds']:.2f} s"
                )
            case Ended():
                self.say(f"{name}{ended_in_words(event)}")

    def say(self, message: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)  # noqa: T201


def _beside(metrics: Sequence[Metric]) -> list[str]:
    """What is shown of an epoch beside the primary metric."""
    return list(dict.fromkeys([*(metric.name for metric in metrics[1:]), "train/loss"]))


def ended_in_words(event: Ended) -> str:
    """What became of a trial, in a line."""
    value = f", {scores(event.values)}" if event.values else ""
    match event.outcome:
        case "completed":
            why = " (early stopping)" if event.reason == "early_stopping" else ""
            return f"completed after {event.epochs} epochs{why}{value}"
        case "pruned":
            return f"pruned by the stopping rule after epoch {event.epochs}{value}"
    last = event.error.strip().splitlines()[-1] if event.error.strip() else ""
    return f"failed ({event.reason}) after {event.epochs} epochs: {last}"


@dataclass
class _Row:
    trial: Trial
    params: Mapping[str, Any]
    before: int
    """Epochs that it had when we first heard of it."""
    epoch: Epoch | None = None
    best: float | None = None

    @property
    def share_before(self) -> float:
        """How much of the trial was done then."""
        return self.before / self.trial.training.epochs

    @property
    def share(self) -> float:
        """How much of it is done now."""
        number = self.before if self.epoch is None else self.epoch.number
        return number / self.trial.training.epochs


class LiveView(Listener):
    """Counts, the best so far and a line for each running trial, redrawn in place.

    Args:
        metrics: the primary one first.
        asked: how many trials the sweep has in all; None for a trial that runs alone.
    """

    def __init__(
        self, name: str, metrics: Sequence[Metric], asked: int | None, console: Console
    ) -> None:
        self._name, self._asked, self._console = name, asked, console
        self._metric, self._beside = metrics[0], _beside(metrics)
        self._rows: dict[int, _Row] = {}
        self._counts: Counter[str] = Counter()
        self._best: tuple[float, int, int, str] | None = None
        self._begun = asked is None  # a single run starts no Ray
        self._start = time.monotonic()
        self._epochs, self._ended_seen = 0, 0.0
        self._live = Live(
            console=console, get_renderable=self._draw, transient=True, refresh_per_second=4
        )

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        with self._live:
            yield

    def begin(self, records: Sequence[TrialRecord]) -> None:
        self._begun = True
        self._counts.update(r.outcome for r in records if r.outcome != "running")
        for record in records:
            if record.history:
                chosen = best(record.history, self._metric.model_copy(update={"at": "best"}))
                self._offer(
                    chosen.metrics[self._metric.name], record.number, chosen.number, record.params
                )

    def hear(self, event: Event) -> None:
        match event:
            case Started():
                self._rows[event.number] = _Row(event.trial, event.params, event.epochs_before)
            case EpochEnded():
                row = self._rows[event.number]
                row.epoch, row.best = event.epoch, event.best
                self._epochs += event.epoch.number > row.before
                self._offer(event.best, event.number, event.epoch.number, row.params)
            case Rejected():
                self._asked = event.most
            case Ended():
                if (left := self._rows.pop(event.number, None)) is not None:
                    self._ended_seen += 1 - left.share_before
                self._counts[event.outcome] += 1
                if event.outcome == "failed":
                    self.say(f"{trial_name(event.number)} {ended_in_words(event)}")

    def say(self, message: str) -> None:
        self._console.print(message, highlight=False, markup=False)

    def _offer(self, value: float, trial: int, epoch: int, params: Mapping[str, Any]) -> None:
        if self._best is None or self._metric.better(value, self._best[0]):
            self._best = (value, trial, epoch, settings(params))

    def _draw(self) -> RenderableType:
        return Group(*self._headlines(), self._best_line(), self._table())

    def _headlines(self) -> Iterator[Text]:
        """A line that does not fit is cut: a wrapped one would be left behind on the screen."""
        done = sum(self._counts.values())
        elapsed = time.monotonic() - self._start
        counts = self._name
        if self._asked is not None:
            counts += (
                f": {done} of {self._asked} trials ended ({self._counts['completed']} completed, "
                f"{self._counts['pruned']} pruned, {self._counts['failed']} failed), "
                f"{len(self._rows)} running"
            )
        yield _line(counts, "bold")
        pace = f"{60 * self._epochs / elapsed:.0f} epochs a minute, " if self._epochs else ""
        yield _line(f"{pace}{duration(elapsed)} elapsed{self._time_left(done, elapsed)}", "dim")

    def _time_left(self, done: int, elapsed: float) -> str:
        """From the pace of the epochs that we heard of, early stopping included."""
        if self._asked is None:
            row = next(iter(self._rows.values()), None)
            if row is None or row.epoch is None or not self._epochs:
                return ""
            epochs_left = row.trial.training.epochs - row.epoch.number
            return f", about {duration(elapsed / self._epochs * epochs_left)} left"
        rows = self._rows.copy().values()
        through = self._ended_seen + sum(row.share - row.share_before for row in rows)
        if not self._epochs or through <= 0:
            return ""
        left = self._asked - done - sum(row.share for row in rows)
        return f", about {duration(elapsed * left / through)} left"

    def _best_line(self) -> Text:
        if self._best is None:
            said = "no epoch has ended yet" if self._begun else "reading the data and starting Ray"
            return _line(said, "dim")
        value, trial, epoch, changed = self._best
        which = "" if self._asked is None else f"{trial_name(trial)}, "
        said = f"best {self._metric.name} so far: {score(value)} ({which}epoch {epoch})"
        return _line(f"{said}  {changed}", "green")

    def _table(self) -> Table:
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
        for heading in ("trial", "epoch", self._metric.name, "best", *self._beside, "s/epoch"):
            table.add_column(heading, justify="right", no_wrap=True, min_width=max(6, len(heading)))
        table.add_column("settings", overflow="ellipsis", no_wrap=True, ratio=1)
        for trial, row in sorted(self._rows.copy().items()):
            epochs = row.trial.training.epochs
            if row.epoch is None:
                cells = [f"0/{epochs}", *[""] * (3 + len(self._beside))]
            else:
                metrics = row.epoch.metrics
                cells = [
                    f"{row.epoch.number}/{epochs}",
                    score(metrics[self._metric.name]),
                    score(row.best) if row.best is not None else "",
                    *(number(metrics[name]) for name in self._beside),
                    f"{metrics['time/epoch_seconds']:.2f}",
                ]
            table.add_row(
                "" if self._asked is None else trial_name(trial), *cells, settings(row.params)
            )
        return table


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
