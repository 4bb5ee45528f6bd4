"""What may be searched at one setting: an interval, some choices, or whole blocks of settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any, get_args, get_origin

from ckconv_sweep.config.build import annotation_at, blocks, paths, short, type_name, type_of
from ckconv_sweep.config.documents import Document, Key
from ckconv_sweep.config.settings import Settings
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError, nearest_or_all

Scalar = int | float | str | bool | None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None
    unreached: float | None = field(default=None, compare=False)
    """The upper end that a file gives, where the steps do not reach it."""

    def written(self) -> dict[str, Any]:
        number: Callable[[float], float] = int if self.whole else float
        out: dict[str, Any] = {"low": number(self.low), "high": number(self.high)}
        if self.log:
            out["log"] = True
        if self.step is not None:
            out["step"] = number(self.step)
        return out


@dataclass(frozen=True, kw_only=True)
class Choices:
    """One of some values."""

    options: tuple[Scalar, ...]

    def written(self) -> dict[str, Any]:
        return {"choices": list(self.options)}


@dataclass(frozen=True, kw_only=True)
class Block:
    """One of the blocks to choose among: which class of settings, what is fixed, what searched."""

    name: str
    fixed: Mapping[str, Any]
    search: Mapping[str, Interval | Choices]


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A choice among whole blocks, by label."""

    options: Mapping[str, Block]

    def written(self) -> dict[str, Any]:
        return {
            "choices": {
                label: ({} if block.name == label else {"name": block.name})
                | dict(block.fixed)
                | {key: domain.written() for key, domain in block.search.items()}
                for label, block in self.options.items()
            }
        }


Domain = Interval | Choices | Blocks


def corners(domain: Interval | Choices) -> tuple[Scalar, ...]:
    """The values at which a range must be checked: if they are settings, all between are."""
    if isinstance(domain, Choices):
        return domain.options
    ends = (domain.low, domain.high)
    return tuple(map(int, ends)) if domain.whole else ends


def extremes(domain: Interval | Choices) -> tuple[Scalar, ...]:
    """The corners without the numbers between the smallest and the largest."""
    values = corners(domain)
    numbers = [value for value in values if isinstance(value, (int, float))]
    return (min(numbers), max(numbers)) if len(numbers) == len(values) else values


def count(domain: Interval | Choices) -> int | None:
    """How many values a domain has, or None where they cannot be counted."""
    if isinstance(domain, Choices):
        return len(domain.options)
    step = domain.step or (1 if domain.whole else None)
    return None if step is None else _steps(domain.low, domain.high, step) + 1


def points(domain: Interval | Choices) -> Iterable[Scalar] | None:
    """All values of a domain, or None where they cannot be counted."""
    if isinstance(domain, Choices):
        return domain.options
    many = count(domain)
    if many is None:
        return None
    number: Callable[[Fraction], float] = int if domain.whole else float
    low, step = _exact(domain.low), _exact(domain.step or 1)
    return (number(low + i * step) for i in range(many))


def in_words(domain: Interval | Choices) -> str:
    """What is searched, for a sentence or a table."""
    if isinstance(domain, Choices):
        return " | ".join(map(str, domain.options))
    written = domain.written()
    step = f", steps of {written['step']:g}" if "step" in written else ""
    return f"{written['low']:g} to {written['high']:g}{', log' if written.get('log') else ''}{step}"


def is_value(domain: Interval | Choices, value: Any) -> bool:
    """Whether a setting's value is one that the domain can give."""
    if isinstance(domain, Choices):
        return any(type(value) is type(option) and value == option for option in domain.options)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    slack = domain.step or 0
    if not domain.low - slack <= value <= domain.high + slack:
        return False
    if domain.step is None:
        return True
    point = nearest(domain, value)
    return bool(domain.low <= point <= domain.high and abs(value - point) <= 1e-9 * domain.step)


def nearest(domain: Interval | Choices, value: Any) -> Any:
    """The point of a domain with steps that is meant by a number which is nearly there: Optuna
    makes 0.30000000000000004 of three steps of 0.1."""
    if isinstance(domain, Choices) or domain.step is None:
        return value
    step, low = _exact(domain.step), _exact(domain.low)
    point = low + round((_exact(value) - low) / step) * step
    return int(point) if domain.whole else float(point)


