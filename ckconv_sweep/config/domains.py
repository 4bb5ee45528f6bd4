"""What may be searched at one setting: an interval, some choices, or whole blocks of settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from ckconv_sweep.config.documents import Key
from ckconv_sweep.config.normal import TruncatedNormal

Scalar = int | float | str | bool | None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None
    or_zero: bool = False
    """Whether 0 is one more value, below all others."""
    mean: float | None = None
    """Where they are normally distributed; with `log` their logarithms are, and this is the value
    in the middle."""
    std: float | None = None
    """Of the normal distribution; with `log` of the natural logarithms."""
    unreached: float | None = field(default=None, compare=False)
    """The upper end that a file gives, where the steps do not reach it."""

    def written(self) -> dict[str, Any]:
        number: Callable[[float], float] = int if self.whole else float
        out: dict[str, Any] = {"low": number(self.low), "high": number(self.high)}
        if self.log:
            out["log"] = True
        if self.step is not None:
            out["step"] = number(self.step)
        if self.or_zero:
            out["or_zero"] = True
        if self.mean is not None:
            out |= {"mean": float(self.mean), "std": self.std}
        return out

    @property
    def lowest(self) -> float:
        """The smallest value."""
        return 0 if self.or_zero else self.low

    @property
    def has_logarithms(self) -> bool:
        """Whether it is searched by logarithms, and every value has one."""
        return self.log and not self.or_zero

    @property
    def normal(self) -> TruncatedNormal | None:
        """How its values are distributed, if not evenly."""
        if self.mean is None or self.std is None:
            return None
        return TruncatedNormal(self.mean, self.std, self.low, self.high, self.log, self.whole)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """One of some values."""

    options: tuple[Scalar, ...]
    ordered: bool = False
    """Whether neighbours are more alike than others."""

    def written(self) -> dict[str, Any]:
        return {"choices": list(self.options)} | ({"ordered": True} if self.ordered else {})

    def place(self, value: Any) -> int:
        """Where a choice stands, from 0 on."""
        return next(
            place
            for place, option in enumerate(self.options)
            if option == value and isinstance(option, bool) == isinstance(value, bool)
        )


@dataclass(frozen=True, kw_only=True)
class Block:
    """One of the blocks to choose among: which class of settings, what is fixed, what searched."""

    name: str
    fixed: Mapping[str, Any]
    search: Mapping[str, Interval | Choices]


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A choice among whole blocks, by label."""

    options: Mapping[str, Block]

    def written(self) -> dict[str, Any]:
        return {
            "choices": {
                label: ({} if block.name == label else {"name": block.name})
                | dict(block.fixed)
                | {key: domain.written() for key, domain in block.search.items()}
                for label, block in self.options.items()
            }
        }


Domain = Interval | Choices | Blocks


def corners(domain: Interval | Choices) -> tuple[Scalar, ...]:
    """The values at which a range must be checked: if they are settings, all between are."""
    if isinstance(domain, Choices):
        return domain.options
    ends = (*([0.0] * domain.or_zero), domain.low, domain.high)
    return tuple(map(int, ends)) if domain.whole else ends


def extremes(domain: Interval | Choices) -> tuple[Scalar, ...]:
    """The corners without the numbers between the smallest and the largest."""
    values = corners(domain)
    numbers = [value for value in values if isinstance(value, (int, float))]
    return (min(numbers), max(numbers)) if len(numbers) == len(values) else values


def count(domain: Interval | Choices) -> int | None:
    """How many values a domain has, or None where they cannot be counted."""
    if isinstance(domain, Choices):
        return len(domain.options)
    step = domain.step or (1 if domain.whole else None)
    if step is None or domain.mean is not None:
        return None
    return _steps(domain.low, domain.high, step) + 1 + domain.or_zero


def points(domain: Interval | Choices) -> Iterable[Scalar] | None:
    """All values of a domain, or None where they cannot be counted."""
    if isinstance(domain, Choices):
        return domain.options
    many = count(domain)
    if many is None:
        return None
    number: Callable[[Fraction], float] = int if domain.whole else float
    low, step = _exact(domain.low), _exact(domain.step or 1)
    zero = [number(Fraction(0))] * domain.or_zero
    return itertools.chain(zero, (number(low + i * step) for i in range(many - len(zero))))


def in_words(
    domain: Interval | Choices, number: Callable[[Any], str] = lambda value: f"{value:g}"
) -> str:
    """What is searched, for a sentence or a table."""
    if isinstance(domain, Choices):
        return (" < " if domain.ordered else " | ").join(map(str, domain.options))
    told = domain.written()
    words = f"{number(told['low'])} to {number(told['high'])}"
    words = f"0 or {words}" if domain.or_zero else words
    words += ", log" if domain.log else ""
    if "mean" in told:
        words += f", normal around {number(told['mean'])} ± {number(told['std'])}"
    return words + (f", steps of {number(told['step'])}" if "step" in told else "")


