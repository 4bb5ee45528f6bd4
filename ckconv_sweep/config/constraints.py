"""Bounds on a setting, on the number of a model's parameters, or on a metric."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckconv_sweep.config import documents
from ckconv_sweep.config.build import short
from ckconv_sweep.config.metrics import PARAMETERS
from ckconv_sweep.errors import ConfigError, nearest_or_all

if TYPE_CHECKING:
    from ckconv_sweep.config.space import Space

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A bound on a setting, or on the number of the model's parameters."""

    quantity: str
    sign: str
    bound: float

    def holds(self, value: float) -> bool:
        return _SIGNS[self.sign](value, self.bound)

    def __str__(self) -> str:
        bound = f"{self.bound:_}" if isinstance(self.bound, int) else repr(self.bound)
        return f"{self.quantity} {self.sign} {bound}"


def goal_of(space: Space, where: str) -> Constraint:
    """The goal of a space that has one. Raises ConfigError if it is no bound on one of its metrics,
    or the wrong way round; `where` it stands."""
    text, modes = str(space.budget.goal), {metric.name: metric.mode for metric in space.metrics}
    bound = _bound(text, f"{space.metric.name} >= 0.99", where)
    if bound.quantity not in modes:
        raise ConfigError(
            f"this sweep has no metric {bound.quantity!r} for a goal",
            where=where,
            hint=nearest_or_all(bound.quantity, list(modes)),
        )
    if (">" in bound.sign) != (modes[bound.quantity] == "max"):
        better = "higher" if modes[bound.quantity] == "max" else "lower"
        raise ConfigError(
            f"of {bound.quantity} {better} is better, so {text!r} is no goal",
            where=where,
        )
    return bound


def read_constraint(text: str, known: Sequence[str], where: str) -> Constraint:
    """A bound on one of the `known` quantities. Raises ConfigError if it is none; `where` it
    stands."""
    bound = _bound(text, f"{PARAMETERS} <= 100_000", where)
    if bound.quantity not in known:
        raise ConfigError(
            f"no numeric setting is called {bound.quantity!r}",
            where=where,
            hint=nearest_or_all(bound.quantity, known),
        )
    return bound


def _bound(text: str, example: str, where: str) -> Constraint:
    match = re.fullmatch(r"\s*([\w./]+)\s*(<=|<|>=|>)\s*(\S+)\s*", text)
    bound = documents.scalar(match[3]) if match else None
    if (
        not match
        or isinstance(bound, bool)
        or not isinstance(bound, (int, float))
        or not math.isfinite(bound)
    ):
        raise ConfigError(
            f"cannot read {short(text)} as a bound",
            where=where,
            hint=f"write it as in '{example}'",
        )
    return Constraint(quantity=match[1], sign=match[2], bound=bound)
