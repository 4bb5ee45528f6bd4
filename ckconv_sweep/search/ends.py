"""The smallest and the largest trial that a space can draw, and one in the middle."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ckconv_sweep.config.domains import Choices, Interval, Scalar, corners, from_unit
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.search.feasible import Infeasible, resolved

DRAWS = 100
"""Trials that are drawn at random before their settings are moved one by one."""
_MOST_MOVES = 400
_UNITS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Sized:
    """A trial that can be drawn, and how large it is."""

    params: Mapping[str, Scalar]
    trial: Trial
    size: float


def ends(
    space: Space, size: Callable[[Trial], float], count_parameters: Callable[[Trial], int]
) -> list[Sized]:
    """The smallest, the median of random draws, and the largest, each once.

    Args:
        size: in any unit; a search that moves one setting after the other must find its way.
        count_parameters: asked only where a constraint names the number of parameters.

    Raises:
        ConfigError: no draw can be trained.
    """

    def sized(params: Mapping[str, Scalar]) -> Iterator[Sized]:
        found = resolved(space, params, 0, count_parameters)
        if not isinstance(found, Infeasible):
            yield Sized(params, found, size(found))

    rng = random.Random(0)
    draws = [space.draw(lambda _, domain: from_unit(domain, rng.random())) for _ in range(DRAWS)]
    drawn = sorted(
        (one for params in (*space.first, *draws) for one in sized(params)),
        key=lambda one: one.size,
    )
    if not drawn:
        raise ConfigError(f"none of {DRAWS} trials drawn at random can be trained")
    smallest = _moved(space, sized, drawn[0], -1)
    largest = _moved(space, sized, drawn[-1], 1)
    found = {str(one.params): one for one in (smallest, drawn[len(drawn) // 2], largest)}
    return list(found.values())


def _moved(
    space: Space, sized: Callable[[Mapping[str, Scalar]], Iterator[Sized]], start: Sized, sign: int
) -> Sized:
    """Where moves of one setting each lead, as long as they lead further."""
    best = start
    moves = [(n, v) for n, domain in space.parameters().items() for v in _values(domain)]
    for name, value in itertools.islice(itertools.chain(moves, moves), _MOST_MOVES):
        if name not in best.params or best.params[name] == value:
            continue
        for found in sized(_with(space, {**best.params, name: value})):
            if sign * found.size > sign * best.size:
                best = found
    return best


def _with(space: Space, known: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """A draw with these values; one that is not known, of another block, begins its range."""
    return space.draw(lambda name, domain: known.get(name, corners(domain)[0]))


def _values(domain: Interval | Choices) -> list[Scalar]:
    """Some values, both ends among them."""
    if isinstance(domain, Choices):
        return list(domain.options[:10])
    return list(dict.fromkeys(from_unit(domain, unit) for unit in _UNITS))
