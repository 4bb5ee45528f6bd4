"""Files that come with the package, by name: `quickstart`, `smnist_98k`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ckconv_sweep.errors import ConfigError, nearest_or_all

Kind = Literal["search_spaces", "trials"]
_WORDS: dict[Kind, str] = {"search_spaces": "space", "trials": "trial"}


def folder(kind: Kind) -> Path:
    """In a wheel beside this package, in a checkout beside the package's folder."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "bundled" / kind
    return installed if installed.is_dir() else package.parent / kind


def names(kind: Kind) -> list[str]:
    return sorted(path.stem for path in folder(kind).glob("*.yaml"))


def locate(kind: Kind, given: str) -> Path:
    """A file that was named by its path, or by the name of a bundled one.

    Raises:
        ConfigError: there is neither.
    """
    path = Path(given)
    if os.path.isfile(path):  # Path.is_file raises for a name of 300 letters
        return path
    looks_like_path = path.suffix in (".yaml", ".yml") or path.name != given
    if not looks_like_path and given in names(kind):
        return folder(kind) / f"{given}.yaml"
    if os.path.isdir(path):
        raise ConfigError("this is a folder, not a file", where=given)
    if looks_like_path:
        raise ConfigError(
            "no such file", where=given, hint=f"bundled {_WORDS[kind]}s: {', '.join(names(kind))}"
        )
    other: Kind = "trials" if kind == "search_spaces" else "search_spaces"
    if given in names(other):
        raise ConfigError(
            f"this is a bundled {_WORDS[other]}, not a {_WORDS[kind]}",
            where=given,
            hint=f"bundled {_WORDS[kind]}s: {', '.join(names(kind))}",
        )
    raise ConfigError(
        f"neither a file nor a bundled {_WORDS[kind]}",
        where=given,
        hint=nearest_or_all(given, names(kind)),
    )
