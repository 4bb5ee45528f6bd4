"""The trials of a sweep as stopping rules see them: their numbers, the values of the metric after
each epoch, and which of them ran to their own end."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Part = Callable[[int], int]
"""Which part of a sweep a trial is in, by its number."""


@dataclass
class Curve:
    """A trial as a rule sees it."""

    values: list[float]
    """The metric after each of its epochs."""
    completed: bool = False
    """Whether it ran to its own end."""
    given_up: bool = False
    """Whether it failed, or a person stopped it: no trial continues it."""
    after: int = 0
    """The epoch before its first: where it is a continuation, that of the checkpoint."""

    @property
    def epoch(self) -> int:
        """The number of its last epoch."""
        return self.after + len(self.values)

    def at(self, epoch: int) -> float | None:
        """The metric after one of its epochs; None where it was not, or not yet, trained."""
        place = epoch - self.after - 1
        return self.values[place] if 0 <= place < len(self.values) else None

    @property
    def numbered(self) -> Iterable[tuple[int, float]]:
        """Its epochs with their values."""
        return enumerate(self.values, start=1 + self.after)


def _whole(number: int) -> int:
    """All trials are in one part."""
    return 0


class Curves(dict[int, Curve]):
    """The trials of a sweep by their numbers, without those that were rejected, and the values of
    all of them at each epoch in order: a rule that looked at each trial would take longer the more
    there are. Only the methods here may change it.

    Args:
        seed: of what a rule draws at random.
    """

    def __init__(self, curves: Mapping[int, Curve], seed: int = 0) -> None:
        super().__init__(curves)
        self.seed = seed
        self._reached: dict[Part, defaultdict[tuple[int, int], list[float]]] = {}
        self._completed = defaultdict[int, list[float]](list)
        self.completed = 0
        """How many trials ran to their own end."""
        for curve in self.values():
            self.completed += curve.completed
            for epoch, value in curve.numbered if curve.completed else ():
                self._completed[epoch].append(value)
        for values in self._completed.values():
            values.sort()

    def add(self, number: int, value: float) -> None:
        """A trial's next epoch."""
        curve = self[number]
        curve.values.append(value)
        for part, reached in self._reached.items():
            insort(reached[part(number), curve.epoch], value)

    def complete(self, number: int) -> None:
        """A trial ran to its own end."""
        self[number].completed = True
        self.completed += 1
        for epoch, value in self[number].numbered:
            insort(self._completed[epoch], value)

    def reached(self, epoch: int, number: int = 0, part: Part = _whole) -> Sequence[float]:
        """The values after an epoch, in order, of all trials in the part of this one."""
        if part not in self._reached:
            self._reached[part] = self._ordered(part)
        return self._reached[part][part(number), epoch]

    def _ordered(self, part: Part) -> defaultdict[tuple[int, int], list[float]]:
        ordered = defaultdict[tuple[int, int], list[float]](list)
        for number, curve in self.items():
            for epoch, value in curve.numbered:
                ordered[part(number), epoch].append(value)
        for values in ordered.values():
            values.sort()
        return ordered

    def completed_at(self, epoch: int) -> Sequence[float]:
        """The values after an epoch, in order, of the trials that ran to their own end."""
        return self._completed[epoch]
