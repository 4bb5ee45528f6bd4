"""The first error of a coordinator is the sweep's, whatever an executor makes of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar


class Stops(Protocol):
    """What an error can end."""

    def stop(self, error: Exception) -> None:
        """It cannot go on."""


Who = TypeVar("Who", bound=Stops)
P = ParamSpec("P")
T = TypeVar("T")


def kept(method: Callable[Concatenate[Who, P], T]) -> Callable[Concatenate[Who, P], T]:
    """What a method raises ends the sweep: the executor that called it may make an error of its own
    of it, or a text."""

    @functools.wraps(method)
    def call(self: Who, /, *args: P.args, **options: P.kwargs) -> T:
        try:
            return method(self, *args, **options)
        except Exception as error:
            self.stop(error)
            raise

    return call
