"""Which samplers can search a space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckconv_sweep.config.documents import Document
from ckconv_sweep.config.domains import Interval
from ckconv_sweep.config.sampling import SAMPLERS, Sampler
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
    for path, domain in space.search.items():
        if row.ranges_alone and not isinstance(domain, Interval):
            return f"searches ranges alone, and {path} has choices"
    return ""
