"""Where seats meet the coordinator: who trains what, and what becomes of it. Knows no Ray."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import CannotWrite, CkconvSweepError, ResourcesMissing
from ckconv_sweep.execution.deaths import death, of_the_node
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.packing import Packing
from ckconv_sweep.execution.protocol import Assignment, Work
from ckconv_sweep.execution.roster import Roster
from ckconv_sweep.execution.worker import FAULT, GPU_FAULT, NO_WRITING, UNFIT

MOST_DEATHS = 3
"""How often a trial is started again after the process died that trained it; then it has failed."""

MOST_FALSE_STARTS = 5
"""How many seats in a row may die before they are ready, while no other one is there, and how often
a trial may be refused by the node that it was given to; then the sweep gives up."""

MOST_GPU_FAULTS = 2
"""How often a trial may be trained on GPUs that failed; then it is the trial that failed."""

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
    node: str = ""
    """The id of its node, once it is ready."""
    ends: bool = False
    """Whether it gets nothing more, because of its node."""

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
        roster: the nodes that may not train.
        here: the id of the driver's node.
        gpus: how many a seat has; its trials share them.
    """

    def __init__(
        self,
        coordinator: Work,
        data: KnownData,
        *,
        places: int,
        at_a_time: int,
        roster: Roster,
        here: str = "",
        gpus: float = 0.0,
    ) -> None:
        self.roster = roster
        self.error: Exception | None = None
        """What went wrong in the coordinator: the study cannot be written, say."""
        self.last_words: dict[str, str] = {}
        """What Ray said when a seat died, until that is told."""
        self._coordinator, self._data, self._at_a_time = coordinator, data, at_a_time
        self._here = here
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

    def has_places(self, at_a_time: int) -> None:
        """So many trials can run at a time from now on."""
        self._at_a_time = at_a_time
        self._coordinator.has_places(at_a_time)

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
        return max(0, min(self._packing.places, self._at_a_time - all_places))

    def open(self, seat: str, places: int) -> float:
        """A seat is started; returns how many seconds it is to wait first."""
        self._seats[seat] = _Seat(places)
        n = self._false_starts
        return min(2.0**n, LONGEST_PAUSE_SECONDS) if n else 0.0

    def heard(self, seat: str, said: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """What a seat has said; the orders that it is answered (`Seat.take`). None: it is to
        end."""
        here, gone = self._seats[seat], []
        for one in said:
            if "ready" in one:
                self._false_starts, here.node = 0, one["node"]
            elif "attempt" not in one:  # it may not train at all
                self._of_node(here, one)
                self._is_false(one["error"], others=len(self._seats) - 1)
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
        new = [] if here.ends else self._fill(here)
        idle = self._coordinator.room <= 0 or not self._may_have_work
        if here.ends or (not here.running and idle):
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

    def died(self, seat: str, node: tuple[str, str] = ("", "")) -> None:
        """A seat's process is dead: its trials are started again, or have failed.

        Args:
            node: the id and the name of the node on which it did not even start, if that is known.
        """
        said = self.last_words.pop(seat, "")
        lost = self._seats.pop(seat, None)
        if lost is None:
            return
        left = of_the_node(said)
        if not lost.running and not left:
            words = death(said).words
            if node[0]:
                self._say(self.roster.fault(*node, f"a process died {words}"))
            self._is_false(words, others=len(self._seats))
        for i, running in enumerate(lost.running.values()):
            number = running.number
            # Others only waited there, and with its node none of them died for its own sake.
            self._deaths[number] += i < lost.places and not left
            if self._deaths[number] <= MOST_DEATHS:
                self._coordinator.again(number)
            else:
                found = death(said, self._memory_gib.get(number, 0.0))
                text = f"its worker died {self._deaths[number]} times, {found.words}"
                self._coordinator.end(number, reason=found.reason, error=text)

    def _is_false(self, words: str, others: int) -> None:
        """A seat has ended before it had a trial, while so many others are there."""
        self._false_starts += 1
        if self._false_starts > MOST_FALSE_STARTS and not others:
            self._coordinator.stop(
                ResourcesMissing(
                    f"no process that trains could be started: {self._false_starts} of them "
                    "died at once; whatever was recorded is kept",
                    hint=words,
                )
            )

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
                    "readable": self._data.knows(given.trial.data),
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
            self.roster.works(here.node)
            epoch = Epoch(**said["epoch"])
            running.is_last = (
                epoch.number == running.trial.training.epochs - 1
                and epoch.metrics["time/epoch_seconds"] < AHEAD_SECONDS
            )
            return coordinator.epoch(number, epoch, said["data"], gpus=gpus)
        if "ended" in said:
            coordinator.end(number)
        elif self._is_of_node(said):
            self._of_node(here, said)
            self._refused(number, said)
        elif said["reason"] == NO_WRITING:
            coordinator.stop(CannotWrite(said["error"]))
        else:
            coordinator.end(number, reason=said["reason"], error=said["error"])
        return False

    def _is_of_node(self, said: Mapping[str, Any]) -> bool:
        """Whether a failure is the node's. Where the driver's own cannot write, nobody can."""
        reason = said["reason"]
        return reason in (UNFIT, FAULT, GPU_FAULT) or (
            reason == NO_WRITING and said["node"] != self._here
        )

    def _of_node(self, here: _Seat, said: Mapping[str, Any]) -> None:
        """A seat's node cannot train: others get all that it has."""
        here.ends = True
        judge = self.roster.refuse if said["reason"] == UNFIT else self.roster.fault
        self._say(judge(said["node"], said["name"], said["error"]))

    def _refused(self, number: int, said: Mapping[str, Any]) -> None:
        """A trial came back from a node that cannot train."""
        self._refusals[number] += 1
        if said["reason"] == GPU_FAULT and self._refusals[number] >= MOST_GPU_FAULTS:
            self._coordinator.end(number, reason="error", error=said["error"])
            return
        self._coordinator.again(number)
        if self._refusals[number] > MOST_FALSE_STARTS:
            self._coordinator.stop(
                ResourcesMissing(
                    f"no node may train trial {number}; whatever was recorded is kept",
                    where="the Ray cluster",
                    hint=f"at last {said['name']}: {said['error']}\n  repair a node, then run the "
                    "same command again",
                )
            )

    def _say(self, line: str) -> None:
        if line:
            self._coordinator.say(line)

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
