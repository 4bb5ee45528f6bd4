from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from ckconv_sweep.config import documents
from ckconv_sweep.config.read import parse_space, read_trial
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError

# HYPOTHESIS_EXAMPLES=5000 searches longer than `make test` has time for.
examples = settings(
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

SMALL = {
    "data": {"name": "smnist"},
    "model": {"hidden_channels": 8},
    "training": {"epochs": 4},
}

T = TypeVar("T")
Write = Callable[[str, str], Path]
MakeTrial = Callable[..., Trial]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def make_trial(write: Write) -> MakeTrial:
    """A small trial with `blocks` of its file replaced, read with `--set` changes."""

    def make(*changes: str, **blocks: Any) -> Trial:
        return read_trial(str(write("trial.yaml", documents.write(SMALL | blocks))), changes)

    return make


def outcome(call: Callable[[], T]) -> T | ConfigError:
    """What a call gives, or the one error that it may raise."""
    try:
        return call()
    except ConfigError as refusal:
        return refusal


def space_text(search: str, *, base: str = "", rest: str = "budget: {trials: 3}") -> str:
    """A small space. What is searched starts in line 7; `base` is one more line of its trial."""
    return (
        "trial:\n"
        "  data: {name: smnist}\n"
        "  model: {hidden_channels: 8}\n"
        "  training: {epochs: 4}\n"
        f"  {base}\n"
        "search:\n" + "".join(f"  {line}\n" for line in search.splitlines()) + f"{rest}\n"
    )


def space_of(search: str, *, base: str = "", rest: str = "budget: {trials: 3}") -> Space:
    return parse_space(space_text(search, base=base, rest=rest), "space.yaml")
