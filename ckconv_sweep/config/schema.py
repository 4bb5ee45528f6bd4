"""The JSON Schema of trials and spaces, with which an editor's language server completes settings,
says what they mean, and underlines mistakes. What only the whole file can tell (a range that leaves
the bounds of `Trial`, two settings that do not go together) is left to `validate`."""

from __future__ import annotations

from typing import Any, get_origin

from pydantic import TypeAdapter

from ckconv_sweep.config.build import NUMBERS
from ckconv_sweep.config.reference import Setting, all_settings, walk
from ckconv_sweep.config.space_file import SpaceFile
from ckconv_sweep.config.table import Row, Table
from ckconv_sweep.config.trial import Trial

Schema = dict[str, Any]
_NUMBERS = ("integer", "number")


def json_schema() -> Schema:
    """One for both. A file that fits neither is told what is wrong with the one that it is nearer
    to."""
    trial, space = Trial.model_json_schema(), SpaceFile.model_json_schema()
    defs: Schema = {"Trial": trial, "Space": space, **trial.pop("$defs"), **space.pop("$defs")}
    of_space = space["properties"]
    of_space["trial"] |= {"anyOf": [{"type": "string"}, _ref("Trial")]}
    of_space["search"] |= {"properties": _searches(defs), "additionalProperties": False}
    of_space["variables"] |= {"additionalProperties": _numbers(defs, {"type": "number"}, "number")}
    of_space["derived"] |= {
        "properties": {
            setting.path: {"type": "string", "description": setting.meaning}
            for setting in all_settings()
            if setting.type in NUMBERS and setting.path.split(".")[0] in Trial.model_fields
        },
        "additionalProperties": False,
    }
    for kind in (trial, space):
        kind["properties"] = {
            "$schema": {"type": "string", "description": "Where this schema is."},
            "description": {"type": "string", "description": "For people; it changes nothing."},
        } | kind["properties"]
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$defs": defs,
        "anyOf": [_ref("Space"), _ref("Trial")],
    }
    _tidy(schema)
    return schema


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _shared(defs: Schema, schema: Schema) -> Schema:
    """The schema, written out in one place only."""
    name = next((name for name, known in defs.items() if known == schema), f"form{len(defs)}")
    defs[name] = schema
    return _ref(name)


def _searches(defs: Schema) -> Schema:
    """What may be searched at each path. The metric is the same for all trials."""
    found: dict[str, list[Schema]] = {}
    for setting in all_settings():
        path, table = setting.path, setting.kind
        if path.split(".")[0] not in Trial.model_fields or path.startswith("metric."):
            continue
        if isinstance(table, Table):
            path, form = path.removesuffix(".name"), _whole_blocks(defs, table)
        elif _is_list(setting):  # cannot be searched
            continue
        else:
            form = _ranges(defs, setting)
        found.setdefault(path, []).append({"description": setting.meaning} | form)
    return {
        path: forms[0] if len(forms) == 1 else {"anyOf": forms} for path, forms in found.items()
    }


def _is_list(setting: Setting) -> bool:
    return get_origin(setting.kind) is tuple


def _value(defs: Schema, setting: Setting) -> Schema:
    """One value of a setting."""
    return _shared(defs, TypeAdapter(setting.annotation).json_schema())


def _ranges(defs: Schema, setting: Setting) -> Schema:
    """`{low: 1, high: 9, log: true}`, `{low: 0, high: 1, step: 0.1}`, `{choices: [1, 2]}`."""
    value = _value(defs, setting)
    if (number := TypeAdapter(setting.annotation).json_schema().get("type")) not in _NUMBERS:
        return _shared(defs, _choices(value))
    return _numbers(defs, value, number)


def _choices(value: Schema) -> Schema:
    ordered = {"type": "boolean", "description": "Whether neighbours are more alike than others."}
    items = {"type": "array", "items": value, "minItems": 1}
    return _block({"choices": items, "ordered": ordered}, "choices")


def _numbers(defs: Schema, value: Schema, number: str) -> Schema:
    ends = {"low": value, "high": value}
    log = {"type": "boolean", "description": "Draw the logarithm."}
    zero = {"type": "boolean", "description": "Draw 0 too, in a fifth of the random draws."}
    step = {"type": number, "exclusiveMinimum": 0}
    interval = _block(ends | {"log": log, "or_zero": zero, "step": step}, *ends)
    bell = {
        "mean": {"type": "number", "description": "Where most draws lie."},
        "std": {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "Of the normal distribution; with log of the natural logarithm.",
        },
    }
    normal = _block(ends | bell | {"log": log}, *ends, *bell)
    return _shared(defs, {"anyOf": [interval, normal, _choices(value)]})


def _whole_blocks(defs: Schema, table: Table[Any]) -> Schema:
    """`{choices: {plateau: {factor: 0.2, patience: {low: 5, high: 20}}}}`: blocks by label, which
    names the row of a block without a `name`."""
    rows = {name: _shared(defs, _searched_block(defs, name, row)) for name, row in table.items()}
    named = {"required": ["name"], "anyOf": list(rows.values())}
    labels = {"type": "object", "minProperties": 1, "properties": rows}
    return _block({"choices": labels | {"additionalProperties": named}}, "choices")


def _searched_block(defs: Schema, name: str, row: type[Row]) -> Schema:
    """The settings of a row, each with a value or searched."""
    properties: Schema = {"name": {"const": name}}
    for setting in walk(row):
        if isinstance(setting.kind, Table):
            form: Schema = {"enum": list(setting.kind)}
        elif _is_list(setting):
            form = _value(defs, setting)
        else:
            form = {"anyOf": [_value(defs, setting), _ranges(defs, setting)]}
        if setting.path != "name":
            properties[setting.path] = {"description": setting.meaning} | form
    # A block without settings may be written as nothing.
    return _block(properties) | {"type": ["object", "null"], "description": row.__doc__}


def _block(properties: Schema, *required: str) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
    }


def _tidy(schema: Any) -> None:
    """Without titles, which say the name of a setting again, and without the defaults of whole
    blocks, which an editor would write out."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        if isinstance(schema.get("default"), dict):
            del schema["default"]
    if isinstance(schema, (dict, list)):
        for value in schema.values() if isinstance(schema, dict) else schema:
            _tidy(value)
