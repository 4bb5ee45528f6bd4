"""The points of a grid: which there are, how many, and so how many trials a sweep can have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ckconv_sweep.config.documents import Document, Key
from ckconv_sweep.config.domains import Blocks, Choices, Interval, Scalar, count, points
from ckconv_sweep.errors import ConfigError

if TYPE_CHECKING:
    from ckconv_sweep.config.space import Space

MAX_GRID = 1_000_000
"""A grid of more points is refused: it is kept in memory, and would never be walked to its end."""


def grid_size(space: Space) -> int | None:
    """How many points a grid has; None for other samplers, which have no end. A range that cannot
    be counted counts once."""
    if not space.sampler.ends:
        return None

    def product(domains: Iterable[Interval | Choices]) -> int:
        return math.prod(count(domain) or 1 for domain in domains)

    settings = math.prod(
        sum(product(block.search.values()) for block in domain.options.values())
        if isinstance(domain, Blocks)
        else product([domain])
        for domain in space.search.values()
    )
    return settings * product(space.variables.values())


def most_settings(space: Space, rejected: int = 0) -> int:
    """How many settings a sweep can try: those of its budget, but no more than its grid has points
    and `first` has trials.

    Args:
        rejected: how many of them were rejected; no other one comes in their place.
    """
    size = grid_size(space)
    if size is None:
        return space.budget.trials
    return min(space.budget.trials, size + len(space.first) - rejected)


def most_trials(space: Space, rejected: int = 0) -> int:
    """How many trials a sweep can have: one a setting, and its repeats. `rejected`: as in
    `most_settings`."""
    settings, repeats = most_settings(space, rejected), space.repeats
    if repeats is None:
        return settings
    return settings + min(repeats.top or settings, settings) * (repeats.times - 1)


def grid_note(space: Space, rejected: int = 0) -> str:
    """Why fewer trials come than the budget allows; empty where the budget can be spent."""
    if most_settings(space, rejected) == space.budget.trials:
        return ""
    size = grid_size(space)
    return (
        f"the grid has only {size} {'point' if size == 1 else 'points'}"
        f"{f', {rejected} of them were rejected' if rejected else ''}; "
        f"the budget allows {space.budget.trials} trials"
    )


class _Unanswered(Exception):
    """A draw asked for more than was prepared."""


def grid(space: Space) -> Iterator[dict[str, Scalar]]:
    """Every point of a space that can be counted, in the order of the file; a setting of a block
    is walked only where that block is chosen."""

    def walk(answers: list[Scalar]) -> Iterator[dict[str, Scalar]]:
        open_question: list[Interval | Choices] = []
        prepared = iter(answers)

        def suggest(_: str, domain: Interval | Choices) -> Scalar:
            for answer in prepared:
                return answer
            open_question.append(domain)
            raise _Unanswered

        try:
            point = space.draw(suggest)
        except _Unanswered:
            for value in points(open_question[0]) or ():
                yield from walk([*answers, value])
        else:
            yield point

    yield from walk([])


def exhausted(space: Space, number: int) -> bool:
    """Whether a grid has no point for a trial of this number. Other samplers have no end."""
    size = grid_size(space)
    return size is not None and number >= size


def check_grid(space: Space, document: Document) -> None:
    """Raises ConfigError where a grid has no end, or none that anybody sees."""
    size = grid_size(space)
    if size is None:
        return
    for path, domain in space.search.items():
        place: Key = ("search", path)
        if not isinstance(domain, Blocks):
            _check_counted(path, domain, place, document)
            continue
        for label, block in domain.options.items():
            for key, inner in block.search.items():
                name = f"{path}.{label}.{key}"
                _check_counted(name, inner, (*place, "choices", label, key), document)
    for name, variable in space.variables.items():
        _check_counted(name, variable, ("variables", name), document)
    if size > MAX_GRID:
        raise ConfigError(
            f"search: a grid of more than {MAX_GRID:,} points is refused",
            where=document.where(("search",)),
            hint="take larger steps or fewer choices, or another sampler",
        )


def _check_counted(name: str, domain: Interval | Choices, place: Key, document: Document) -> None:
    if count(domain) is None:
        raise ConfigError(
            f"search: {name}: a grid needs steps here",
            where=document.where(place),
            hint="write {low: 0, high: 1, step: 0.1} or {choices: [0.1, 1.0]}, or take another "
            "sampler",
        )
