"""Under which versions a sweep is run, and how they differ between its sessions.

The study's note `versions` holds a list, in order: `{"session": 1, "torch": "2.13.0", ...}`, with a
new entry only where a session's versions differ from the last one's. `code` is a hash of the source
that the numbers of a trial come from.
"""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import ckconv_sweep
from ckconv_sweep.errors import ConfigError

if TYPE_CHECKING:  # Optuna, which a worker does not need
    from ckconv_sweep.record.study import Study

FORMAT = 1
"""Of a study, as its note `format`; another number where a driver of the old format could not go on
with a study of the new one, or the other way round."""
NOTE = "versions"
CODE = "code"
PACKAGES = ("torch", "optuna", "ray", "mlflow", "numpy")
REFUSED = ("ckconv-sweep", "torch", "optuna", "ray", "numpy")
"""Of these another major version is not gone on with, unless the user says so."""


OF_WORKERS = ("ckconv-sweep", "python", "torch", "numpy", CODE)
"""What a trial's numbers come from: a worker must have those of the driver."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One version that is not what it was."""

    name: str
    before: str
    now: str

    @property
    def major(self) -> bool:
        """Whether the number changed that says that things may break."""
        return self.name in REFUSED and _major(self.before) != _major(self.now)

    @property
    def label(self) -> str:
        return "the code that trains" if self.name == CODE else self.name

    def __str__(self) -> str:
        return f"{self.label} was {self.before}, is {self.now}"


@functools.cache
def versions() -> Mapping[str, str]:
    """What runs here. Nothing is imported for it."""
    found = {"ckconv-sweep": ckconv_sweep.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return MappingProxyType(found | {CODE: _code(Path(ckconv_sweep.__file__).parent)})


def code() -> str:
    """The version and the digest of the source that numbers come from: `0.1.0 3f0c...`."""
    here = versions()
    return f"{here['ckconv-sweep']} {here[CODE]}"


def of_worker() -> dict[str, str]:
    """What must be the same in every process that trains for a sweep. Of Python the first two
    numbers; without the build of a library (`+cpu`), which differs between a head and its nodes."""
    here = versions()
    found = {name: here[name].partition("+")[0] for name in OF_WORKERS}
    return found | {"python": ".".join(platform.python_version_tuple()[:2])}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """What differs, in the order of `now`."""
    return [
        Difference(name=name, before=before[name], now=version)
        for name, version in now.items()
        if name != "session" and name in before and before[name] != version
    ]


def noted(study: Study) -> list[Mapping[str, Any]]:
    """The versions of each session that changed them; empty for a study that does not say."""
    return list(study.note(NOTE) or [])


def check(study: Study, *, allow_code_change: bool) -> list[str]:
    """A line for each version that is not that of the last session.

    Raises:
        ConfigError: one of them is of another major version, and that was not allowed; or the study
            has another format, which can be read but not gone on with.
    """
    if study.note("format") != FORMAT:
        raise ConfigError(
            "an unreleased version of ckconv-sweep began this sweep, and recorded less than this "
            "one needs to go on",
            where=study.folder.name,
            hint="table, report and best read it; to train more, launch "
            f"{study.folder.space} with another --name",
        )
    known = noted(study)
    if not known:  # it was made, and never run
        return []
    changed = differences(known[-1], versions())
    major = [change for change in changed if change.major]
    if major and not allow_code_change:
        raise ConfigError(
            "another major version than the sweep was run with: " + "; ".join(map(str, major)),
            where=study.folder.name,
            hint="use the old version, or accept a mix of both: --allow-code-change",
        )
    return [f"{change}; results of new epochs may differ" for change in changed]


def note(study: Study, session: int) -> None:
    """Write down what this session runs with, where that is new."""
    now, said = versions(), noted(study)
    # One that was killed before its first trial had the same number.
    kept = [entry for entry in said if entry["session"] < session]
    if not kept or differences(kept[-1], now):
        kept.append({"session": session, **now})
    if kept != said:
        study.set_note(NOTE, kept)


def _major(version: str) -> str:
    """`2` of `2.13.0`; `0.1` of `0.1.0`, because before 1.0 the second number may break things."""
    first, _, rest = version.partition(".")
    return f"0.{rest.partition('.')[0]}" if first == "0" else first


@functools.cache
def _code(package: Path) -> str:
    """16 hexadecimal digits of the source of data, models and training."""
    digest = hashlib.sha256()
    for folder in ("data", "models", "training"):
        for path in sorted((package / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
