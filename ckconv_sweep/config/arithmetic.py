"""Arithmetic in a settings file, such as `2 * model.hidden_channels`: read by Python's own parser,
and computed node by node here. Nothing is ever run as code."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ckconv_sweep.errors import ConfigError

Number = int | float

MOST_CHARACTERS = 200
"""Of one expression. Python's parser has its own limit on parentheses inside one another."""
MOST_WHOLE = 2**63
"""A larger whole number is refused: it could take hours to compute."""
FORM = "numbers, names of settings, + - * / // % **, parentheses, min and max"

_SIGNS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: dict[str, Callable[..., Number]] = {"min": min, "max": max}
_ALLOWED = re.compile(r"[A-Za-z0-9_.\s+*/%(),-]+")


@dataclass(frozen=True)
class Expression:
    """Two are equal if they say the same, however they are spaced."""

    text: str
    names: frozenset[str] = field(compare=False)
    """Those that it needs, with their dots."""
    _tree: ast.expr = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    def of(self, values: Mapping[str, Number]) -> Number:
        """Its value, where `values` has each of its names.

        Raises:
            ConfigError: there is none, or it is too large.
        """
        try:
            return _value(self._tree, values)
        except ZeroDivisionError:
            why = "division by zero"
        except OverflowError:
            why = "a number is too large"
        except _NoNumber as error:
            why = str(error)
        used = ", ".join(f"{name} = {values[name]}" for name in sorted(self.names))
        raise ConfigError(f"{self.text} has no value: {why}" + (f" ({used})" if used else ""))


class _NoNumber(Exception):
    """What was computed is no number that a setting could have."""


def read_expression(text: str) -> Expression | None:
    """None where it is no arithmetic."""
    if len(text) > MOST_CHARACTERS or not _ALLOWED.fullmatch(text):
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    names: set[str] = set()
    if not _is_arithmetic(tree, names):
        return None
    return Expression(_written(tree), frozenset(names), tree)


def _written(tree: ast.expr) -> str:
    """As it is read back; a large whole number by itself with its thousands apart."""
    plain, sign = tree, ""
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        plain, sign = tree.operand, "-"
    if isinstance(plain, ast.Constant) and isinstance(plain.value, int):
        return f"{sign}{plain.value:_}"
    return ast.unparse(tree)


def _is_arithmetic(node: ast.expr, names: set[str]) -> bool:
    """Whether a part of an expression is allowed; its names are added to `names`."""
    match node:
        case ast.Constant(value=value):
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            return math.isfinite(value)
        case ast.Name() | ast.Attribute():
            name = _dotted(node)
            names.add(name)
            return bool(name)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner):
            return _is_arithmetic(inner, names)
        case ast.BinOp(op=sign) if type(sign) in _SIGNS or isinstance(sign, ast.Pow):
            return _is_arithmetic(node.left, names) and _is_arithmetic(node.right, names)
        case ast.Call(func=ast.Name(id=name), args=[_, _, *_] as given, keywords=[]):
            return name in _FUNCTIONS and all(_is_arithmetic(one, names) for one in given)
    return False


def _dotted(node: ast.expr) -> str:
    """`model.kernel.omega_0`; empty where it is no such name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def _value(node: ast.expr, values: Mapping[str, Number]) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=sign, operand=inner):
            number = _value(inner, values)
            return -number if isinstance(sign, ast.USub) else number
        case ast.BinOp(left=left, op=sign, right=right):
            one, other = _value(left, values), _value(right, values)
            power = isinstance(sign, ast.Pow)
            return _checked(_power(one, other) if power else _SIGNS[type(sign)](one, other))
        case ast.Call(func=ast.Name(id=name), args=given):
            return _FUNCTIONS[name](*(_value(one, values) for one in given))
    return values[_dotted(node)]


def _power(base: Number, exponent: Number) -> Number:
    rough: float | complex = float(base) ** float(exponent)  # raises OverflowError where it is huge
    if isinstance(rough, complex):
        raise _NoNumber("a root of a negative number")
    if not isinstance(base, int) or not isinstance(exponent, int) or exponent < 0:
        return rough
    return int(base ** int(exponent) if abs(rough) <= MOST_WHOLE else rough)


def _checked(number: Number) -> Number:
    if isinstance(number, float) and not math.isfinite(number):
        raise _NoNumber("it is not finite")
    if isinstance(number, int) and abs(number) > MOST_WHOLE:
        raise OverflowError
    return number
