"""Ranges, choices and whole blocks as a space's file writes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, get_args, get_origin

from ckconv_sweep.config.build import annotation_at, blocks, paths, short, type_name, type_of
from ckconv_sweep.config.documents import Document, Key
from ckconv_sweep.config.domains import (
    Block,
    Blocks,
    Choices,
    Domain,
    Interval,
    last_reached,
    nested,
)
from ckconv_sweep.config.normal import TruncatedNormal
from ckconv_sweep.config.settings import Settings
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError, nearest_or_all


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
    return plain_domain(path, written, annotation, where)


def _form_of_blocks(path: str, options: Iterable[str]) -> str:
    choice = ", ".join(f"{name}: {{}}" for name in options)
    return f"write {path}: {{choices: {{{choice}}}}}"


def plain_domain(
    path: str, written: Any, annotation: Any, where: str, section: str = "search"
) -> Interval | Choices:
    """Some values of a plain setting. `annotation`: its type; `section`: of the file, for messages.

    Raises:
        ConfigError: this is no range of such values.
    """
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    number = plain in (int, float)
    reader = _Reader(f"{section}: {path}", where, whole=plain is int)
    if get_origin(plain) is tuple:
        hint = "choose among whole blocks, each with its own list"
        raise reader.wrong(" is a list and cannot be searched", hint)
    match written:
        case {"choices": [_, *_] as values, **rest} if rest.keys() <= {"ordered"}:
            for value in values:
                if isinstance(value, (dict, list)):
                    raise reader.wrong(f": a choice must be one value, got {short(value)}")
            if plain is float:
                values = [float(reader.number("a choice", value)) for value in values]
            if len({(type(value), value) for value in values}) < len(values):
                raise reader.wrong(f": a choice is listed twice in {short(values)}")
            return Choices(options=tuple(values), ordered=reader.flag("ordered", written))
        case {"low": _, "high": _, **rest} if rest.keys() <= _OF_A_RANGE and number:
            return reader.interval(written)
    form = "{choices: [a, b]}"
    given = written.keys() if isinstance(written, dict) else set()
    if number and given & {"mean", "std"}:
        form = _NORMAL
    elif "ordered" in given:
        form = "{choices: [8, 16, 32], ordered: true}"
    elif number:
        form = "{low: 1, high: 9}, {low: 1, high: 9, log: true}, {low: 0, high: 1, step: 0.1} or "
        form += "{choices: [1, 2]}"
    hint = f"write {form}; {type_name(annotation)} must come out"
    raise reader.wrong(f": cannot read {short(written)} as a range", hint)


_LEAST_SHARE = 1e-4
"""Of a normal distribution that must lie between its bounds; less is as good as evenly spread."""
_NORMAL = "{mean: 0.2, std: 0.1, low: 0.0, high: 0.5}"
_OF_A_RANGE = {"log", "step", "or_zero", "mean", "std"}


@dataclass(frozen=True)
class _Reader:
    """Reads the numbers of a range. `path` begins its messages."""

    path: str
    where: str
    whole: bool

    def wrong(self, what: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{self.path}{what}", where=self.where, hint=hint)

    def number(self, name: str, value: Any, *, whole: bool = False) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(f": {name} must be a number, got {short(value)}")
        if not math.isfinite(value):
            raise self.wrong(f": {name} must be finite, got {value}")
        if whole and value != int(value):
            raise self.wrong(f": {name} must be a whole number, got {value!r}")
        return value

    def flag(self, name: str, written: Mapping[str, Any]) -> bool:
        value = written.get(name, False)
        if not isinstance(value, bool):
            raise self.wrong(f": {name} must be true or false, got {short(value)}")
        return value

    def interval(self, written: Mapping[str, Any]) -> Interval:
        low, high = (self.number(n, written[n], whole=self.whole) for n in ("low", "high"))
        step = None
        if "step" in written:
            step = self.number("step", written["step"], whole=self.whole)
        log, or_zero = self.flag("log", written), self.flag("or_zero", written)
        if step is not None and step <= 0:
            raise self.wrong(f": step > 0 must hold, got step={step}")
        if low > high:
            raise self.wrong(f": low <= high must hold, got low={low} and high={high}")
        for name in ("log", "or_zero"):
            if written.get(name) and low <= 0:
                raise self.wrong(f": low > 0 must hold where {name} is true, got low={low}")
        normal = "mean" in written or "std" in written
        for one, other in (("log", "step"), ("mean", "step"), ("mean", "or_zero")):
            if (normal if one == "mean" else log) and written.get(other):
                raise self.wrong(f": give {one} or {other}, not both")
        mean, std = self._normal(written, low, high) if normal else (None, None)
        given = high
        if step is not None:
            # Optuna moves `high` to the last point that the steps reach, with a warning.
            last = last_reached(low, high, step)
            high = int(last) if self.whole else float(last)
            if Fraction(repr(high)) != last:  # read again, it would have lost its last point
                hint = "write fewer, as in {low: 0, high: 1, step: 0.125}"
                raise self.wrong(f": low={low} and step={step} have too many digits", hint)
        return Interval(
            low=low,
            high=high,
            whole=self.whole,
            log=log,
            step=step,
            or_zero=or_zero,
            mean=mean,
            std=std,
            unreached=given if given > high else None,
        )

    def _normal(self, written: Mapping[str, Any], low: float, high: float) -> tuple[float, float]:
        """The mean and the standard deviation."""
        for name in ("mean", "std"):
            if name not in written:
                raise self.wrong(f": {name} is missing", f"write {_NORMAL}")
        mean, std = (float(self.number(name, written[name])) for name in ("mean", "std"))
        if not low <= mean <= high or low == high:
            raise self.wrong(
                f": low <= mean <= high and low < high must hold, got low={low}, mean={mean} and "
                f"high={high}"
            )
        if std <= 0:
            raise self.wrong(f": std > 0 must hold, got std={std}")
        bell = TruncatedNormal(mean, std, low, high, bool(written.get("log")), self.whole)
        if bell.share < _LEAST_SHARE:
            hint = "take a smaller std, or no normal distribution"
            raise self.wrong(f": std={std} is so large that next to nothing lies in between", hint)
        return mean, std


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
            search[key] = plain_domain(f"{path}.{label}.{key}", value, annotation, at)
    return Block(name=name, fixed=fixed, search=search)


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
