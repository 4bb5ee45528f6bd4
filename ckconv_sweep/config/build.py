"""Plain values in, settings out; and what pydantic says about a mistake, said for the user.

Also answers what stands at a path such as `model.kernel.omega_0`, from the types alone.
"""

from __future__ import annotations

import difflib
import re
import types
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ckconv_sweep.config.documents import Document, Key
from ckconv_sweep.config.settings import Settings
from ckconv_sweep.config.table import Names, Table
from ckconv_sweep.errors import ConfigError, nearest_or_all

S = TypeVar("S", bound=Settings)

NUMBERS = ("a whole number", "a number")
"""What `type_name` says of a setting that is a number."""


def build(kind: type[S], document: Document) -> S:
    """Settings of one kind from a document.

    Raises:
        ConfigError: names the place, what was read, what is right, and the nearest name.
    """
    try:
        return kind.model_validate(document.value)
    except ValidationError as error:
        raise _said_for_the_user(kind, document, error.errors()) from None


def type_of(field: FieldInfo) -> Any:
    """The type of a setting, or the table whose rows may stand there."""
    return next((m for m in field.metadata if isinstance(m, Names)), field.annotation)


def blocks(annotation: Any) -> dict[str, type[Settings]]:
    """The settings classes that may stand here, by `name` (or by class name where there is one
    only); empty for a plain value."""
    if isinstance(annotation, Table):
        return dict(annotation)
    found = get_args(annotation) or (annotation,)  # one of them may be None
    classes = [c for c in found if isinstance(c, type) and issubclass(c, Settings)]
    return {c.__name__: c for c in classes}


def block_at(kind: type[Settings], tree: Any, key: Key) -> type[Settings] | None:
    """The settings class at `key`; where several may stand there, the one that `tree` names, or
    the default one where `tree` names none. Of a list, that of its rows."""
    current: type[Settings] | None = kind
    for word in key:
        if isinstance(word, int):  # the list before it has said what its rows are
            continue
        if current is None or word not in current.model_fields:
            return None
        tree = tree.get(word) if isinstance(tree, dict) else None
        field = current.model_fields[str(word)]
        options = blocks(type_of(field))
        if len(options) == 1:
            (current,) = options.values()
        else:
            default = getattr(field.default, "name", None)
            named = tree.get("name", default) if isinstance(tree, dict) else default
            current = options.get(named) if isinstance(named, str) else None
    return current


def annotation_at(kind: type[Settings], tree: Any, key: Key) -> Any:
    """The type of the setting at `key`, or the table whose rows may stand there; None where there
    is no such setting."""
    if isinstance(key[-1], int):
        row = annotation_at(kind, tree, key[:-1])
        return next(iter(get_args(row)), None)
    block = block_at(kind, tree, key[:-1])
    if block is None or key[-1] not in block.model_fields:
        return None
    return type_of(block.model_fields[key[-1]])


def paths(kind: type[Settings], tree: Any, prefix: str = "") -> list[str]:
    """Every setting's path, following the blocks that `tree` names."""
    out = []
    for name, field in kind.model_fields.items():
        if not field.repr:
            continue
        below = block_at(kind, tree, (name,))
        if below is not None:
            inner = tree.get(name) if isinstance(tree, dict) else None
            out += [prefix + name, *paths(below, inner, f"{prefix}{name}.")]
        elif not blocks(type_of(field)):
            out.append(prefix + name)
    return out


