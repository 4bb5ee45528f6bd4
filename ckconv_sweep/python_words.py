"""Messages for somebody who calls a function: `top`, not `--top`."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator

from ckconv_sweep.errors import CkconvSweepError

_ARGUMENTS = (
    *("address", "columns", "concurrency", "cpus-per-trial", "data-dir", "device", "goal"),
    *("gpu-hours", "warm-start"),
    *("gpus-per-trial", "hours", "name", "on-best", "on-finish", "orders", "out", "pack", "pareto"),
    *(
        "places",
        "sampler",
        "scheduler",
        "set",
        "sort",
        "sweeps-dir",
        "top",
        "tracking-uri",
        "trials",
        "where",
    ),
)
_FLAGS = (
    *("require-tracking", "allow-code-change", "allow-data-change"),
    *("insecure-cluster", "restart", "shared"),
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
