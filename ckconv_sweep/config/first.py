"""Trials that a sweep tries before its sampler draws any: the base trial's own settings, and others
that a person has in mind. Each must be a point of the space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ckconv_sweep.config.domains import Block, Blocks, Scalar, in_words, is_value, nearest
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError

if TYPE_CHECKING:
    from ckconv_sweep.config.space import Space

BASE = "base"
"""What stands in a file for the base trial's own settings."""
_NOT_COMPARED = ("metric", "training.seed")
"""A sweep has one metric, and each of its trials a seed of its own."""


def with_base(space: Space) -> Space:
    """The space that tries the base trial's own settings first, if it has them. A grid tries its
    own points alone."""
    if space.sampler.ends:
        return space
    try:
        return replace(space, first=(_checked(space, space.trial),))
    except ConfigError as error:
        return replace(space, why_not_base=error.message)


def with_first(space: Space, trials: Iterable[Trial], where: Callable[[int], str]) -> Space:
    """The space that tries these trials first. `where` each of them stands.

    Raises:
        ConfigError: one is no point of the space, violates a constraint, or is there twice.
    """
    first: list[Mapping[str, Scalar]] = []
    for i, trial in enumerate(trials):
        try:
            params = _checked(space, trial)
        except ConfigError as error:
            raise ConfigError(
                f"first: {error.message}",
                where=where(i),
                hint="only points of the space can be tried: widen what is searched, or remove it",
            ) from None
        if params in first:
            raise ConfigError("first: this trial is there twice", where=where(i))
        first.append(params)
    return replace(space, first=tuple(first), asks_for_first=True)


def _checked(space: Space, trial: Trial) -> dict[str, Scalar]:
    """`params_of` a trial that violates no constraint on a setting."""
    params, values = params_of(space, trial), flat(trial.model_dump())
    for constraint in space.constraints:
        quantity = constraint.quantity
        if quantity in values and not constraint.holds(values[quantity]):
            raise ConfigError(f"{quantity} is {values[quantity]!r}, and {constraint} must hold")
    return params


def params_of(space: Space, trial: Trial) -> dict[str, Scalar]:
    """The parameters that stand for a trial.

    Raises:
        ConfigError: it is no point of the space.
    """
    tree = flat(trial.model_dump())
    params: dict[str, Scalar] = {}
    for path, domain in space.search.items():
        if isinstance(domain, Blocks):
            label = _label(path, domain, tree)
            params[path] = label
            for key, inner in domain.options[label].search.items():
                place = f"{path}.{key}"
                params[f"{path}.{label}.{key}"] = tree[place] = nearest(inner, tree[place])
            continue
        if path not in tree:
            raise ConfigError(f"{path} is searched, and this trial has no such setting")
        if not is_value(domain, tree[path]):
            raise ConfigError(
                f"{path} is {tree[path]!r}, and what is searched is {in_words(domain)}"
            )
        params[path] = tree[path] = nearest(domain, tree[path])
    there = flat(space.tree(params))
    for path in sorted(tree.keys() | there.keys()):
        here, base = tree.get(path), there.get(path)
        if here != base and not path.startswith(_NOT_COMPARED):
            raise ConfigError(
                f"{path} is {here!r}, and the space, in which it is {base!r}, does not search it"
            )
    return params


def settings_of(space: Space, params: Mapping[str, Scalar]) -> dict[str, Any]:
    """The changes of the base trial that parameters stand for, as a file has them."""
    out: dict[str, Any] = {}
    for path, domain in space.search.items():
        if not isinstance(domain, Blocks):
            out[path] = params[path]
            continue
        label = str(params[path])
        block = domain.options[label]
        out[f"{path}.name"] = block.name
        out |= {f"{path}.{key}": value for key, value in block.fixed.items()}
        out |= {f"{path}.{key}": params[f"{path}.{label}.{key}"] for key in block.search}
    return out


def _label(path: str, domain: Blocks, tree: Mapping[str, Any]) -> str:
    """The first of the blocks to choose among that a trial's block is a point of."""
    for label, block in domain.options.items():
        if _is_point(path, block, tree):
            return label
    name = tree.get(f"{path}.name")
    raise ConfigError(
        f"its {path}, {name}, is a point of none of the blocks that are searched: "
        f"{', '.join(domain.options)}"
    )


def _is_point(path: str, block: Block, tree: Mapping[str, Any]) -> bool:
    fixed = {"name": block.name, **block.fixed}
    fixed = {key: tuple(v) if isinstance(v, list) else v for key, v in fixed.items()}
    return all(tree.get(f"{path}.{key}") == value for key, value in fixed.items()) and all(
        f"{path}.{key}" in tree and is_value(inner, tree[f"{path}.{key}"])
        for key, inner in block.search.items()
    )
