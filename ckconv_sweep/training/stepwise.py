"""Work that is done a step whenever somebody asks for the next one."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")
Stepwise = Generator[None, None, Result]


def to_the_end(steps: Stepwise[Result]) -> Result:
    """Take all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
