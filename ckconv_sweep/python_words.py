"""What somebody who calls a function reads and gives: messages with `top`, not `--top`, and values
as YAML holds them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ckconv_sweep.errors import CkconvSweepError, ConfigError

_ARGUMENTS = (
    *("address", "columns", "concurrency", "cpus-per-trial", "data-dir", "device", "goal"),
    *("gpu-hours", "warm-start"),
    *("gpus-per-trial", "hours", "name", "on-best", "on-finish", "orders", "out", "pack", "pareto"),
    *("places", "reason", "sampler", "scheduler", "set", "sort", "sweeps-dir", "top"),
    *("tracking-uri", "trial", "trials", "where"),
)
_FLAGS = (
    *("require-tracking", "allow-code-change", "allow-data-change"),
    *("insecure-cluster", "restart", "shared", "ship"),
)
_COMMANDS = "launch|resume|train"
"""Of the command line's, those that are functions too; others are typed in a terminal."""
_WORD = r"(?:'[^'\n]*'|(?!-)[^\s,;']*[^\s,;'.])"
_PLACES = re.compile(
    rf"ckconv-sweep (?P<function>{_COMMANDS}) (?P<arguments>{_WORD}(?: --[a-z-]+[ =]{_WORD})*)"
    r"|(?P<command>ckconv-sweep [^\n;]*)"
    rf"|(?<![\w-])--(?P<option>{'|'.join((*_ARGUMENTS, *_FLAGS))})(?![\w-])"
)
_NO_TEXT = re.compile(r"[\d.]+|[A-Z]+")
"""A number, or a word such as MORE that stands for one."""


def in_python(text: str) -> str:
    """A message of the command line, with options as arguments and commands as calls.

    >>> in_python("--top: give one of --sort, --where")
    'top: give one of sort, where'
    >>> in_python("resume with: ckconv-sweep resume digits --sweeps-dir /data/sweeps")
    'resume with: resume("digits", sweeps_dir="/data/sweeps")'
    >>> in_python("continue with --allow-data-change, or see ckconv-sweep doctor --json")
    'continue with allow_data_change=True, or see ckconv-sweep doctor --json'
    """
    return _PLACES.sub(_place, text)


def _place(found: re.Match[str]) -> str:
    if found["command"]:
        return found["command"]
    if option := found["option"]:
        return option.replace("-", "_") + ("=True" if option in _FLAGS else "")
    first, *words = shlex.split(found["arguments"].replace("=", " "))
    given = "".join(
        f", {name[2:].replace('-', '_')}={value if _NO_TEXT.fullmatch(value) else _quoted(value)}"
        for name, value in zip(words[::2], words[1::2], strict=True)
    )
    return f"{found['function']}({_quoted(first)}{given})"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


@contextlib.contextmanager
def errors_in_python() -> Iterator[None]:
    """Whatever is raised inside speaks Python. Also a decorator."""
    try:
        yield
    except CkconvSweepError as error:
        for part in ("message", "where", "hint"):
            if text := getattr(error, part):
                setattr(error, part, in_python(text))
        raise


def changes_of(set_: Mapping[str, Any] | None) -> list[str]:
    """As `--set` takes them: its values are YAML, a superset of JSON."""
    return [f"{key}={json.dumps(plain(value))}" for key, value in (set_ or {}).items()]


def file_or_tree(given: Any, kind: str) -> str | dict[str, Any]:
    """A space or a trial: the name of a file, or its settings. Raises ConfigError if it is none.

    Args:
        kind: what it is to be, for the message.
    """
    if isinstance(given, str | Path):
        return os.path.expanduser(given)
    tree = plain(given)
    if not isinstance(tree, dict):
        raise ConfigError(
            f"must be a file, a name or a dict, got a {type(given).__name__}", where=kind
        )
    return tree


def plain(value: Any) -> Any:
    """As YAML holds it: also of tuples, paths, NumPy's numbers and our own settings."""
    if type(value).__module__ == "numpy":
        value = value.tolist()
    match value:
        case None | bool():
            return value
        case int() | float() | str():
            return next(kind(value) for kind in (int, float, str) if isinstance(value, kind))
        case Path():
            return str(value)
        case BaseModel():
            return value.model_dump(mode="json")
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
    raise ConfigError(f"a setting cannot hold a {type(value).__name__}, got {value!r:.80}")
