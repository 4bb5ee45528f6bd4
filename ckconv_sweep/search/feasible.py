"""Which of the trials that a space can draw can be trained, without training one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ckconv_sweep.config.domains import Scalar, from_unit
from ckconv_sweep.config.metrics import PARAMETERS
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError

DRAWS = 200
"""How many trials are drawn at random to see which share of them can be trained."""


@dataclass(frozen=True)
class Infeasible:
    """Why a drawn trial cannot be trained: in short, and with its own numbers."""

    kind: str
    why: str


def resolved(
    space: Space,
    params: Mapping[str, Scalar],
    number: int,
    count_parameters: Callable[[Trial], int],
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> Trial | Infeasible:
    """The trial that drawn parameters stand for, unless it violates a constraint or its settings do
    not go together. A constraint on a setting of a block that the trial did not choose does not
    apply to it.

    Args:
        count_parameters: asked only where a constraint names the number of parameters.
        changes: settings that it has beside the space, by path.
    """
    try:
        trial = space.resolve(params, number, changes)
    except ConfigError as error:
        return Infeasible(
            error.message.partition(", got ")[0], f"these settings make no trial: {error.message}"
        )
    values = space.values_of(trial, params)
    for constraint in space.constraints:
        if PARAMETERS in constraint.names and PARAMETERS not in values:
            values[PARAMETERS] = count_parameters(trial)
        if constraint.names <= values.keys() and (broken := constraint.broken_by(values)):
            return Infeasible(str(constraint), broken)
    return trial


def survey(
    space: Space,
    count_parameters: Callable[[Trial], int],
    *,
    where: str,
    until_one_passes: bool = False,
) -> Counter[str]:
    """Draw trials at random and count those that cannot be trained, by the reason. `where`: the
    space's file.

    Raises:
        ConfigError: none of `DRAWS` can, or one that is to be tried first.
    """
    for params in space.first if space.asks_for_first else ():
        found = resolved(space, params, 0, count_parameters)
        if isinstance(found, Infeasible):
            raise ConfigError(
                f"first: {found.why}",
                where=where,
                hint="loosen the constraint, or remove that trial",
            )
    rng, rejected = random.Random(0), Counter[str]()
    for drawn in range(DRAWS):
        params = space.draw(lambda _, domain: from_unit(domain, rng.random()))
        found = resolved(space, params, drawn, count_parameters)
        if isinstance(found, Infeasible):
            rejected[found.kind] += 1
        elif until_one_passes:
            break
    if rejected.total() == DRAWS:
        raise ConfigError(
            f"none of {DRAWS} trials drawn at random can be trained: {in_words(rejected)}",
            where=where,
            hint="loosen the constraints or narrow the ranges that break them",
        )
    return rejected


def in_words(rejected: Counter[str]) -> str:
    """The commonest reasons, and how many draws each rejects."""
    return "; ".join(f"{kind} ({amount})" for kind, amount in rejected.most_common(3))
