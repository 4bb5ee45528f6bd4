"""What a check is, and a row of what it finds."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """A few numbers. A number with a tolerance is right up to that one."""

    what: str
    numbers: dict[str, float] = field(default_factory=dict)
    within: dict[str, float] = field(default_factory=dict)
    """Tolerances, by the name of the number."""
    right: bool | None = None
    """Whether the rest, which is not a number, is right; None: there is no rest."""
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """None: the row is only told."""
        if self.right is None and not self.within:
            return None
        return self.right is not False and all(
            self.numbers[name] <= most for name, most in self.within.items()
        )

    def as_json(self) -> dict[str, Any]:
        """Every number; JSON has none for what is not finite, so that is a word."""
        numbers = {n: v if math.isfinite(v) else repr(v) for n, v in self.numbers.items()}
        return asdict(self) | {"numbers": numbers, "passed": self.passed}


Rows = Iterator[Row]


@dataclass(frozen=True)
class Check:
    """A check runs in a process of its own, which finds its function by its module and name."""

    name: str
    compares: str
    """What it compares or measures, in a line."""
    rows: Callable[[argparse.Namespace], Rows]
    """Gets the options of the command: `device`, `quick`, `reference`, and `until`, the time (as of
    `time.time`) at which it is stopped."""
    seconds: float
    """What it takes on a GPU, guessed generously. It is not started with less time left, and is
    stopped after `PATIENCE` times that."""
    needs_cuda: bool = False


PATIENCE = 3
