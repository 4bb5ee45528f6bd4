"""Which trial goes into which seat, and which one waits for others of its shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Shape = TypeVar("Shape", bound=Hashable)


@dataclass
class Packing(Generic[Shape]):
    """Chooses for the seat that asks: a trial of a shape that is trained there comes first; the
    others wait, and drawing goes on until so many wait as a seat has places. Then the shape of most
    of them opens a pack. One that has been passed over as often as there are places goes first,
    whatever its shape. With one place a seat each trial goes where it is asked for first.

    Args:
        places: how many trials a seat trains at a time.
    """

    places: int
    waiting: list[_Waiting[Shape]] = field(default_factory=list)

    def next(
        self, here: Collection[Shape], draw: Callable[[], tuple[int, Shape] | None]
    ) -> tuple[int, Shape] | None:
        """The number and the shape of the trial to start in a seat with an empty place; None where
        none is left.

        Args:
            here: the shapes that are trained in the seat.
            draw: asks for one more trial, number and shape; None where there is none.
        """
        while (chosen := self._match(here)) is None and len(self.waiting) < self.places:
            drawn = draw()
            if drawn is None:
                break
            self.waiting.append(_Waiting(*drawn))
        if chosen is None:
            if not self.waiting:
                return None
            shapes = Counter(trial.shape for trial in self.waiting)
            chosen = max(self.waiting, key=lambda trial: shapes[trial.shape])
        self.waiting.remove(chosen)
        for other in self.waiting:
            other.passed_over += 1
        return chosen.number, chosen.shape

    def _match(self, here: Collection[Shape]) -> _Waiting[Shape] | None:
        """The longest-waiting trial that has been passed over often, or whose shape is trained."""
        for trial in self.waiting:
            if trial.passed_over >= self.places:
                return trial
        return next((trial for trial in self.waiting if trial.shape in here), None)


@dataclass(eq=False)
class _Waiting(Generic[Shape]):
    number: int
    shape: Shape
    passed_over: int = 0
