"""The points of a grid: which there are, how many, and so how many trials a sweep can have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ckconv_sweep.config.domains import Blocks, Choices, Interval, Scalar, count, points

if TYPE_CHECKING:
    from ckconv_sweep.config.space import Space


def grid_size(space: Space) -> int | None:
    """How many points a grid has; None for other samplers, which have no end. A range that cannot
    be counted counts once."""
    if not space.sampler.ends:
        return None

    def product(domains: Iterable[Interval | Choices]) -> int:
        return math.prod(count(domain) or 1 for domain in domains)

    return math.prod(
        sum(product(block.search.values()) for block in domain.options.values())
        if isinstance(domain, Blocks)
        else product([domain])
        for domain in space.search.values()
    )


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
    return settings + min(repeats.top or settings, settings) * (repeats.seeds - 1)


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
