"""What a check looks at, and what it says."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.record.blobs import Place
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trials import TrialRecord

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line. `todo` is the command, or in words what to do; empty where nothing is."""

    check: str = field(default="", kw_only=True)
    """Which one found it."""
    level: Level
    message: str
    todo: str = ""
    damaged: bool = field(default=False, kw_only=True)
    """Whether something on disk is not what was written."""


ok = partial(Finding, "ok")
warning = partial(Finding, "warning")
problem = partial(Finding, "problem")


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What the checks look at. Without a readable study nothing is known of its trials."""

    folder: SweepFolder
    tracking_uri: str | None
    runs: bool
    records: list[TrialRecord] = field(default_factory=list)
    notes: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[int, Trial] = field(default_factory=dict)
    """The settings of each trial, by number."""
    space: Space | None = None
    finished: bool = False
    data_dir: Path | None = None
    """Where datasets lie, if that was given."""

    def record(self, number: int) -> TrialRecord | None:
        return self.records[number] if number < len(self.records) else None

    def short(self, path: Place) -> str:
        return str(path).removeprefix(f"{self.folder.root}/")


def quoted(path: Path) -> str:
    """For a shell."""
    return shlex.quote(str(path))


def count(amount: int, noun: str, many: str = "") -> str:
    """`1 trial`, `2 trials`."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {many or noun + 's'}"


def size(amount: float) -> str:
    """So many bytes, in words."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