def from_unit(domain: Interval | Choices, unit: float) -> Scalar:
    """The value of a domain at `unit` of its way, 0 <= unit < 1: every value of a counted domain
    gets an equal share."""
    if isinstance(domain, Choices):
        return domain.options[int(unit * len(domain.options))]
    low, high, whole = domain.low, domain.high, domain.whole
    if domain.log:
        # Half a step more at both ends, so that the end values get their share too.
        half = 0.5 if whole else 0.0
        start, end = math.log(low - half), math.log(high + half)
        value = math.exp(start + unit * (end - start))
        value = min(max(round(value) if whole else value, low), high)
        return int(value) if whole else value
    step = domain.step or (1 if whole else None)
    if step is None:
        return min(low + unit * (high - low), high)
    # As written: in tenths, three steps of 0.1 make 0.3.
    exact = _exact(low) + int(unit * (_steps(low, high, step) + 1)) * _exact(step)
    return int(exact) if whole else float(exact)


def _exact(value: float) -> Fraction:
    """The number as it is written: 0.1 is a tenth, so that three steps of it make 0.3."""
    return Fraction(repr(value))


def _steps(low: float, high: float, step: float) -> int:
    return (_exact(high) - _exact(low)) // _exact(step)


def read_domain(path: str, written: Any, trial: Trial, document: Document) -> Domain:
    """What a space searches at one setting.

    Raises:
        ConfigError: there is no such setting, or this is no range of its values.
    """
    tree = trial.model_dump()
    key = tuple(path.split("."))
    place: Key = ("search", path)
    where = document.where(place)
    annotation = annotation_at(Trial, tree, key)
    if annotation is None and _below_a_searched_block(key, document):
        annotation = _annotation_in_any_block(key)

    def wrong(what: str, hint: str) -> ConfigError:
        return ConfigError(f"search: {what}", where=where, hint=hint)

    if annotation is None:
        raise wrong(f"no setting is called {path!r}", nearest_or_all(path, paths(Trial, tree)))
    if key[0] == "metric":
        hint = "the metric decides which trial is best, so it is the same for all of them"
        raise wrong(f"{path} cannot be searched", hint)
    around = blocks(annotation_at(Trial, tree, key[:-1])) if key[-1] == "name" else {}
    if len(around) > 1:
        what = f"{path} selects a block with settings of its own, so search whole blocks"
        raise wrong(what, _form_of_blocks(".".join(key[:-1]), around))
    options = blocks(annotation)
    match written:
        case {"choices": dict() as labels, **rest} if labels and not rest and len(options) > 1:
            return Blocks(
                options={
                    label: _block(path, label, inner, options, document)
                    for label, inner in labels.items()
                }
            )
    if len(options) > 1:
        what = f"{path} is a block of settings, got {short(written)}"
        raise wrong(what, _form_of_blocks(path, options))
    if options:
        inside = [name for name in paths(Trial, tree) if name.startswith(f"{path}.")]
        raise wrong(f"{path} is a block of settings", f"search one of them: {', '.join(inside)}")
    return _plain_domain(path, written, annotation, where)


def _form_of_blocks(path: str, options: Iterable[str]) -> str:
    choice = ", ".join(f"{name}: {{}}" for name in options)
    return f"write {path}: {{choices: {{{choice}}}}}"


