"""Files that come with the package, by name: `quickstart`, `smnist_98k`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ckconv_sweep.errors import ConfigError, nearest_or_all

Kind = Literal["search_spaces", "trials"]
_WORDS: dict[Kind, str] = {"search_spaces": "space", "trials": "trial"}
STANDARD_INPUT = Path("/dev/stdin")


def folder(kind: Kind) -> Path:
    """In a wheel beside this package, in a checkout beside the package's folder."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "bundled" / kind
    return installed if installed.is_dir() else package.parent / kind


def names(kind: Kind) -> list[str]:
    return sorted(path.stem for path in folder(kind).glob("*.yaml"))


def locate(given: str, *kinds: Kind) -> Path:
    """A file that was named by its path, or by the name of a bundled one of these kinds. `-` is
    standard input. A pipe is a file.

    Raises:
        ConfigError: there is neither.
    """
    path = STANDARD_INPUT if given == "-" else Path(given)
    # Path.is_file raises for a name of 300 letters.
    if path == STANDARD_INPUT or (os.path.exists(path) and not os.path.isdir(path)):
        return path
    looks_like_path = path.suffix in (".yaml", ".yml") or path.name != given
    for kind in kinds:
        if not looks_like_path and given in names(kind):
            return folder(kind) / f"{given}.yaml"
    if os.path.isdir(path):
        raise ConfigError("this is a folder, not a file", where=given)
    wanted = " or ".join(_WORDS[kind] for kind in kinds)
    listed = "; ".join(f"bundled {_WORDS[kind]}s: {', '.join(names(kind))}" for kind in kinds)
    if looks_like_path:
        raise ConfigError("no such file", where=given, hint=listed)
    for other in _WORDS.keys() - set(kinds):
        if given in names(other):
            raise ConfigError(
                f"this is a bundled {_WORDS[other]}, not a {wanted}", where=given, hint=listed
            )
    raise ConfigError(
        f"neither a file nor a bundled {wanted}",
        where=given,
        hint=nearest_or_all(given, [name for kind in kinds for name in names(kind)]),
    )


def is_stream(path: Path) -> bool:
    """Whether a file has no name and no folder of its own: standard input, or a pipe of the shell
    (`<(...)`)."""
    return path.parts[:2] == ("/", "dev")


def shown(given: str | Path) -> str:
    """What a file is called in messages."""
    return "standard input" if str(given) in ("-", str(STANDARD_INPUT)) else str(given)
