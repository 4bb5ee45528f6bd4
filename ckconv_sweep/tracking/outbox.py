"""Mirrors the study to MLflow.

A thread of its own talks to MLflow, so that a server that is slow, down or gone never slows a
trial. What was delivered is marked in the study by the driver. When the sweep goes on, the thread
first asks MLflow whether it still has what is marked (`tracking.marks`), and delivers the rest.
What is written, and why twice is as good as once, is in `tracking.runs`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, takewhile

from ckconv_sweep.config.history import objective
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.errors import CkconvSweepError, TrackingError
from ckconv_sweep.record.events import (
    Ended,
    EpochEnded,
    Event,
    Listener,
    Rejected,
    Started,
    ended,
)
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.tracking.answers import is_refusal, problem
from ckconv_sweep.tracking.described import RunOfSweep
from ckconv_sweep.tracking.marks import Mark, uid
from ckconv_sweep.tracking.runs import Runs
from ckconv_sweep.tracking.store import without_password

__all__ = ["Mark", "RunOfSweep", "Tracker", "events_of", "uid"]

log = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 30.0
_GRACE_SECONDS = 3.0
"""How long a server that did not answer is waited for at the end."""
_LATE_SECONDS = 10.0
"""If MLflow is further behind the trials than this, the user is told."""
FIRST_EPOCH_SECONDS = 30.0
"""How long a sweep's first epoch is waited for before MLflow is imported and its database made:
that takes two and a half seconds of a processor, which the processes that train need to start."""
MOST_EVENTS = 2000
"""Of a queue that is longer, trials that end are remembered by their numbers alone."""
_MOST_TOGETHER = 500
"""Of the first in the queue, those of one trial are one call: where MLflow is slower than the
trials, the epochs of a trial wait for each other, not for those of its neighbours."""


class Tracker(Listener):
    """Delivers what it hears to MLflow.

    Args:
        uri: MLflow's tracking address.
        sweep: the parent run.
        base: the base trial, to say what differs from it.
        say: hears, once each, that the server does not answer, that it answers again, and what
            it refused.
        sync: is called before anything is delivered, so that the study, which has it, survives a
            power cut with it.
        thoroughly: ask about each trial whether MLflow still has what is marked; see
            `Runs.compare`.
        read: the record of a trial that ended in this session, for any thread. With it, the queue
            remembers many of these by their numbers alone.
    """

    def __init__(
        self,
        uri: str,
        sweep: RunOfSweep,
        *,
        base: Trial,
        say: Callable[[str], None],
        marks: Mapping[int, Mark] | None = None,
        sync: Callable[[], None] = lambda: None,
        thoroughly: bool = True,
        read: Callable[[int], TrialRecord] | None = None,
    ) -> None:
        self._read = read
        self.uri, self._sync, self._thoroughly = uri, sync, thoroughly
        self.marks: dict[int, Mark] = dict(marks or {})
        self.moved: deque[int] = deque()
        """The trials whose marks have changed, for whoever keeps them; it takes them away."""
        self._runs = Runs(uri, sweep, base=base, say=say, marks=self.marks)
        self._say = say
        self._queue: deque[Event | str | int] = deque()
        """What happened, the states of the sweep's own run, and numbers of trials that ended, in an
        earlier session or a while ago: their events are made of their records when their turn
        comes."""
        self._earlier: dict[int, TrialRecord] = {}
        """The records of those numbers that are of earlier sessions."""
        self._folded: dict[int, tuple[int, float]] = {}
        """Of the others, the oldest first: how many events each stands for, and when the first of
        them was heard."""
        self._heard_at: dict[int, float] = {}
        """When each event of this session that waits was heard, by its `id`, the oldest first."""
        self._answers_since = 0.0
        self._said_behind = 0
        """How many of them there were when that was last said; 0 while MLflow keeps up."""
        self._records: list[TrialRecord] = []
        """Of earlier sessions; empty once their marks were compared with MLflow."""
        self._believed = self._believed_records = 0
        """How many of the first in the queue were chosen by those marks, and how many records these
        stand for."""
        self._wake = threading.Condition()
        self._closing = self._begun = False
        self._failing = ""
        """Why the last delivery failed; empty if none did."""
        self._silent = False
        """Whether the last call of all failed."""
        self._thread = threading.Thread(target=self._deliver_all, name="mlflow", daemon=True)

    # For the driver

    def catch_up(
        self, records: Iterable[TrialRecord], resolve: Callable[[TrialRecord], Trial]
    ) -> None:
        """Queue what the study has and MLflow is not known to have. Only before `start`, so that
        nothing is delivered before it is known what was."""
        assert self._thread.ident is None
        self.moved.extend(self.marks)
        records = list(records)
        self._records, self._resolve = [r for r in records if r.counts], resolve
        if self._runs.page is not None:
            for record in records:
                if record.confirms is None:
                    self._runs.page.standings.add(record)
        self._queue.extend(self._lacking())
        self._believed = len(self._queue)
        self._believed_records = self.waiting

    def start(self, *, first_epoch_seconds: float = 0.0) -> None:
        """Deliver from now on, or once an epoch was heard, for which it waits so long."""
        self._first_epoch_seconds = first_epoch_seconds
        self._queue.appendleft("RUNNING")
        self._thread.start()

    def hear(self, event: Event) -> None:
        if self._runs.page is not None:
            self._runs.page.standings.hear(event)
        if not isinstance(event, Rejected):
            self._put(event)

    @property
    def address(self) -> str:
        """The server's address as it may be written down."""
        return without_password(self.uri)

    @property
    def experiment_id(self) -> str | None:
        """Which experiment holds the sweep; None before MLflow has answered."""
        return self._runs.experiment_id

    @property
    def view(self) -> str:
        """The key of the sweep's saved view in MLflow; empty where there is none."""
        return "" if self._runs.page is None else self._runs.page.view

    @property
    def waiting(self) -> int:
        """How many records are not delivered yet."""
        with self._wake:
            return (
                len(self._queue)
                + sum(
                    1 + record.epochs_after(self.marks.get(number, Mark()).epochs)
                    for number, record in self._earlier.items()
                )
                + self._folded_away
            )

    @property
    def _folded_away(self) -> int:
        """How many events fewer there are in the queue than wait, for the numbers in it."""
        return sum(events - 1 for events, _ in self._folded.values())

    def close(
        self, status: str, *, patience_seconds: float = 60.0, as_long_as_it_takes: bool = False
    ) -> int:
        """Deliver what is left and end the parent run; returns how many records are not delivered,
        those that MLflow refused among them. A server that does not answer is not waited for.

        Args:
            as_long_as_it_takes: be patient anew with each delivery.
        """
        self._put(status)
        with self._wake:
            self._closing = True
            self._wake.notify()
        begin = silent_since = time.monotonic()
        waiting = self.waiting
        while self._thread.is_alive() and time.monotonic() < begin + patience_seconds:
            self._thread.join(timeout=0.1)
            if as_long_as_it_takes and self.waiting != waiting:
                begin, waiting = time.monotonic(), self.waiting
            if not self._silent:
                silent_since = time.monotonic()
            elif time.monotonic() > silent_since + _GRACE_SECONDS:
                break
        return self.waiting + self._runs.undelivered

    # The thread

    def _put(self, item: Event | str) -> None:
        with self._wake:
            self._queue.append(item)
            if not isinstance(item, str):
                self._heard_at.setdefault(id(item), time.monotonic())
            self._begun |= isinstance(item, EpochEnded)
            if isinstance(item, Ended) and self._read and len(self._queue) > MOST_EVENTS:
                self._fold(item.number)
            self._wake.notify()

    def _fold(self, number: int) -> None:
        """Put the number of a trial that has ended in the place of its events, unless the thread
        may be delivering some of them: those are among the first."""
        later = islice(self._queue, _MOST_TOGETHER, None)
        events = [e for e in later if not isinstance(e, str | int) and e.number == number]
        if not events or not isinstance(events[0], Started):
            return
        gone = set(map(id, events))
        kept = [item for item in self._queue if id(item) not in gone]
        self._queue.clear()
        self._queue.extend([*kept, number])
        heard = [at for one in gone if (at := self._heard_at.pop(one, None)) is not None]
        self._folded[number] = len(events), min(heard, default=time.monotonic())

    def _deliver_all(self) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._begun or self._closing, self._first_epoch_seconds)
        pause = 1.0
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    return
                last = self._closing
            try:
                if not self._records:  # it is known what MLflow has
                    self._unfold()
                with self._wake:
                    batch = list(islice(self._queue, _MOST_TOGETHER))
                if self._failing:
                    self._runs.ask()
                    self._silent = False
                done = self._deliver(batch) if not self._records else self._compare()
            except Exception as error:
                self._silent = True
                if not self._failing:
                    self._failing = str(error) or type(error).__name__
                    self._say(
                        f"{self._what(error)}; what it misses is kept on disk and delivered later"
                    )
                if last:
                    return
                with self._wake:
                    self._wake.wait_for(lambda: self._closing, timeout=pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                continue
            if self._failing:
                self._failing, self._silent, pause = "", False, 1.0
                self._answers_since = time.monotonic()
                self._say("MLflow answers again")
            with self._wake:
                if done:
                    first = [self._queue.popleft() for _ in batch]
                    self._queue.extendleft(i for i in reversed(first) if id(i) not in done)
                for item in done:
                    self._heard_at.pop(item, None)
            self._tell_if_behind()

    def _tell_if_behind(self) -> None:
        """Say that MLflow is slower than the trials, again when it is twice as far behind, and when
        it has caught up."""
        with self._wake:
            waiting = len(self._heard_at) + sum(events for events, _ in self._folded.values())
            oldest = min(
                next(iter(self._heard_at.values()), math.inf),
                next((heard for _, heard in self._folded.values()), math.inf),
            )
        if time.monotonic() - max(oldest, self._answers_since) > _LATE_SECONDS:
            if waiting >= 2 * self._said_behind:
                self._said_behind = waiting
                self._say(
                    f"MLflow at {self.address} is {waiting:,} records behind; the study has them, "
                    "and no trial waits for it"
                )
        elif self._said_behind:
            self._said_behind = 0
            self._say("MLflow has caught up")

    def _unfold(self) -> None:
        """In the place of a number that is first in the queue, the events of that trial."""
        with self._wake:
            number = self._queue[0]
        if not isinstance(number, int):
            return
        record = self._earlier.get(number)
        if record is None:
            assert self._read is not None
            record = self._read(number)
        events, before = self._events_lacking(record)
        self._runs.delivered_before[number] = before
        with self._wake:
            self._queue.popleft()
            self._queue.extendleft(reversed(events))
            self._earlier.pop(number, None)
            self._folded.pop(number, None)

    def _what(self, error: Exception) -> str:
        """What went wrong with a delivery."""
        if isinstance(error, CkconvSweepError) and not isinstance(error, TrackingError):
            return f"a trial could not be read again for MLflow: {error.message}"
        return f"MLflow at {self.address} {problem(error, self.uri)}"

    def _events_lacking(self, record: TrialRecord) -> tuple[list[Event], list[EpochEnded]]:
        """What MLflow lacks of a trial, its start included, and the epochs that it has."""
        events, had = list[Event](), list[EpochEnded]()
        epochs = self.marks.get(record.number, Mark()).epochs
        for event in events_of(record, self._resolve(record), self._runs.metrics):
            if isinstance(event, EpochEnded) and event.epoch.number <= epochs:
                had.append(event)
            else:
                events.append(event)
        return events, had

    def _lacking(self) -> list[Event | int]:
        """What the earlier records have and the marks have not."""
        lacking: list[Event | int] = []
        self._earlier = {}
        for record in self._records:
            mark = self.marks.get(record.number, Mark())
            over = record.outcome != "running"
            whole = not record.epochs_after(mark.epochs) and mark.ended == over
            # One without an epoch may have only half of its parameters.
            if whole and (over or not record.history):
                continue
            if over:
                lacking.append(record.number)
                self._earlier[record.number] = record
                continue
            events, before = self._events_lacking(record)
            self._runs.delivered_before[record.number] = before
            lacking += [] if whole else events
        return lacking

    def _compare(self) -> set[int]:
        """Ask MLflow once whether it has what is marked, and queue what it lacks. Raises what
        MLflow raises when it cannot be reached; nothing is changed then."""
        if self.marks:
            self._runs.connect()
            try:
                self._runs.compare(self._records, thoroughly=self._thoroughly)
            except Exception as error:
                if not is_refusal(error):
                    raise
                self._runs.refuse("a search for the sweep's runs", error)
            self.moved.extend(self.marks)
            with self._wake:
                for _ in range(1 + self._believed):
                    self._queue.popleft()
                others = 1 + len(self._queue) + self._folded_away
                self._queue.extendleft(reversed(["RUNNING", *self._lacking()]))
                now = self.waiting - others
            if now > self._believed_records:
                self._say(
                    f"MLflow at {self.address} has lost records that it had of this sweep; "
                    "they are delivered again"
                )
        self._records = []
        return set()

    def _deliver(self, batch: list[Event | str | int]) -> set[int]:
        """Deliver the first item, and those of the same trial before the sweep's run changes its
        state; returns which, by `id`. Raises what MLflow raises when it cannot be reached."""
        self._runs.connect()
        first = batch[0]
        assert not isinstance(first, int)  # it was unfolded
        together: list[Event | str] = [first]
        if not isinstance(first, str):
            events = takewhile(lambda item: not isinstance(item, str), batch)
            others = (e for e in events if not isinstance(e, str | int))
            together = [e for e in others if e.number == first.number]
        self._sync()
        log.debug("delivering to MLflow: %s (%d together)", _name_of(first), len(together))
        try:
            self._write(together)
        except Exception as error:
            if not is_refusal(error):
                raise
            if len(together) > 1:  # one by one, so that only what is refused is lost
                return self._deliver([first])
            self._runs.refuse(_name_of(together[0]), error)
        return set(map(id, together))

    def _write(self, items: list[Event | str]) -> None:
        events = [item for item in items if not isinstance(item, str)]
        for item in items:
            if isinstance(item, str):
                self._runs.write_sweep(item)
        if events:
            self._runs.write_trial(events[0].number, events)
            self.moved.append(events[0].number)


def _name_of(item: Event | str) -> str:
    if isinstance(item, EpochEnded):
        return f"epoch {item.epoch.number} of trial {item.number}"
    if isinstance(item, str):
        return "the state of the sweep's run"
    return f"the {'start' if isinstance(item, Started) else 'end'} of trial {item.number}"


def events_of(record: TrialRecord, trial: Trial, metrics: Sequence[Metric]) -> list[Event]:
    """What was heard of a trial while it ran, from what the study keeps."""
    at_best = trial.metric.model_copy(update={"at": "best"})
    events: list[Event] = [
        Started(
            number=record.number,
            trial=trial,
            params=record.params,
            started_ms=record.started_ms,
            origin=record.origin,
        )
    ]
    for i, epoch in enumerate(record.history):
        best = objective(record.history[: i + 1], at_best)
        session = record.sessions[i] if i < len(record.sessions) else 1
        events.append(EpochEnded(number=record.number, epoch=epoch, best=best, session=session))
    if record.outcome != "running":
        events.append(ended(record, trial, metrics))
    return events