def _plain_domain(path: str, written: Any, annotation: Any, where: str) -> Interval | Choices:
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    whole, number = plain is int, plain in (int, float)

    def wrong(what: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"search: {path}{what}", where=where, hint=hint)

    def numeric(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong(f": {name} must be a number, got {short(value)}")
        if not math.isfinite(value):
            raise wrong(f": {name} must be finite, got {value}")
        if whole and value != int(value):
            raise wrong(f": {name} must be a whole number, got {value!r}")
        return value

    if get_origin(plain) is tuple:
        hint = "choose among whole blocks, each with its own list"
        raise wrong(" is a list and cannot be searched", hint)
    match written:
        case {"choices": [_, *_] as values, **rest} if not rest:
            for value in values:
                if isinstance(value, (dict, list)):
                    raise wrong(f": a choice must be one value, got {short(value)}")
            if plain is float:
                values = [float(numeric("a choice", value)) for value in values]
            if len({(type(value), value) for value in values}) < len(values):
                raise wrong(f": a choice is listed twice in {short(values)}")
            return Choices(options=tuple(values))
        case {"low": low, "high": high, **rest} if rest.keys() <= {"log", "step"} and number:
            low, high = numeric("low", low), numeric("high", high)
            given = high
            log = rest.get("log", False)
            step = numeric("step", rest["step"]) if "step" in rest else None
            if not isinstance(log, bool):
                raise wrong(f": log must be true or false, got {short(log)}")
            if step is not None and step <= 0:
                raise wrong(f": step > 0 must hold, got step={step}")
            if low > high:
                raise wrong(f": low <= high must hold, got low={low} and high={high}")
            if log and low <= 0:
                raise wrong(f": low > 0 must hold where log is true, got low={low}")
            if log and step is not None:
                raise wrong(": give log or step, not both")
            if step is not None:
                # Optuna moves `high` to the last point that the steps reach, with a warning.
                last = _exact(low) + _steps(low, high, step) * _exact(step)
                high = int(last) if whole else float(last)
                if _exact(high) != last:  # read again, it would have lost its last point
                    hint = "write fewer, as in {low: 0, high: 1, step: 0.125}"
                    raise wrong(f": low={low} and step={step} have too many digits", hint)
            unreached = given if given > high else None
            return Interval(
                low=low, high=high, whole=whole, log=log, step=step, unreached=unreached
            )
    form = "{choices: [a, b]}"
    if number:
        form = "{low: 1, high: 9}, {low: 1, high: 9, log: true}, {low: 0, high: 1, step: 0.1} or "
        form += "{choices: [1, 2]}"
    hint = f"write {form}; {type_name(annotation)} must come out"
    raise wrong(f": cannot read {short(written)} as a range", hint)


def _block(
    path: str, label: str, written: Any, options: dict[str, type[Settings]], document: Document
) -> Block:
    where = document.where(("search", path, "choices", label))
    inner = dict(written or {}) if isinstance(written, dict) or written is None else None
    if inner is None:
        raise ConfigError(
            f"search: {path}: {label}: expected a block of settings, got {short(written)}",
            where=where,
        )
    name = inner.pop("name", label)
    if not isinstance(name, str) or name not in options:
        raise ConfigError(
            f"search: no {path} is called {short(name)}",
            where=where,
            hint=nearest_or_all(str(name), options),
        )
    option = options[name]
    fixed = {key: value for key, value in inner.items() if not isinstance(value, dict)}
    tree = nested(fixed)
    search: dict[str, Interval | Choices] = {}
    for key, value in inner.items():
        at = document.where(("search", path, "choices", label, key))
        words = str(key).split(".")
        for outer in (".".join(words[:end]) for end in range(1, len(words))):
            if outer in inner:
                raise ConfigError(
                    f"search: {path}.{label}.{key} is set in two places, here and at "
                    f"{document.where(('search', path, 'choices', label, outer))}",
                    where=at,
                    hint="remove one of the two",
                )
        annotation = annotation_at(option, tree, tuple(words))
        names_a_block = key in fixed and key.endswith(".name")
        if annotation is None and not names_a_block:
            known = [known for known in paths(option, tree) if known != "name"]
            raise ConfigError(
                f"search: no setting of {name} is called {key!r}",
                where=at,
                hint=nearest_or_all(key, known),
            )
        if isinstance(value, dict):
            if blocks(annotation):
                raise ConfigError(
                    f"search: {path}.{label}.{key} is a block of settings",
                    where=at,
                    hint=f"write its settings one by one, as in {key}.{_first(annotation)}",
                )
            search[key] = _plain_domain(f"{path}.{label}.{key}", value, annotation, at)
    return Block(name=name, fixed=fixed, search=search)


def nested(flat_tree: Mapping[str, Any]) -> dict[str, Any]:
    """`{"kernel.omega_0": 9.0}` -> `{"kernel": {"omega_0": 9.0}}`."""
    tree: dict[str, Any] = {}
    for path, value in flat_tree.items():
        put(tree, tuple(str(path).split(".")), value)
    return tree


def put(tree: dict[str, Any], key: Key, value: Any) -> None:
    """Set one value of a nested tree, in place."""
    for word in key[:-1]:
        below = tree.setdefault(str(word), {})
        if not isinstance(below, dict):
            below = tree[str(word)] = {}
        tree = below
    tree[str(key[-1])] = value


def _first(annotation: Any) -> str:
    """The first setting of a block, for an example."""
    option = next(iter(blocks(annotation).values()))
    return next(name for name in option.model_fields if name != "name")


def _below_a_searched_block(key: Key, document: Document) -> bool:
    """Whether an outer part of this key is a choice among blocks in the same file."""
    searched = document.value["search"]
    return any(".".join(map(str, key[:end])) in searched for end in range(1, len(key)))


def _annotation_in_any_block(key: Key) -> Any:
    """The type of a setting that some option of the block above it has."""
    for option in blocks(annotation_at(Trial, {}, key[:-1])).values():
        if key[-1] in option.model_fields:
            return type_of(option.model_fields[str(key[-1])])
    return None
