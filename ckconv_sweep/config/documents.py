"""YAML text in, plain values and the place of each of them out; the only file that reads YAML.

Numbers follow YAML 1.2 (`1e-3` is a number, `no` and `12:30` are text). Aliases, duplicate keys,
tags, control codes and files over 256 KiB are refused: a settings file needs none of them, and each
has turned somebody's file into something else than it seemed to say.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import Node

from ckconv_sweep.errors import ConfigError

MAX_BYTES = 2**18
"""PyYAML reads about a megabyte a second: this much of it takes a quarter of one."""
MAX_DEPTH = 50
MAX_VALUES = 10_000
MAX_CHARACTERS = 4_096
"""Of one key or value. The longest that has a use is a path, and it stands in messages."""

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


def read(path: Path, name: str = "") -> Document:
    """Read a file; `name` stands in messages, if not its path. Of a pipe no more is read than a
    settings file may have.

    Raises:
        ConfigError: it is missing, no YAML, or uses what is refused here.
    """
    name = name or str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError("no such file", where=name) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=name) from None
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"a settings file of more than {MAX_BYTES:,} bytes is refused", where=name
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"must be UTF-8 text, byte {error.start} is not", where=f"{name}:{line}"
        ) from None
    return parse(text, name)


def parse(text: str, name: str, *, max_values: int = MAX_VALUES) -> Document:
    """Read YAML text; `name` stands in messages. Raises as `read` does."""
    try:
        return _Parser(text, name, max_values).document()
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


# Control codes, which a terminal would obey, and halves of characters. A line break and a tab may
# stand in a text.
_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class _Parser:
    """Values straight from PyYAML's events, one pass: what is refused is refused where it begins,
    before anything is made of it. The limit on the depth is also that of the recursion."""

    def __init__(self, text: str, name: str, max_values: int) -> None:
        self._loader: Any = yaml.SafeLoader(text)
        self._name, self._max_values = name, max_values
        self._depth = self._values = self._documents = 0
        self._places: dict[Key, str] = {}

    def document(self) -> Document:
        """The only document of the text, None where there is none."""
        value = None
        while (event := self._next()) is not None:
            if isinstance(event, yaml.NodeEvent):
                value = self._value(event, ())
        return Document(self._name, value, self._places)

    def _value(self, event: Any, key: Key) -> Any:
        self._places.setdefault(key, self._place(event))
        if isinstance(event, yaml.MappingStartEvent):
            out: dict[str, Any] = {}
            while not isinstance(event := self._next(), yaml.MappingEndEvent):
                where = self._place(event)
                if not isinstance(event, yaml.ScalarEvent):
                    raise ConfigError("a key must be text", where=where)
                word = event.value
                if word in out:
                    first = self._places[(*key, word)]
                    raise ConfigError(
                        f"key {_short(word)} is given twice, first at {first}", where=where
                    )
                self._places[(*key, word)] = where
                out[word] = self._value(self._next(), (*key, word))
            return out
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := self._next(), yaml.SequenceEndEvent):
                items.append(self._value(event, (*key, len(items))))
            return items
        return event.value if event.style else scalar(event.value)

    def _place(self, event: Any) -> str:
        return f"{self._name}:{event.start_mark.line + 1 if event.start_mark else 1}"

    def _next(self) -> Any:
        """The next event, None at the end.

        Raises:
            ConfigError: it is something that a settings file does not need.
        """
        loader = self._loader
        try:
            event = loader.get_event() if loader.check_event() else None
        except (ValueError, OverflowError):  # "\UFFFFFFFF", or %YAML with 5,000 digits
            raise ConfigError(
                "this is not YAML: a number is too large here",
                where=f"{self._name}:{loader.line + 1}",
            ) from None
        if event is None:
            return None
        where = self._place(event)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError("anchors (&) and aliases (*) are refused: write it out", where=where)
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise ConfigError("a second document ('---') starts here", where=where)
        if isinstance(event, yaml.NodeEvent):
            self._values += 1
            tag = getattr(event, "tag", None)
            if tag is not None:
                raise ConfigError(f"tags (!) are refused, got {_short(tag)}", where=where)
            if self._values > self._max_values:
                raise ConfigError(f"more than {self._max_values:,} values are refused", where=where)
        if isinstance(event, yaml.ScalarEvent):
            if found := _NOT_TEXT.search(event.value):
                raise ConfigError(
                    f"the character U+{ord(found[0]):04X} is refused in a text", where=where
                )
            if len(event.value) > MAX_CHARACTERS:
                raise ConfigError(
                    f"a text of more than {MAX_CHARACTERS:,} characters is refused", where=where
                )
        if isinstance(event, yaml.CollectionStartEvent):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise ConfigError(f"deeper than {MAX_DEPTH} levels is refused", where=where)
        if isinstance(event, yaml.CollectionEndEvent):
            self._depth -= 1
        return event


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


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
