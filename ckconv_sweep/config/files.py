"""YAML text in, plain values and the place of each of them out; the only file that reads YAML.

Numbers follow YAML 1.2 (`1e-3` is a number, `no` and `12:30` are text). Aliases, duplicate keys,
tags and files over 1 MiB are refused: a settings file needs none of them, and each has turned
somebody's file into something else than it seemed to say.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ckconv_sweep.errors import ConfigError

MAX_BYTES = 2**20
MAX_DEPTH = 50
MAX_NODES = 10_000

Key = tuple[str | int, ...]
"""Where a value stands in a file: `("model", "kernel", "omega_0")`."""


@dataclass(frozen=True)
class Document:
    """A file's content, and where each of its values stands: `file.yaml:12`, or an option."""

    name: str
    value: Any
    places: dict[Key, str] = field(default_factory=dict)

    def where(self, key: Key = ()) -> str:
        """The place of the nearest value at or above `key`."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.places:
                return self.places[key[:end]]
        return self.name

    def below(self, *key: str | int) -> Document:
        """The part at `key`, with the places of its own values."""
        value = self.value
        for word in key:
            value = value[word]
        end = len(key)
        places = {place[end:]: where for place, where in self.places.items() if place[:end] == key}
        return Document(self.name, value, places)


def read(path: Path) -> Document:
    """Read a file.

    Raises:
        ConfigError: it is missing, no YAML, or uses what is refused here.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path)) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"a settings file of more than {MAX_BYTES:,} bytes is refused", where=str(path)
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"must be UTF-8 text, byte {error.start} is not", where=f"{path}:{line}"
        ) from None
    return parse(text, str(path))


def parse(text: str, name: str) -> Document:
    """Read YAML text; `name` stands in messages. Raises as `read` does."""
    places: dict[Key, str] = {}
    try:
        _refuse_what_is_not_needed(text, name)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = None if node is None else _construct(node, (), places, name)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = error.problem or error.context or "it cannot be read"
        hint = "indent with spaces, not with tabs" if r"'\t'" in problem else None
        raise ConfigError(
            f"this is not YAML: {problem}", where=f"{name}:{line}", hint=hint
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"this is not YAML: the character U+{error.character:04X} is not allowed",
            where=f"{name}:{line}",
        ) from None
    return Document(name, value, places)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse_what_is_not_needed(text: str, name: str) -> None:
    """One flat pass over the events, before anything recursive sees them."""
    depth = nodes = documents = 0
    loader: Any = yaml.SafeLoader(text)
    while True:
        try:
            event = loader.get_event() if loader.check_event() else None
        except (ValueError, OverflowError):  # "\UFFFFFFFF", or %YAML with 5,000 digits
            raise ConfigError(
                "this is not YAML: a number is too large here", where=f"{name}:{loader.line + 1}"
            ) from None
        if event is None:
            return
        where = f"{name}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError("anchors (&) and aliases (*) are refused: write it out", where=where)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise ConfigError("a second document ('---') starts here", where=where)
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
            tag = getattr(event, "tag", None)
            if tag is not None:
                raise ConfigError(f"tags (!) are refused, got {tag[:80]!r}", where=where)
            if nodes > MAX_NODES:
                raise ConfigError(f"more than {MAX_NODES:,} values are refused", where=where)
        if isinstance(event, yaml.ScalarEvent) and _SURROGATE.search(event.value):
            raise ConfigError(
                "half a character (a lone surrogate) stands in this text", where=where
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError(f"deeper than {MAX_DEPTH} levels is refused", where=where)
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _construct(node: Node, key: Key, places: dict[Key, str], name: str) -> Any:
    places.setdefault(key, f"{name}:{node.start_mark.line + 1}")
    if isinstance(node, MappingNode):
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            where = f"{name}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, ScalarNode):
                raise ConfigError("a key must be text", where=where)
            word = key_node.value
            if word in out:
                first = places[(*key, word)]
                raise ConfigError(f"key {word!r} stands here twice, first at {first}", where=where)
            places[(*key, word)] = where
            out[word] = _construct(value_node, (*key, word), places, name)
        return out
    if isinstance(node, SequenceNode):
        return [_construct(item, (*key, i), places, name) for i, item in enumerate(node.value)]
    return node.value if getattr(node, "style", None) else scalar(node.value)


# The core schema of YAML 1.2 (yaml.org/spec/1.2.2, sec. 10.3.2), and `100_000`, which a Python
# user writes.
_INTEGER = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


def scalar(text: str) -> Any:
    """What a word without quotes means: None, a bool, a number, or itself."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= 40:  # longer digits are no number that a setting could hold
        if _INTEGER.fullmatch(text):
            return int(text)
        if _REAL.fullmatch(text):
            return float(text)
    return text


class _Writer(yaml.SafeDumper):
    """Writes what `parse` reads back as the same values."""

    def ignore_aliases(self, data: Any) -> bool:
        """A value that stands in two places is written out twice: `parse` refuses aliases."""
        return True


def _write_text(writer: yaml.SafeDumper, text: str) -> Node:
    plain = isinstance(scalar(text), str) and re.fullmatch(r"[A-Za-z_][\w./ -]*", text)
    return writer.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if plain and text.strip() == text else '"'
    )


def _write_real(writer: yaml.SafeDumper, value: float) -> Node:
    text = repr(value)
    if text in ("inf", "-inf", "nan"):
        text = text.replace("inf", ".inf").replace("nan", ".nan")
    return writer.represent_scalar("tag:yaml.org,2002:float", text)


_Writer.add_representer(str, _write_text)
_Writer.add_representer(float, _write_real)
# Every word that this file reads as a number is written bare, and every text in quotes if needed;
# PyYAML's own 1.1 rules must not add quotes or tags to them.
_Writer.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("int", _INTEGER.pattern, None),
    ("float", rf"{_REAL.pattern}|-?\.inf|\.nan", None),
    ("bool", "true|false", list("tf")),
    ("null", "null", ["n"]),
):
    _Writer.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )


def write(value: Any) -> str:
    """Plain values as YAML text that `parse` reads back equal."""
    return yaml.dump(value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=100)
