"""Where seats meet the coordinator: who trains what, and what becomes of it. Knows no Ray."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import CannotWrite, CkconvSweepError, ResourcesMissing
from ckconv_sweep.execution.deaths import death
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.packing import Packing
from ckconv_sweep.execution.protocol import Assignment, Work
from ckconv_sweep.execution.worker import UNFIT

MOST_DEATHS = 3
"""How often a trial is started again after the process died that trained it; then it has failed."""

MOST_FALSE_STARTS = 5
"""How many seats in a row may die before they are ready, while no other one is there, and how often
a trial may be refused by the node that it was given to; then the sweep gives up."""

LONGEST_PAUSE_SECONDS = 30.0
"""Before a seat is put in the place of one that did not start."""

AHEAD_SECONDS = 5.0
"""Where a trial's epoch takes less, the next trial is at its seat before its last one has ended:
the way there and back would cost more than the sampler learns by waiting for it."""

SHOW_SECONDS = 30.0
"""How often at most the occupation of the packs is reported."""


class Closed(BaseException):
    """Ends the executor from inside. Not an `Exception`, so that it is not taken for an error of
    its own."""


@dataclass
class _Running:
    number: int
    shape: Hashable
    trial: Trial
    is_last: bool
    """Whether its place is empty after one more epoch that is short."""


@dataclass
class _Seat:
    places: int
    running: dict[str, _Running] = field(default_factory=dict)
    """By the attempt. More than there are places wait there for those before them."""
    unfit: bool = False

    @property
    def empty(self) -> int:
        """How many trials it can be given."""
        ending = sum(running.is_last for running in list(self.running.values())[: self.places])
        return self.places + ending - len(self.running)


class Desk:
    """Hands out what the coordinator has, until it is closed. The methods are for the executor's
    thread, but for `close`.

    Args:
        coordinator: hands out the trials, and records each report before it answers.
        data: what the workers' data are compared with.
        places: how many trials a seat trains at a time.
        at_a_time: how many all seats train.
        unfit: the nodes that may not train, by id, and why.
        gpus: how many a seat has; its trials share them.
    """

    def __init__(
        self,
        coordinator: Work,
        data: KnownData,
        *,
        places: int,
        at_a_time: int,
        unfit: Mapping[str, str],
        gpus: float = 0.0,
    ) -> None:
        self.unfit = dict(unfit)
        self.error: Exception | None = None
        """What went wrong in the coordinator: the study cannot be written, say."""
        self.last_words: dict[str, str] = {}
        """What Ray said when a seat died, until that is told."""
        self._coordinator, self._data, self._at_a_time = coordinator, data, at_a_time
        self._packing = Packing[Hashable](places)
        self._gpus = gpus
        self._drawn: dict[int, Assignment] = {}
        self._seats: dict[str, _Seat] = {}
        self._deaths: Counter[int] = Counter()
        self._refusals: Counter[int] = Counter()
        self._memory_gib: dict[int, float] = {}
        """Number of a trial -> the most that a process had used at the end of an epoch of it."""
        self._false_starts = 0
        self._shown: tuple[int, int] = (0, 0)
        self._shown_at = time.monotonic()
        self._open, self._one = True, threading.Lock()

    @contextlib.contextmanager
    def served(self) -> Iterator[bool]:
        """Whether it is open; it stays so inside. What is raised inside closes it and ends the
        executor."""
        with self._one:
            try:
                yield self._open
            except Exception as error:
                self.error, self._open = error, False
                raise Closed from None

    def close(self) -> None:
        with self._one:
            self._open = False

    # Seats

    @property
    def most_seats(self) -> int:
        return math.ceil(self._at_a_time / self._packing.places)

    @property
    def over(self) -> bool:
        """Whether no further seat is needed, whatever happens."""
        return not self._seats and not self._may_have_work

    def attend(self) -> None:
        """What people ask is heard; to be called several times a second. Where fewer trials are to
        run than do, those that wait for others of their shape come later."""
        self._coordinator.attend()
        if self._coordinator.room < 0:
            self._packing.waiting.clear()
            for number in list(self._drawn):
                del self._drawn[number]
                self._coordinator.again(number)

    def seat_wanted(self) -> int:
        """How many places one more seat is to have; 0 where none is needed now."""
        if self._coordinator.stopping:
            return 0
        all_places = sum(seat.places for seat in self._seats.values())
        empty = sum(max(0, seat.places - len(seat.running)) for seat in self._seats.values())
        if self._coordinator.left + len(self._packing.waiting) <= empty:
            return 0
        return min(self._packing.places, self._at_a_time - all_places)

    def open(self, seat: str, places: int) -> float:
        """A seat is started; returns how many seconds it is to wait first."""
        self._seats[seat] = _Seat(places)
        n = self._false_starts
        return min(2.0**n, LONGEST_PAUSE_SECONDS) if n else 0.0

    def heard(self, seat: str, said: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """What a seat has said; the orders that it is answered (`Seat.take`). None: it is to
        end."""
        here, gone = self._seats[seat], []
        if any("ready" in one for one in said):
            self._false_starts = 0
        gpus = self._gpus / max(1, min(len(here.running), here.places))
        with self._coordinator.together():
            for one in said:
                running = here.running.get(attempt := one.get("attempt", ""))
                if running is not None and not self._goes_on(here, running, one, gpus):
                    del here.running[attempt]
                    gone.append(attempt)
        for attempt, running in list(here.running.items()):
            if not self._coordinator.wanted(running.number):  # a person stopped it
                del here.running[attempt]
                gone.append(attempt)
        new = [] if here.unfit else self._fill(here)
        idle = self._coordinator.room <= 0 or not self._may_have_work
        if here.unfit or (not here.running and idle):
            return None
        return {"gone": gone, "new": new}

    def ended(self, seat: str) -> None:
        """A seat has ended, as it was told."""
        for running in self._seats.pop(seat, _Seat(0)).running.values():
            self._coordinator.again(running.number)

    def lost(self, error: CkconvSweepError) -> None:
        """The cluster is gone, and with it all seats; their trials stay unfinished."""
        self._seats.clear()
        self._coordinator.stop(error)

    def died(self, seat: str) -> None:
        """A seat's process is dead: its trials are started again, or have failed."""
        said = self.last_words.pop(seat, "")
        lost = self._seats.pop(seat, None)
        if lost is None:
            return
        if not lost.running:
            self._false_starts += 1
            if self._false_starts > MOST_FALSE_STARTS and not self._seats:
                self._coordinator.stop(
                    ResourcesMissing(
                        f"no process that trains could be started: {self._false_starts} of them "
                        "died at once; whatever was recorded is kept",
                        hint=death(said).words,
                    )
                )
        for i, running in enumerate(lost.running.values()):
            number = running.number
            self._deaths[number] += i < lost.places  # the others only waited there
            if self._deaths[number] <= MOST_DEATHS:
                self._coordinator.again(number)
            else:
                found = death(said, self._memory_gib.get(number, 0.0))
                text = f"its worker died {self._deaths[number]} times, {found.words}"
                self._coordinator.end(number, reason=found.reason, error=text)

    # Trials

    @property
    def _may_have_work(self) -> bool:
        coordinator = self._coordinator
        return not coordinator.stopping and (coordinator.left > 0 or coordinator.awaited)

    def _fill(self, here: _Seat) -> list[dict[str, Any]]:
        """New trials for the empty places of a seat."""
        new: list[dict[str, Any]] = []
        while here.empty > 0 and not (self._coordinator.stopping or self._coordinator.room < 0):
            found = self._packing.next(
                {running.shape for running in here.running.values()}, self._draw
            )
            if found is None or self._coordinator.stopping:  # what waits stays unfinished
                break
            number, shape = found
            given = self._drawn.pop(number)
            here.running[given.attempt] = _Running(number, shape, given.trial, is_last=False)
            new.append(
                {
                    "attempt": given.attempt,
                    "trial": given.trial.model_dump_json(),
                    "folder": str(given.folder),
                    "data": self._data.of(given.trial.data),
                    "recorded": [asdict(epoch) for epoch in given.recorded],
                    "source": None if given.source is None else asdict(given.source),
                    "kept_epochs": given.kept_epochs,
                }
            )
        self._show_places()
        return new

    def _draw(self) -> tuple[int, Hashable] | None:
        assignment = self._coordinator.next()
        if assignment is None:
            return None
        number = assignment.number
        self._drawn[number] = assignment
        return number, self._shape(assignment)

    def _shape(self, assignment: Assignment) -> Hashable:
        if self._packing.places == 1:
            return assignment.number
        from ckconv_sweep.training.shape import shape_key, why_alone

        trial = assignment.trial
        return assignment.number if why_alone(trial) else shape_key(trial)

    def _goes_on(
        self, here: _Seat, running: _Running, said: Mapping[str, Any], gpus: float
    ) -> bool:
        coordinator, number = self._coordinator, running.number
        if "epoch" in said:
            for warning in said["warnings"]:
                coordinator.say(f"trial {number}: {warning}")
            used = self._memory_gib.get(number, 0.0)
            self._memory_gib[number] = max(said["memory_gib"], used)
            self._data.heard(running.trial.data, said["data"])
            epoch = Epoch(**said["epoch"])
            running.is_last = (
                epoch.number == running.trial.training.epochs - 1
                and epoch.metrics["time/epoch_seconds"] < AHEAD_SECONDS
            )
            return coordinator.epoch(number, epoch, said["data"], gpus=gpus)
        if "ended" in said:
            coordinator.end(number)
        elif said["reason"] == UNFIT:
            self._refused(here, number, said)
            coordinator.again(number)
        elif said["reason"] == "cannot_write":
            coordinator.stop(CannotWrite(said["error"]))
        else:
            coordinator.end(number, reason=said["reason"], error=said["error"])
        return False

    def _refused(self, here: _Seat, number: int, said: Mapping[str, Any]) -> None:
        """A seat refused a trial because of its node: other nodes get all that it has."""
        self._refusals[number] += 1
        here.unfit = True
        why = f"{said['name']}: {said['error']}"
        if said["node"] not in self.unfit:
            self._coordinator.say(f"this node is not used: {why}")
        self.unfit[said["node"]] = why
        if self._refusals[number] > MOST_FALSE_STARTS:
            self._coordinator.stop(
                ResourcesMissing(
                    f"no node may train trial {number}; whatever was recorded is kept",
                    where="the Ray cluster",
                    hint=f"at last {why}\n  repair a node, then run the same command again",
                )
            )

    def _show_places(self) -> None:
        if self._packing.places == 1:
            return
        taken = sum(min(len(seat.running), seat.places) for seat in self._seats.values())
        shown, now = (taken, len(self._packing.waiting)), time.monotonic()
        if self._shown == shown or now < self._shown_at + SHOW_SECONDS:
            return
        self._shown, self._shown_at = shown, now
        self._coordinator.say(
            f"packs: {taken} of {self._at_a_time} places taken, waiting for others of their "
            f"shape: {shown[1]}"
        )
