"""Of many cases alike, those that `make test` runs; `pytest -m slow` runs the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def each_second(cases: Iterable[Any]) -> list[Any]:
    """The first, the third, ...; a tuple has a value for each name of a `parametrize`."""
    return [_case(case, slow=i % 2 == 1) for i, case in enumerate(cases)]


def first(number: int, cases: Iterable[Any]) -> list[Any]:
    """Only so many."""
    return [_case(case, slow=i >= number) for i, case in enumerate(cases)]


def _case(case: Any, *, slow: bool) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=[pytest.mark.slow] * slow)
