"""Which trial goes into which pack, and which one waits for others of its shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Shape = TypeVar("Shape", bound=Hashable)


@dataclass
class Packing(Generic[Shape]):
    """Hands out what is asked for, shape by shape: a trial whose shape is being trained somewhere
    goes there; the others wait, and drawing goes on until so many wait as a host has places. Then
    the shape of most of them opens a pack. One that has been passed over as often as there are
    places goes first, whatever its shape.

    Args:
        hosts: the names of the processes that hold packs.
        places: how many trials each of them trains at a time.
    """

    hosts: Sequence[str]
    places: int
    waiting: list[_Waiting[Shape]] = field(default_factory=list)
    _seated: dict[int, tuple[str, Shape]] = field(default_factory=dict)

    def next(self, draw: Callable[[], tuple[int, Shape] | None]) -> tuple[int, str] | None:
        """The number of the trial to start now and the name of its host; None where none is left,
        or no place is free.

        Args:
            draw: asks for one more trial, number and shape; None where there is none.
        """
        free = {host: self.places - self._taken(host) for host in self.hosts}
        host = max(free, key=free.__getitem__, default=None)
        if host is None or free[host] <= 0:
            return None
        while (chosen := self._match(free)) is None and len(self.waiting) < self.places:
            drawn = draw()
            if drawn is None:
                break
            self.waiting.append(_Waiting(*drawn))
        if chosen is None:
            if not self.waiting:
                return None
            shapes = Counter(trial.shape for trial in self.waiting)
            chosen = max(self.waiting, key=lambda trial: shapes[trial.shape]), host
        trial, host = chosen
        self.waiting.remove(trial)
        for other in self.waiting:
            other.passed_over += 1
        self._seated[trial.number] = host, trial.shape
        return trial.number, host

    def free(self, number: int) -> None:
        """A trial has left its place."""
        self._seated.pop(number, None)

    def close(self, number: int) -> None:
        """Give no more trials to the host of this one."""
        if number in self._seated:
            host, _ = self._seated[number]
            self.hosts = [other for other in self.hosts if other != host]

    @property
    def empty_places(self) -> int:
        return sum(self.places - self._taken(host) for host in self.hosts)

    def _match(self, free: dict[str, int]) -> tuple[_Waiting[Shape], str] | None:
        """The longest-waiting trial whose shape is trained where a place is free."""
        room = sorted((host for host in free if free[host] > 0), key=lambda host: -free[host])
        late = [trial for trial in self.waiting if trial.passed_over >= self.places]
        shapes = {host: self._shapes(host) for host in room}
        for trial in late or self.waiting:
            for host in room:
                if trial.shape in shapes[host]:
                    return trial, host
        return (late[0], room[0]) if late else None

    def _taken(self, host: str) -> int:
        return sum(seat == host for seat, _ in self._seated.values())

    def _shapes(self, host: str) -> set[Shape]:
        return {shape for seat, shape in self._seated.values() if seat == host}


@dataclass(eq=False)
class _Waiting(Generic[Shape]):
    number: int
    shape: Shape
    passed_over: int = 0
