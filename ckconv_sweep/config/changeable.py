"""Which settings may become others while the weights stay: what a stopping rule that continues
trials with other settings may search.

They are those that may differ among trials that are trained as one (`training.shape`), but for
those that end with the initial weights, and those that say how long a trial is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckconv_sweep.config.documents import Document, Key
from ckconv_sweep.config.domains import Blocks, Choices, Interval, extremes
from ckconv_sweep.errors import ConfigError

if TYPE_CHECKING:
    from ckconv_sweep.config.space import Space

CHANGEABLE_BLOCKS = ("optimizer", "schedule")
"""Blocks of which all settings are, but for the optimiser's name: each remembers other things of
the steps before."""
CHANGEABLE = (
    "model.dropout",
    "model.input_dropout",
    "model.weight_dropout",
    "model.kernel.omega_0_learning_rate_factor",
    "model.mask.learning_rate_factor",
    "training.kernel_penalty",
    "training.clip_norm",
)


def is_changeable(path: str) -> bool:
    """Whether a setting is one of them, by its path."""
    block = path.partition(".")[0]
    return path in CHANGEABLE or (block in CHANGEABLE_BLOCKS and path != "optimizer.name")


def check_changeable(space: Space, document: Document) -> None:
    """Raises ConfigError where a space's rule continues trials, and what it searches does not allow
    that."""
    rule = space.scheduler
    if not rule.kept_epochs:
        return
    places: list[tuple[str, Key]] = [(path, ("search", path)) for path in space.search]
    places += [(path, ("derived", path)) for path in space.derived]
    for path, place in places:
        if why := _why_not(space, path):
            raise ConfigError(
                f"{place[0]}: {rule.name} changes settings while a trial is trained, and {why}",
                where=document.where(place),
                hint=f"these can change: {', '.join(f'{b}.*' for b in CHANGEABLE_BLOCKS)}, "
                f"{', '.join(CHANGEABLE)}; for all else take another scheduler",
            )
    if space.repeats is not None:
        raise ConfigError(
            f"repeats: a trial that {rule.name} has continued cannot be repeated with another seed",
            where=document.where(("repeats",)),
            hint="remove repeats, or take another scheduler",
        )


def _why_not(space: Space, path: str) -> str:
    """Why a searched or derived setting cannot change; empty where it can."""
    if not is_changeable(path):
        return f"{path} cannot change then"
    domain = space.search.get(path)
    if path == "optimizer" and isinstance(domain, Blocks):
        names = {block.name for block in domain.options.values()}
        if len(names) > 1:
            return f"one optimizer cannot become another: {', '.join(sorted(names))}"
    if path == "model.weight_dropout" and isinstance(domain, Interval | Choices):
        return f"{path} must not be 0 in some trials only" if 0 in extremes(domain) else ""
    return ""
