"""What files are written with, heard call by call, to end or to fail at each of them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def hear_steps(monkeypatch: pytest.MonkeyPatch, hear: Callable[[str], None]) -> None:
    """`hear` is told of each call to the operating system before it is made, and once more when
    half of a write is made."""
    real = {name: getattr(os, name) for name in ("open", "fsync", "close", "fdopen")}
    rename, unlink = Path.rename, Path.unlink

    def heard(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            hear(name)
            return real[name](*args, **options)

        return call

    class HalfWritten(io.FileIO):
        def write(self, content: Any) -> int:
            hear("write")
            half = len(content) // 2
            super().write(content[:half])
            hear("write the rest")
            return half + (super().write(content[half:]) or 0)

    def fdopen(descriptor: int, mode: str) -> Any:
        hear("fdopen")
        return HalfWritten(descriptor, mode)

    def renamed(path: Path, target: Path) -> Path:
        hear("rename")
        return rename(path, target)

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        if not path.name.startswith(".tmp-"):  # cleaning up after a failure is not a step
            hear("unlink")
        unlink(path, missing_ok)

    for name in ("open", "fsync", "close"):
        monkeypatch.setattr(os, name, heard(name))
    monkeypatch.setattr(os, "fdopen", fdopen)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(Path, "unlink", unlinked)
