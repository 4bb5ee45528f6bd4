"""Where sweeps are, and what one may be called: the name becomes a folder, so it must be one; what
`~` means in a path, and what names a model of MLflow's registry."""

from __future__ import annotations

import re
from pathlib import Path

from ckconv_sweep.errors import ConfigError

SWEEPS_DIR = Path("sweeps")
"""Where sweeps are, unless the user says otherwise."""

REGISTRY = "models:/"
"""With what the address of a model in MLflow's registry begins."""

# Reserved by Windows, where a shared folder may be looked at.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(10))}


def check_sweep_name(name: str) -> str:
    """The name itself.

    Raises:
        ConfigError: it holds more than letters, digits, `.`, `_`, `-`, begins with none of
            letter and digit, is over 80 characters, or names a device.
    """
    if (
        re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name)
        and name.split(".")[0].lower() not in _DEVICES
        and not name.endswith(".")
    ):
        return name
    shown = name if len(name) <= 90 else name[:87] + "..."
    raise ConfigError(
        f"{shown!r} cannot be the name of a sweep",
        where="--name",
        hint="use letters, digits, '.', '_' and '-', at most 80, a letter or digit first "
        "(the folder that holds sweeps is --sweeps-dir)",
    )


def is_registered_name(given: str | Path) -> bool:
    """Whether it names a model of MLflow's registry, and not a file or folder."""
    return str(given).startswith(REGISTRY)


def expanded(path: Path) -> Path:
    """The path with a home folder in the place of `~`.

    Raises:
        ConfigError: there is none: a container's user may have no entry in the system's list.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise ConfigError(
            "no home folder is known in the place of ~",
            where=str(path),
            hint="set HOME, or write the path in full",
        ) from None
