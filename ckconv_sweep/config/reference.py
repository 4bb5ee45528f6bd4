"""Every setting that a file can have: its path, type, bounds, default and meaning, from the classes
that read the files. `show`, the completion, the JSON Schema and the guide are made of it.

A path may lead through tables: `model.mask.width` is there only where the mask is `gaussian`. Rows
that share a setting, with the same default and bounds, have one entry.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ckconv_sweep.config.build import annotation_at, blocks, type_name, type_of, words_of
from ckconv_sweep.config.read import read_file, read_trial
from ckconv_sweep.config.settings import Settings, flat, meanings
from ckconv_sweep.config.space_file import SpaceFile
from ckconv_sweep.config.table import Table
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import CkconvSweepError

REQUIRED = "required"
"""In the place of a default: a file must have the setting."""
_SIGNS = (
    (annotated_types.Gt, "gt", ">"),
    (annotated_types.Ge, "ge", ">="),
    (annotated_types.Lt, "lt", "<"),
    (annotated_types.Le, "le", "<="),
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting, or the `name` of a block that may be one of several."""

    path: str
    kind: Any
    """Its type, or the table whose rows may stand there."""
    annotation: Any
    """Its type with bounds, for pydantic."""
    type: str
    """What must stand there, in words."""
    bounds: str
    """`>= 0, < 1`; empty without any."""
    default: str
    """As a file writes it, or `REQUIRED`."""
    meaning: str
    tables: tuple[Table[Any], ...] = ()
    """Those that its path leads through, from the outermost on."""
    rows: tuple[tuple[str, ...], ...] = ((),)
    """The combinations of their rows that have it."""

    @property
    def of(self) -> tuple[str, ...]:
        """The rows that have it, of the innermost table that does not have it in all of them; empty
        where it is always there."""
        for depth, table in reversed(list(enumerate(self.tables))):
            here = tuple(dict.fromkeys(names[depth] for names in self.rows))
            if len(here) < len(table):
                return here
        return ()


def all_settings() -> list[Setting]:
    """Those of trials, then those of spaces, each in the order of its class."""
    merged: dict[tuple[str, ...], Setting] = {}
    for setting in (*walk(Trial), *walk(SpaceFile)):
        key = (setting.path, setting.type, setting.bounds, setting.default, setting.meaning)
        if (same := merged.get(key)) and setting.rows[0] not in same.rows:
            merged[key] = replace(same, rows=same.rows + setting.rows)
        else:
            merged.setdefault(key, setting)
    return sorted(merged.values(), key=_place([s.path for s in merged.values()]))


def _place(paths: list[str]) -> Any:
    """What several rows call by one name stands together, where the first of them is."""
    first = {path: index for index, path in reversed(list(enumerate(paths)))}
    return lambda setting: first[setting.path]


def walk(
    kind: type[Settings],
    prefix: str = "",
    tables: tuple[Table[Any], ...] = (),
    rows: tuple[str, ...] = (),
) -> Iterator[Setting]:
    """Those of a class, and of each row of each table that its paths lead through, one by one."""
    meaning = meanings(kind)
    for name, field in kind.model_fields.items():
        path, table = prefix + name, type_of(field)  # or what else may stand there
        if name == "name" and tables and kind in tables[-1].values():
            continue  # it stands before the rows
        if not field.repr:
            continue
        setting = functools.partial(
            Setting, meaning=meaning.get(name, ""), tables=tables, rows=(rows,)
        )
        if isinstance(table, Table):
            yield setting(
                path=f"{path}.name",
                kind=table,
                annotation=Annotated[field.annotation, table],
                type="one of " + ", ".join(table),
                bounds="",
                default=getattr(field.default, "name", REQUIRED),
            )
            for row, inner in table.items() if table not in tables else ():  # of one in another
                yield from walk(inner, f"{path}.", (*tables, table), (*rows, row))
        elif len(inside := blocks(table)) == 1 and get_origin(field.annotation) is not list:
            yield from walk(next(iter(inside.values())), f"{path}.", tables, rows)
        else:
            yield setting(
                path=path,
                kind=table,
                annotation=Annotated[field.annotation, *field.metadata, None],
                type=type_name(table),
                bounds=_bounds(field),
                default=_default(field),
            )


def _bounds(field: FieldInfo) -> str:
    metadata = list(field.metadata)
    for member in get_args(field.annotation):  # of one that may be null
        for inner in get_args(member) if get_origin(member) is Annotated else ():
            metadata += getattr(inner, "metadata", [])
    found = [
        f"{sign} {_number(getattr(bound, name))}"
        for bound in metadata
        for kind, name, sign in _SIGNS
        if isinstance(bound, kind)
    ]
    return ", ".join(found)


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:g}" if value < 1e5 else str(value)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return REQUIRED if value is PydanticUndefined else written(value)


def written(value: Any) -> str:
    """A plain value as a file writes it on one line."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list() | tuple():
            return f"[{', '.join(map(written, value))}]"
    return str(value)


def changeable(file: str | None) -> dict[str, list[str]]:
    """The settings that `--set` can change of a trial or a space, each with the values that are
    worth offering: all words of which one must stand there, or what stands there now. Of a file
    that cannot be read, or is not known yet, those of a trial with every default."""
    try:
        read = read_file(file) if file else read_trial("digits")
    except CkconvSweepError:
        read = read_trial("digits")
    if isinstance(read, Trial):
        return _offered(Trial, read.model_dump(mode="json"))
    out = _offered(Trial, read.trial.model_dump(mode="json"))
    for path in (*read.search, *read.derived):  # what is searched cannot be changed
        out.pop(path, None)
        out.pop(f"{path}.name", None)
    of_space = {name: read.written()[name] for name in ("sampler", "scheduler", "budget")}
    return out | _offered(SpaceFile, of_space)


def _offered(kind: type[Trial] | type[SpaceFile], tree: dict[str, Any]) -> dict[str, list[str]]:
    out = {}
    for path, value in flat(tree).items():
        key = tuple(path.split("."))
        options = blocks(annotation_at(kind, tree, key[:-1])) if key[-1] == "name" else {}
        words = list(options) if len(options) > 1 else words_of(annotation_at(kind, tree, key))
        if isinstance(value, bool):
            words = ["true", "false"]
        out[path] = words or [written(value)]
    return out