def is_value(domain: Interval | Choices, value: Any) -> bool:
    """Whether a setting's value is one that the domain can give."""
    if isinstance(domain, Choices):
        return any(type(value) is type(option) and value == option for option in domain.options)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if domain.or_zero and value == 0:
        return True
    slack = domain.step or 0
    if not domain.low - slack <= value <= domain.high + slack:
        return False
    if domain.step is None:
        return True
    point = nearest(domain, value)
    return bool(domain.low <= point <= domain.high and abs(value - point) <= 1e-9 * domain.step)


def nearest(domain: Interval | Choices, value: Any) -> Any:
    """The point of a domain with steps that is meant by a number which is nearly there: Optuna
    makes 0.30000000000000004 of three steps of 0.1."""
    if isinstance(domain, Choices) or domain.step is None:
        return value
    step, low = _exact(domain.step), _exact(domain.low)
    point = low + round((_exact(value) - low) / step) * step
    return int(point) if domain.whole else float(point)


ZERO_SHARE = 0.2
"""How much of the way of a domain that may be 0 is 0."""


def from_unit(domain: Interval | Choices, unit: float) -> Scalar:
    """The value of a domain at `unit` of its way, 0 <= unit <= 1: every value of a counted domain
    gets an equal share, but for one that may be 0 or is normally distributed."""
    unit = min(unit, _BELOW_ONE)
    if isinstance(domain, Choices):
        return domain.options[int(unit * len(domain.options))]
    low, high, whole = domain.low, domain.high, domain.whole
    if domain.or_zero:
        if unit < ZERO_SHARE:
            return 0 if whole else 0.0
        return from_unit(replace(domain, or_zero=False), (unit - ZERO_SHARE) / (1 - ZERO_SHARE))
    if domain.normal:
        value = domain.normal.at(unit)
        return int(value) if whole else value
    if domain.log:
        start, end = _log_ends(domain)
        value = math.exp(start + unit * (end - start))
        value = min(max(round(value) if whole else value, low), high)
        return int(value) if whole else value
    step = domain.step or (1 if whole else None)
    if step is None:
        return min(low + unit * (high - low), high)
    # As written: in tenths, three steps of 0.1 make 0.3.
    exact = _exact(low) + int(unit * (_steps(low, high, step) + 1)) * _exact(step)
    return int(exact) if whole else float(exact)


def to_unit(domain: Interval, value: Any) -> float:
    """How far on its way a value of a domain is, 0 to 1; the middle of its share. The inverse of
    `from_unit`, but where a share is too small for a number."""
    if domain.or_zero:
        if value == 0:
            return ZERO_SHARE / 2
        return ZERO_SHARE + (1 - ZERO_SHARE) * to_unit(replace(domain, or_zero=False), value)
    if domain.normal:
        return domain.normal.unit_of(value)
    if domain.log:
        start, end = _log_ends(domain)
        return (math.log(value) - start) / (end - start) if start < end else 0.5
    if step := domain.step or (1 if domain.whole else None):
        many = _steps(domain.low, domain.high, step) + 1
        return (_steps(domain.low, value, step) + 0.5) / many
    return (value - domain.low) / (domain.high - domain.low) if domain.low < domain.high else 0.5


_BELOW_ONE = math.nextafter(1.0, 0.0)


def _log_ends(domain: Interval) -> tuple[float, float]:
    """The ends of the logarithms; of whole numbers half a step further, so that the end values get
    their share too."""
    half = 0.5 if domain.whole else 0.0
    return math.log(domain.low - half), math.log(domain.high + half)


def last_reached(low: float, high: float, step: float) -> Fraction:
    """The last value that steps from `low` reach up to `high`."""
    return _exact(low) + _steps(low, high, step) * _exact(step)


def _exact(value: float) -> Fraction:
    """The number as it is written: 0.1 is a tenth, so that three steps of it make 0.3."""
    return Fraction(repr(value))


def _steps(low: float, high: float, step: float) -> int:
    return (_exact(high) - _exact(low)) // _exact(step)


def nested(flat_tree: Mapping[str, Any]) -> dict[str, Any]:
    """`{"kernel.omega_0": 9.0}` -> `{"kernel": {"omega_0": 9.0}}`."""
    tree: dict[str, Any] = {}
    for path, value in flat_tree.items():
        put(tree, tuple(str(path).split(".")), value)
    return tree


def put(tree: dict[str, Any], key: Key, value: Any) -> None:
    """Set one value of a nested tree, in place."""
    for word in key[:-1]:
        below = tree.setdefault(str(word), {})
        if not isinstance(below, dict):
            below = tree[str(word)] = {}
        tree = below
    tree[str(key[-1])] = value
