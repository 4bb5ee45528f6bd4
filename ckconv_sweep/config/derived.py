"""Numbers that are searched without being a setting, and settings that are computed from others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ckconv_sweep.config.arithmetic import FORM, Expression, Number, read_expression
from ckconv_sweep.config.build import NUMBERS, annotation_at, short, type_name
from ckconv_sweep.config.constraints import check_known
from ckconv_sweep.config.documents import Document, Key
from ckconv_sweep.config.domains import Choices, Interval, put
from ckconv_sweep.config.metrics import PARAMETERS
from ckconv_sweep.config.ranges import plain_domain
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError


def read_variables(
    written: Mapping[str, Any], settings: Sequence[str], document: Document
) -> dict[str, Interval | Choices]:
    """What is searched under names that are none of the `settings` of any trial of a space.

    Raises:
        ConfigError: a name is that of a setting, or none; what stands there is no range of numbers.
    """
    out = {}
    for name, domain in written.items():
        where = document.where(("variables", name))
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name, re.ASCII):
            raise ConfigError(
                f"variables: {name!r} cannot be a name",
                where=where,
                hint="take letters, digits and _, a letter first",
            )
        below = [known for known in (*settings, PARAMETERS) if f"{known}.".startswith(f"{name}.")]
        if below or name in Trial.model_fields:
            raise ConfigError(
                f"variables: {name} is a setting", where=where, hint="search it in `search`"
            )
        out[name] = plain_domain(name, domain, _type_of(domain), where, "variables")
    return out


def _type_of(written: Any) -> type:
    """`int` where all numbers of a range are whole, but for those of a normal distribution."""
    if not isinstance(written, dict):
        return float
    choices = written.get("choices")
    parts = (
        choices
        if isinstance(choices, list)
        else [written[n] for n in ("low", "high", "step") if n in written]
    )
    return int if all(type(part) is int for part in parts) else float


def read_derived(
    written: Mapping[str, Any], numbers: Sequence[str], names: Sequence[str], document: Document
) -> dict[str, Expression]:
    """The settings that are computed.

    Args:
        numbers: all settings that are numbers.
        names: what an expression may name beside those of them that are not computed.

    Raises:
        ConfigError: one is no such setting, or what stands there no arithmetic over these.
    """
    known = [*(name for name in numbers if name not in written), *names]
    out = {}
    for path, text in written.items():
        where = document.where(("derived", path))
        check_known([path], numbers, where)
        expression = read_expression(text) if isinstance(text, str) else None
        if expression is None:
            raise ConfigError(
                f"derived: {path}: cannot read {short(text)} as arithmetic",
                where=where,
                hint=f"there may be {FORM}",
            )
        if again := sorted(expression.names & written.keys()):
            raise ConfigError(
                f"derived: {path}: {again[0]} is derived, too, and cannot be named",
                where=where,
                hint="write out what it is computed from",
            )
        check_known(expression.names, known, where)
        out[path] = expression
    return out


def check_used(
    variables: Mapping[str, Any], derived: Mapping[str, Expression], document: Document
) -> None:
    """Raises ConfigError where a variable would be searched without any effect."""
    for name in variables:
        if not any(name in expression.names for expression in derived.values()):
            raise ConfigError(
                f"variables: no derived setting depends on {name}",
                where=document.where(("variables", name)),
                hint=f"name it in one, as in derived: {{training.batch_size: 2 ** {name}}}",
            )


def put_derived(
    tree: dict[str, Any], derived: Mapping[str, Expression], variables: Mapping[str, Any]
) -> None:
    """Compute the settings of a trial's tree that follow from the others, in place.

    Raises:
        ConfigError: one has no value here.
    """
    values = {**flat(tree), **variables}
    for path, expression in derived.items():
        key: Key = tuple(path.split("."))
        if missing := sorted(expression.names - values.keys()):
            raise ConfigError(f"{path}: {expression} needs {missing[0]}, which is not there")
        try:
            value: Number = expression.of(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.message}") from None
        if _is_whole(tree, key) and value == int(value):
            value = int(value)
        put(tree, key, value)


def _is_whole(tree: dict[str, Any], key: Key) -> bool:
    return type_name(annotation_at(Trial, tree, key)) == NUMBERS[0]
