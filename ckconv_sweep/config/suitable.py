"""Which samplers can search a space, and which one `auto` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckconv_sweep.config.documents import Document
from ckconv_sweep.config.domains import Choices, Interval
from ckconv_sweep.config.sampling import (
    SAMPLERS,
    Auto,
    CmaEs,
    GaussianProcess,
    Nsgaii,
    Sampler,
    Tpe,
)
from ckconv_sweep.errors import ConfigError

if TYPE_CHECKING:
    from ckconv_sweep.config.space import Space


def check_sampler(space: Space, document: Document) -> None:
    """Raises ConfigError if the space's sampler cannot search it; names those that can."""
    if why := unsuitable(type(space.sampler), space):
        able = [name for name, row in SAMPLERS.items() if not (row.ends or unsuitable(row, space))]
        raise ConfigError(
            f"sampler: {space.sampler.name} {why}",
            where=document.where(("sampler", "name")),
            hint=f"samplers that can: {', '.join(able)}",
        )


def unsuitable(row: type[Sampler], space: Space) -> str:
    """Why a sampler cannot search a space, after its name; empty where it can."""
    if row.one_metric and space.further:
        return f"cannot learn from several metrics, and there is {space.further[0].name}"
    for path, domain in space.parameters().items():
        in_order = isinstance(domain, Interval) or (isinstance(domain, Choices) and domain.ordered)
        if row.ranges_alone and not in_order:
            return f"searches ranges alone, and {path} has choices"
    return ""


@dataclass(frozen=True)
class Line:
    """`sampler` is taken where `holds` and no line before it does; `when` says it in words."""

    when: str
    holds: Callable[[Space], bool]
    sampler: type[Sampler]


FEW_TRIALS, FEW_SETTINGS = 200, 20
AUTO = (
    Line(
        f"at most {FEW_TRIALS} trials and {FEW_SETTINGS} settings",
        lambda space: space.budget.trials <= FEW_TRIALS and len(space.parameters()) <= FEW_SETTINGS,
        GaussianProcess,
    ),
    Line(
        f"ranges alone, one metric and more than {FEW_TRIALS} trials",
        lambda space: not unsuitable(CmaEs, space) and space.budget.trials > FEW_TRIALS,
        CmaEs,
    ),
    Line(
        f"choices or several metrics, and more than {FEW_TRIALS} trials",
        lambda space: space.budget.trials > FEW_TRIALS,
        Nsgaii,
    ),
    Line("all else", lambda space: True, Tpe),
)
"""What `auto` takes: the first line that holds."""


def taken(space: Space) -> Space:
    """The space with the sampler that `auto` stands for, where it is that."""
    if not isinstance(space.sampler, Auto):
        return space
    line = next(line for line in AUTO if line.holds(space))
    sampler = line.sampler(
        name=line.sampler.model_fields["name"].default,
        seed=space.sampler.seed,
        taken_by_auto=line.when,
    )
    return replace(space, sampler=sampler)


def with_taken(space: Space, before: Space) -> Space:
    """The space with the sampler that `auto` took for a sweep when it began, also where another
    budget would lead to another one."""
    now, then = space.sampler, before.sampler
    if now.taken_by_auto and then.taken_by_auto and now.seed == then.seed:
        return replace(space, sampler=then)
    return space
