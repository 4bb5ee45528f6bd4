"""Bounds on settings, on the number of a model's parameters, or on a metric."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckconv_sweep.config import documents
from ckconv_sweep.config.arithmetic import FORM, Expression, Number, read_expression
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


@dataclass(frozen=True)
class Constraint:
    """What must hold between two expressions over settings and the number of parameters."""

    left: Expression
    sign: str
    right: Expression

    @property
    def names(self) -> frozenset[str]:
        """What it is about."""
        return self.left.names | self.right.names

    def broken_by(self, values: Mapping[str, Number]) -> str:
        """Why it does not hold for these values of its names, or cannot be told; empty where it
        holds."""
        try:
            left, right = self.left.of(values), self.right.of(values)
        except ConfigError as error:
            return f"{self}: {error.message}"
        if _SIGNS[self.sign](left, right):
            return ""
        beside = f" and {right:_}" if self.right.names else ""
        return f"{self} does not hold: {left:_}{beside}"

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A bound on a metric."""

    quantity: str
    sign: str
    bound: float

    def holds(self, value: float) -> bool:
        return _SIGNS[self.sign](value, self.bound)

    def __str__(self) -> str:
        bound = f"{self.bound:_}" if isinstance(self.bound, int) else repr(self.bound)
        return f"{self.quantity} {self.sign} {bound}"


def goal_of(space: Space, where: str) -> Bound:
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
    """A bound on the `known` quantities. Raises ConfigError if it is none; `where` it stands."""
    match = re.fullmatch(r"([^<>=]+)(<=|<|>=|>)([^<>=]+)", text)
    left, right = (read_expression(match[side]) for side in (1, 3)) if match else (None, None)
    if not match or left is None or right is None:
        raise ConfigError(
            f"cannot read {short(text)} as a bound",
            where=where,
            hint=f"write it as in '{PARAMETERS} <= 100_000'; on both sides there may be {FORM}",
        )
    constraint = Constraint(left, match[2], right)
    check_known(constraint.names, known, where)
    if not constraint.names:
        raise ConfigError(f"{short(text)} is about no setting", where=where)
    return constraint


def check_known(names: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raises ConfigError if one of the names of an expression means no number."""
    for name in sorted(names):
        if name not in known:
            raise ConfigError(
                f"no numeric setting is called {name!r}",
                where=where,
                hint=nearest_or_all(name, known),
            )


def _bound(text: str, example: str, where: str) -> Bound:
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
    return Bound(quantity=match[1], sign=match[2], bound=bound)