def type_name(annotation: Any) -> str:
    """What must stand at a setting, in words."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if names := words_of(annotation):
        return "one of " + ", ".join(names)
    words = {int: NUMBERS[0], float: NUMBERS[1], str: "a word", bool: "true or false"}
    if annotation in words:
        return words[annotation]
    if get_origin(annotation) in (tuple, list):
        return "a list"
    if get_origin(annotation) in (Union, types.UnionType) and not blocks(annotation):
        members = [m for m in get_args(annotation) if m is not types.NoneType]
        return " or ".join(map(type_name, members))
    return "a block of settings"


def _said_for_the_user(
    kind: type[Settings], document: Document, errors: list[ErrorDetails]
) -> ConfigError:
    """One message, for the first mistake. An unknown key comes first: a missing one is often it."""
    error = min(errors, key=lambda e: e["type"] != "extra_forbidden")
    key = _without_tag(kind, document.value, error["loc"])
    path = ".".join(map(str, key))
    where = document.where(key)
    read, context = error["input"], error.get("ctx", {})
    annotation: Any = annotation_at(kind, document.value, key) if key else None
    wanted = type_name(annotation) if key else "settings"
    bounds = {
        "greater_than_equal": (">=", "ge"),
        "greater_than": (">", "gt"),
        "less_than_equal": ("<=", "le"),
        "less_than": ("<", "lt"),
    }
    match error["type"]:
        case "extra_forbidden":
            block = block_at(kind, document.value, key[:-1])
            known = [name for name, f in block.model_fields.items() if f.repr] if block else []
            inside = f" in {'.'.join(map(str, key[:-1]))}" if key[:-1] else ""
            return ConfigError(
                f"no setting is called {key[-1]!r}{inside}",
                where=where,
                hint=nearest_or_all(str(key[-1]), known),
            )
        case "missing":
            return ConfigError(f"{path} is missing: expected {wanted}", where=where)
        case "union_tag_not_found":
            if misspelt := difflib.get_close_matches("name", map(str, read), n=1):
                return ConfigError(
                    f"no setting is called {misspelt[0]!r} in {path}",
                    where=document.where((*key, misspelt[0])),
                    hint="did you mean 'name'?",
                )
            return ConfigError(
                f"{path}.name is missing", where=where, hint=f"there are: {', '.join(annotation)}"
            )
        case "union_tag_invalid":
            return ConfigError(
                f"{path}: no {annotation.word} is called {context['tag']!r}",
                where=document.where((*key, "name")),
                hint=nearest_or_all(context["tag"], annotation),
            )
        case "literal_error":
            return ConfigError(
                f"{path}: must be {wanted}, got {short(read)}",
                where=where,
                hint="no trial sees the test split: take one of val/..."
                if str(read).startswith("test/")
                else nearest_or_all(str(read), words_of(annotation)),
            )
        case "value_error":
            message = error["msg"].removeprefix("Value error, ")
            changes = [
                place
                for at, place in document.places.items()
                if at[: len(key)] == key and place.startswith("--set ")
            ]
            where = _place_named_in(message, key, document) or where
            return ConfigError(
                f"{path}: {message}" if path else message,
                where=", with ".join(dict.fromkeys([where, *changes])),
            )
        case "finite_number":
            return ConfigError(f"{path}: must be finite, got {read!r}", where=where)
        case word if word in bounds:
            sign, name = bounds[word]
            last = key[-1] if isinstance(key[-1], str) else path
            return ConfigError(
                f"{path}: {last} {sign} {context[name]} must hold, got {read!r}", where=where
            )
    a_name_alone = isinstance(annotation, Table) and isinstance(read, str) and read in annotation
    return ConfigError(
        f"{path or 'this file'}: expected {wanted}, got {short(read)}",
        where=where,
        hint=f"write {path}: {{name: {read}}}" if a_name_alone else None,
    )


def _place_named_in(message: str, key: Key, document: Document) -> str | None:
    """Where the setting stands with whose name a message about the block at `key` begins."""
    named = re.match(r"[a-z]\w*(\.\w+)*", message)
    place = (*key, *named[0].split(".")) if named else key
    while len(place) > len(key):
        if place in document.places:
            return document.places[place]
        place = place[:-1]
    return None


def words_of(annotation: Any) -> list[str]:
    """The words of which one must stand here; none where another value may."""
    if isinstance(annotation, Names) and not isinstance(annotation, Table):
        return list(annotation)
    return list(map(str, get_args(annotation))) if get_origin(annotation) is Literal else []


def _without_tag(kind: type[Settings], tree: Any, loc: Key) -> Key:
    """Where one of several types may stand pydantic ends an error's path with the one it tried."""
    above = annotation_at(kind, tree, loc[:-1]) if loc[:-1] else None
    of_several = get_origin(above) in (Union, types.UnionType)
    return loc[:-1] if of_several and types.NoneType not in get_args(above) else loc


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
