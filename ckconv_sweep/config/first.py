"""Trials that a sweep tries before its sampler draws any: the base trial's own settings, and others
that a person has in mind. Each must be a point of the space."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ckconv_sweep.config.arithmetic import Expression
from ckconv_sweep.config.domains import (
    Block,
    Blocks,
    Choices,
    Interval,
    Scalar,
    count,
    in_words,
    is_value,
    nearest,
    points,
)
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError

if TYPE_CHECKING:
    from ckconv_sweep.config.space import Space

BASE = "base"
"""What stands in a file for the base trial's own settings."""
NOT_COMPARED = ("metric", "training.seed")
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


def with_first(
    space: Space,
    trials: Iterable[Trial],
    where: Callable[[int], str],
    entries: Sequence[str | Mapping[str, Any]],
) -> Space:
    """The space that tries these trials first.

    Args:
        where: each of them stands.
        entries: what stands there.

    Raises:
        ConfigError: one is no point of the space, violates a constraint, or is there twice.
    """
    first: list[Mapping[str, Scalar]] = []
    for i, (trial, entry) in enumerate(zip(trials, entries, strict=True)):
        try:
            params = _checked(space, trial, given_variables(space, entry))
        except ConfigError as error:
            raise ConfigError(
                f"first: {error.message}",
                where=where(i),
                hint=error.hint
                or "only points of the space can be tried: widen what is searched, or remove it",
            ) from None
        if params in first:
            raise ConfigError("first: this trial is there twice", where=where(i))
        first.append(params)
    return replace(space, first=tuple(first), asks_for_first=True)


def given_variables(space: Space, entry: str | Mapping[str, Any]) -> dict[str, Scalar] | None:
    """What changes of a trial say of the variables; None where they give a derived setting itself,
    as a whole trial does.

    Raises:
        ConfigError: they give both.
    """
    if isinstance(entry, str):
        return None
    given = {name: entry[name] for name in space.variables if name in entry}
    for path in space.derived.keys() & entry.keys():
        if given:
            raise ConfigError(
                f"{path} is computed from {', '.join(sorted(space.derived[path].names))}",
                hint="give one or the other",
            )
        return None
    return given


def _checked(
    space: Space, trial: Trial, variables: Mapping[str, Scalar] | None = None
) -> dict[str, Scalar]:
    """`params_of` a trial that violates no constraint on a setting."""
    params = params_of(space, trial, variables)
    values = space.values_of(space.resolve(params), params)
    for constraint in space.constraints:
        if constraint.names <= values.keys() and (broken := constraint.broken_by(values)):
            raise ConfigError(broken)
    return params


def params_of(
    space: Space,
    trial: Trial,
    variables: Mapping[str, Scalar] | None = None,
    known: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Scalar]:
    """The parameters that stand for a trial.

    Args:
        variables: where they are given, the trial's derived settings follow from them; those that
            are left out are as in the base trial. None: they follow from the derived settings.
        known: parameters that the trial was made of; of several values of the variables these are
            taken, if the derived settings follow from them.

    Raises:
        ConfigError: it is no point of the space.
    """
    params, changes = params_and_changes(space, trial, variables, known)
    for path, here in changes.items():
        base = flat(space.tree(params)).get(path)
        how = "computes" if path in space.derived else "does not search"
        raise ConfigError(f"{path} is {here!r}, and the space, in which it is {base!r}, {how} it")
    return params


def check_params(space: Space, params: Mapping[str, Scalar]) -> None:
    """Raises ConfigError if these are not the parameters of a point of the space."""

    def value(name: str, domain: Interval | Choices) -> Scalar:
        if name not in params:
            raise ConfigError(f"{name} is missing")
        if not is_value(domain, params[name]):
            raise ConfigError(
                f"{name} is {params[name]!r}, and what is searched is {in_words(domain)}"
            )
        return params[name]

    for name in params.keys() - space.draw(value).keys():
        raise ConfigError(f"nothing called {name} is searched here")


def params_and_changes(
    space: Space,
    trial: Trial,
    variables: Mapping[str, Scalar] | None = None,
    known: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[dict[str, Scalar], dict[str, Any]]:
    """The parameters that stand for a trial, and the settings, by path, that it has beside the
    space. `variables` and `known`: as of `params_of`. Raises ConfigError if what is searched has
    another value than can be drawn."""
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
        params[path] = tree[path] = _in(domain, path, tree[path])
    if variables is None:
        params |= variables_of(space, tree, known)
    elif missing := space.variables.keys() - variables.keys():
        base = variables_of(space, flat(space.trial.model_dump()))
        params |= {name: base[name] for name in missing}
    for name, value in (variables or {}).items():
        params[name] = _in(space.variables[name], name, value)
    there = flat(space.tree(params))
    computed = {} if variables is None else space.derived
    return params, {
        path: value
        for path, value in sorted(tree.items())
        if (path not in there or value != there[path])
        and path not in computed
        and not path.startswith(NOT_COMPARED)
    }


def _in(domain: Interval | Choices, name: str, value: Any) -> Scalar:
    """The value, if the domain has it."""
    if not is_value(domain, value):
        raise ConfigError(f"{name} is {value!r}, and what is searched is {in_words(domain)}")
    is_real = isinstance(domain, Interval) and not domain.whole
    point = nearest(domain, value)
    return float(point) if is_real else point


def variables_of(
    space: Space, tree: Mapping[str, Any], known: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Scalar]:
    """The values of the variables of which a trial's derived settings follow: those that are
    `known`, else the first.

    Raises:
        ConfigError: there are none, or more than can be tried.
    """
    names = ", ".join(space.variables)
    if not names:
        return {}
    made = {p: e for p, e in space.derived.items() if e.names & space.variables.keys()}

    def makes_them(found: Mapping[str, Scalar]) -> bool:
        return all(_is_computed(e, path, {**tree, **found}) for path, e in made.items())

    if all(name in known and is_value(d, known[name]) for name, d in space.variables.items()):
        values_known = {name: _in(d, name, known[name]) for name, d in space.variables.items()}
        if makes_them(values_known):
            return values_known
    several = [points(domain) for domain in space.variables.values()]
    if math.prod(count(domain) or math.inf for domain in space.variables.values()) > _MOST_TRIED:
        for name in space.variables.keys() & known.keys():
            _in(space.variables[name], name, known[name])
        raise ConfigError(f"this trial has no value for {names}; give one")
    for values in itertools.product(*(each or () for each in several)):
        found = dict(zip(space.variables, values, strict=True))
        if makes_them(found):
            return found
    derived = ", ".join(f"{path} {tree.get(path)!r}" for path in made)
    raise ConfigError(f"no value of {names} makes {derived}")


_MOST_TRIED = 10_000
"""Combinations of the variables' values."""


def _is_computed(expression: Expression, path: str, values: Mapping[str, Any]) -> bool:
    try:
        return expression.names <= values.keys() and expression.of(values) == values.get(path)
    except ConfigError:
        return False


def settings_of(space: Space, params: Mapping[str, Scalar]) -> dict[str, Any]:
    """The changes of the base trial that parameters stand for, as a file has them."""
    out: dict[str, Any] = {name: params[name] for name in space.variables}
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
