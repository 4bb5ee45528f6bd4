"""What a person sees while trials run: a live view on a terminal, one line an event elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.control import Control
from rich.live import Live
from rich.text import Text

from ckconv_sweep.cli.words import count, duration, number, score, scores, settings
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.keys import REASON_STOPPED, setting_name, trial_name
from ckconv_sweep.record.confirmation import Confirmation, ended
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Listener, Started
from ckconv_sweep.record.trials import TrialRecord, given, rejected
from ckconv_sweep.report.progress import Progress, Unfinished

instead: Listener | None = None
"""Hears of everything in the place of a view, if there is one (`from_python`)."""


@contextlib.contextmanager
def view_of(
    name: str,
    metrics: Sequence[Metric],
    space: Space | None = None,
    records: Sequence[TrialRecord] = (),
    *,
    since: float | None = None,
    plan: Confirmation | None = None,
) -> Iterator[Listener]:
    """The view that fits where the output goes.

    Args:
        metrics: the primary one first.
        space: of the sweep; None for a single run.
        records: what there is of the sweep, which is shown while its driver starts.
        since: when the driver started, in seconds since 1970; now, if left out.
        plan: what is confirmed; None: the sweep is searched.
    """
    if instead is not None:
        yield instead
        return
    console = Console()
    if not console.is_terminal or console.is_dumb_terminal:
        plain = PlainLines(metrics, alone=space is None)
        if records and since is None:
            plain.say(resumed_in_words(records))
        yield plain
        return
    progress = Progress(metrics, space, rejected(records), plan)
    progress.begin([record for record in records if record.counts])
    view = LiveView(name, metrics, progress, console, since=time.time() if since is None else since)
    with view.shown():
        yield view


def resumed_in_words(records: Sequence[TrialRecord]) -> str:
    """What a resumed sweep has already."""
    counted = [record.outcome for record in records if record.counts]
    unfinished = counted.count("running")
    ended = count(len(counted) - unfinished - counted.count("continued"), "trial")
    return f"resuming: {ended} ended before, {unfinished} unfinished"


class CountsConfirmed(Listener):
    """Says after each trial how far a confirmation is, where no live view shows it."""

    def __init__(self, view: Listener, plan: Confirmation | None) -> None:
        self._view, self._plan, self._ended = view, plan, 0

    def begin(self, records: Sequence[TrialRecord]) -> None:
        self._ended = ended(records)

    def hear(self, event: Event) -> None:
        if isinstance(event, Ended) and self._plan is not None:
            self._ended += 1
            if not isinstance(self._view, LiveView):
                self._view.say(f"confirming: {self._ended} of at most {self._plan.most}")


class PlainLines(Listener):
    """One line an event.

    Args:
        metrics: the primary one first.
    """

    def __init__(self, metrics: Sequence[Metric], *, alone: bool = False) -> None:
        self._metric, self._beside, self._alone = metrics[0], _beside(metrics), alone
        self._epochs: dict[int, int] = {}

    def hear(self, event: Event) -> None:
        name = "" if self._alone else trial_name(event.number) + " "
        match event:
            case Started():
                self._epochs[event.number] = event.trial.training.epochs
                if not self._alone:
                    before, origin = event.epochs_before, event.origin
                    begun = before > origin.get("from_epoch", 0)
                    again = f" again after epoch {before}" * begun
                    told = settings(given(event.params, origin)) or "base trial"
                    self.say(f"{name}started{again}: {told}{asked_for(event)}")
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


_BY_THE_RULE = "pruned by the stopping rule"


def asked_for(event: Started) -> str:
    """Why, if the sampler did not draw it."""
    if "confirms" in event.origin:
        setting = setting_name(event.origin["confirms"])
        return f" (confirms {setting}, seed {event.origin['seed_index']})"
    for name, words in (("retry_of", "once more"), ("repeat_of", "a repeat of")):
        if name in event.origin:
            return f" ({words} {trial_name(event.origin[name])})"
    if "replaces" in event.origin:
        source = f"{trial_name(event.origin['from_trial'])} epoch {event.origin['from_epoch']}"
        return f" (in place of {trial_name(event.origin['replaces'])}, from {source})"
    return " (added)" if "request" in event.origin else ""


def ended_in_words(event: Ended) -> str:
    """What became of a trial, in a line."""
    value = f", {scores(event.values)}" if event.values else ""
    match event.outcome:
        case "completed":
            why = " (early stopping)" if event.reason == "early_stopping" else ""
            own = f" ({event.epochs} of its own)" if event.epochs < event.last_epoch else ""
            return f"completed after {event.last_epoch} epochs{own}{why}{value}"
        case "pruned":
            whom = "stopped by hand" if event.reason == REASON_STOPPED else _BY_THE_RULE
            return f"{whom} after epoch {event.last_epoch}{value}"
        case "continued":
            return f"continued by another trial after epoch {event.last_epoch}{value}"
    if event.reason == REASON_STOPPED:
        return "stopped by hand before its first epoch"
    last = event.error.strip().splitlines()[-1] if event.error.strip() else ""
    after = f"after {event.last_epoch} epochs"
    return f"failed ({event.reason}) {after}: {last}"


class LiveView(Listener):
    """Counts, the best so far and the running trials, redrawn in place.

    Args:
        metrics: the primary one first.
        progress: is kept up to date with what the view hears.
        since: when the driver started, in seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        metrics: Sequence[Metric],
        progress: Progress,
        console: Console,
        *,
        since: float,
    ) -> None:
        self._name, self._known, self._console, self._since = name, progress, console, since
        self._metric, self._others = metrics[0], _beside(metrics)
        self._alone = progress.asked is None
        self._begun = self._alone  # a single run starts no Ray
        self._said: deque[str] = deque(maxlen=_KEPT_MESSAGES)
        self._lock = threading.Lock()
        self._live = self._new_live()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Draw it again and again while the block runs, and take it away at the end."""
        over = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(over,), name="view", daemon=True)
        self._live.start()
        ticker.start()
        try:
            yield
        finally:
            over.set()
            ticker.join()
            self._live.stop()

    def begin(self, records: Sequence[TrialRecord]) -> None:
        with self._lock:
            self._begun = True
            self._known.begin(records)

    def hear(self, event: Event) -> None:
        with self._lock:
            self._known.hear(event)
        if isinstance(event, Ended) and event.outcome == "failed":
            self.say(f"{trial_name(event.number)} {ended_in_words(event)}")

    def say(self, message: str) -> None:
        self._said.append(message)
        self._console.print(message, highlight=False, markup=False)

    def _new_live(self) -> Live:
        return Live(
            console=self._console, get_renderable=self._draw, auto_refresh=False, transient=True
        )

    def _tick(self, over: threading.Event) -> None:
        size, last = self._console.size, False
        while not last:
            last = over.wait(_SECONDS_BETWEEN_DRAWINGS)
            if self._console.size != size:
                size = self._console.size
                self._begin_screen()
            self._live.refresh()

    def _begin_screen(self) -> None:
        """A terminal of another size has wrapped the old lines anew, each in its own way: only an
        empty screen has no dead ones."""
        self._live.stop()
        self._console.control(Control.clear(), Control.home())
        for message in self._said:
            self._console.print(message, highlight=False, markup=False)
        self._live = self._new_live()
        self._live.start()

    def _draw(self) -> Text:
        width, height = self._console.size
        with self._lock:
            return Text("\n", no_wrap=True).join(self.lines(width, height - 1))

    def lines(self, width: int, height: int) -> list[Text]:
        """What it shows, no line longer than `width`. Where `height` lines cannot hold it, settings
        are cut, then running trials are counted."""
        for below in (True, False):
            head = [
                *self._wrapped(self._counts(), "bold", width),
                *self._wrapped(self._pace(), "dim", width),
                *self._best(width, below=below),
            ]
            table = self._table(width, below=below)
            if len(head) + len(table) <= height:
                return [*head, *table]
        rows = max(1, height - len(head) - 1)  # the heading is one of them
        hidden = Text(f"and {len(table) - rows} more running", "dim")
        return [*head, *table[:rows], hidden][:height]

    def _wrapped(self, text: str, style: str, width: int) -> list[Text]:
        return list(Text(text, style).wrap(self._console, width))

    def _counts(self) -> str:
        known = self._known
        if self._alone:
            return self._name
        counts = known.counts
        of = "confirming, {} of at most {}" if known.plan else "{} of {}"
        return (
            f"{self._name}: {of.format(known.ended, known.asked)} trials ended "
            f"({counts['completed']} completed, {counts['pruned']} pruned, "
            + f"{counts['continued']} continued, " * bool(counts["continued"])
            + f"{counts['failed']} failed), {len(known.running)} running"
        )

    def _pace(self) -> str:
        known, told = self._known, [f"{duration(time.time() - self._since)} elapsed"]
        if not self._begun:
            return f"{told[0]}, reading the data and starting Ray"
        if known.epochs_a_minute is not None:
            told.insert(0, f"{known.epochs_a_minute:.0f} epochs a minute")
        if known.seconds_left is not None:
            told.append(f"about {duration(known.seconds_left)} left")
        return ", ".join(told)

    def _best(self, width: int, *, below: bool) -> list[Text]:
        best = self._known.best
        if best is None:
            return self._wrapped("no epoch has ended yet", "dim", width)
        which = "" if self._alone else f"{trial_name(best.trial)}, "
        said = f"best {self._metric.name} so far: {score(best.value)} ({which}epoch {best.epoch})"
        params = settings(best.params)
        fits = cell_len(said) + _GAP + cell_len(params) <= width
        return self._beside(said, params, "green", width, below=below and not fits)

    def _table(self, width: int, *, below: bool) -> list[Text]:
        """A heading and the running trials, with as many columns as fit."""
        trials = self._known.running
        if not trials:
            return []
        cells = [self._cells(trial_name(n), trial) for n, trial in trials.items()]
        names = ["trial", "epoch", self._metric.name, "best", *self._others, "s/epoch"]
        columns = [*zip(*[names, *cells], strict=True)]
        widths = [5, *(max(6, *map(cell_len, column)) for column in columns[1:])]
        if self._alone:
            del columns[0], widths[0]
        while sum(widths) + _GAP * len(widths) > width and len(widths) > _LEAST_COLUMNS:
            del columns[-1], widths[-1]
        said = [
            (" " * _GAP).join(cell.rjust(size) for cell, size in zip(row, widths, strict=True))
            for row in zip(*columns, strict=True)
        ]
        params = [settings(trial.params) for trial in trials.values()]
        fits = cell_len(said[0]) + _GAP + max(map(cell_len, params)) <= width
        below = below and not fits
        lines = self._beside(said[0], "" if below else "settings", "dim", width, below=False)
        for row, changed in zip(said[1:], params, strict=True):
            lines += self._beside(row, changed, "", width, below=below)
        return lines

    def _cells(self, name: str, trial: Unfinished) -> list[str]:
        epoch = trial.epoch
        told = [name, f"{trial.done}/{trial.epochs}"]
        if epoch is None:
            return [*told, *[""] * (3 + len(self._others))]
        metrics = epoch.metrics
        return [
            *told,
            score(metrics[self._metric.name]),
            "" if trial.best is None else score(trial.best),
            *(number(metrics[name]) for name in self._others),
            f"{metrics['time/epoch_seconds']:.2f}",
        ]

    def _beside(self, said: str, params: str, style: str, width: int, *, below: bool) -> list[Text]:
        """A line and its settings: on lines of their own below it, or as much as there is room for
        in the same one."""
        line = Text(said, style)
        line.truncate(width, overflow="ellipsis")
        if below:
            under = Text(params, "dim").wrap(self._console, width - _GAP)
            return [line, *(Text(" " * _GAP).append_text(part) for part in under)]
        room = width - cell_len(said) - _GAP
        if room >= min(_LEAST_ROOM, cell_len(params)):
            changed = Text(params, "dim" if style == "dim" else "")
            changed.truncate(room, overflow="ellipsis")
            line.append(" " * _GAP).append_text(changed)
        return [line]


_SECONDS_BETWEEN_DRAWINGS = 0.25
_KEPT_MESSAGES = 20
"""That stand above the view again on a screen of another size."""
_GAP = 2
_LEAST_COLUMNS = 4
_LEAST_ROOM = 14
"""For settings, in characters."""
